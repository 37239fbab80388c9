"""`emu show`: the state of a running network, in tables."""

from collections.abc import Callable
from typing import Any

import click

from manystack.commands.common import Group, echo_json, echo_lines, network_options, not_in_this_version
from manystack.control.client import Client, find
from manystack.text import NOTHING, bytes_text, count_text, share_text, table, time_text


@click.group(cls=Group)
def show() -> None:
    """Show the state of a running network, or of one node."""


def verb(name: str, help_text: str) -> Callable[[Callable[[Any], list[str]]], click.Command]:
    """Make a verb of `emu show` from the function that turns the operation's answer into lines."""

    def make(lines: Callable[[Any], list[str]]) -> click.Command:
        @show.command(name, help=help_text)
        @click.argument("node", required=False)
        @network_options
        def command(node: str | None, name: str | None, as_json: bool) -> None:
            with Client(find(name)) as client:
                answer = client.call(f"show_{command.name}", node=node)
            if as_json:
                echo_json(answer)
            else:
                echo_lines(lines(answer))

        return command

    return make


@verb("nodes", "Nodes with their interfaces, addresses and peers.")
def nodes(answer: Any) -> list[str]:
    """Return a line for each interface."""
    rows = []
    for node in answer:
        if not node["interfaces"]:
            rows.append([node["name"], node["kind"], NOTHING, NOTHING, NOTHING, NOTHING, NOTHING])
        for interface in node["interfaces"]:
            rows.append(
                [
                    node["name"],
                    node["kind"],
                    interface["name"].removeprefix(f"{node['name']}."),
                    ", ".join(interface["addresses"]) or NOTHING,
                    interface["mac"] or NOTHING,
                    interface["peer"] or NOTHING,
                    "up" if interface["up"] else "down",
                ]
            )
    return table(["NODE", "KIND", "INTERFACE", "ADDRESS", "MAC", "PEER", "STATE"], rows, left=7)


@verb("links", "Links with their parameters and counters, a line for each direction.")
def links(answer: Any) -> list[str]:
    """Return a line for each direction of each link."""
    rows = []
    for link in answer:
        for direction, (source, target) in (("forward", link["ends"]), ("reverse", reversed(link["ends"]))):
            pipe = link[direction]
            dropped = sum(
                pipe[f"{kind}_packets"]
                for kind in ("queue_drop", "early_drop", "loss", "down_drop", "loop_drop")
            )
            settings = pipe["settings"]
            rows.append(
                [
                    f"{source} → {target}",
                    "up" if link["up"] else "down",
                    setting_text(settings.pop("bandwidth", NOTHING)),
                    settings.pop("delay", NOTHING),
                    setting_text(settings.pop("loss", NOTHING)),
                    queue_text(pipe, settings.pop("queue", None)),
                    ", ".join(f"{key} {setting_text(value)}" for key, value in settings.items()) or NOTHING,
                    count_text(pipe["sent_packets"]),
                    count_text(pipe["delivered_packets"]),
                    f"{dropped:,} ({share_text(dropped, pipe['sent_packets'])})" if dropped else "0",
                ]
            )
    headers = ["LINK", "STATE", "BANDWIDTH", "DELAY", "LOSS", "QUEUE", "BESIDE", "SENT", "DELIVERED"]
    return table([*headers, "DROPPED"], rows, left=2)


@verb("routes", "Route tables.")
def routes(answer: Any) -> list[str]:
    """Return a line for each route."""
    rows = [
        [node, route["prefix"], route["gateway"] or NOTHING, route["interface"] or NOTHING, route["kind"]]
        for node, entries in answer.items()
        for route in entries
    ]
    return table(["NODE", "PREFIX", "VIA", "INTERFACE", "KIND"], rows, left=5)


@verb("neighbors", "Neighbour (ARP) tables, and the MAC tables of switches.")
def neighbors(answer: Any) -> list[str]:
    """Return a line for each neighbour or learnt address."""
    rows = []
    for node, entries in answer.items():
        for entry in entries:
            state = entry["state"] if "state" in entry else f"seen at {time_text(entry['seen_ns'])}"
            rows.append(
                [node, entry.get("address", NOTHING), entry["mac"] or NOTHING, entry["interface"], state]
            )
    return table(["NODE", "ADDRESS", "MAC", "INTERFACE", "STATE"], rows, left=5)


@verb("stats", "Counters of interfaces, and drops by reason.")
def stats(answer: Any) -> list[str]:
    """Return a line for each interface, then one for each node that dropped packets."""
    rows = [
        [
            interface["name"],
            count_text(interface["rx_packets"]),
            bytes_text(interface["rx_bytes"]),
            count_text(interface["tx_packets"]),
            bytes_text(interface["tx_bytes"]),
        ]
        for node in answer
        for interface in node["interfaces"]
    ]
    lines = table(["INTERFACE", "RX PACKETS", "RX BYTES", "TX PACKETS", "TX BYTES"], rows)
    drops = [
        [node["node"], reason.replace("_", " "), f"{count:,}"]
        for node in answer
        for reason, count in node["drops"].items()
    ]
    if drops:
        lines += ["", *table(["NODE", "DROPPED BECAUSE", "PACKETS"], drops, left=2)]
    return lines


@show.command()
@click.argument("node", required=False)
@network_options
def daemons(node: str | None, name: str | None, as_json: bool) -> None:
    """Routing daemons (not in this version)."""
    not_in_this_version("emu show daemons")


def setting_text(value: Any) -> str:
    """Return a setting as it stands in a topology, a mapping within parentheses."""
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {setting_text(part)}' for key, part in value.items())})"
    return str(value)


def queue_text(pipe: Any, setting: Any) -> str:
    """Return a queue's limits, and its discipline where that is not the usual one."""
    parts = []
    if isinstance(setting, dict):
        parts = [setting_text(value) for key, value in setting.items() if key == "discipline"]
        parts += [
            f"{key} {setting_text(value)}"
            for key, value in setting.items()
            if key not in ("discipline", "limit")
        ]
    if pipe["queue_limit_packets"] is not None:
        parts.append(f"{pipe['queue_limit_packets']} packets")
    if pipe["queue_limit_bytes"] is not None:
        parts.append(bytes_text(pipe["queue_limit_bytes"]))
    return ", ".join(parts) or NOTHING
