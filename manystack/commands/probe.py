"""`emu ping` and `emu traceroute`, with the output that ping(8) and traceroute(8) have."""

import math
from typing import Any

import click

from manystack.commands.common import echo_json, fail_quietly, network_options
from manystack.control.client import Client, find
from manystack.ping import DEFAULT_PING, MOST_REQUESTS
from manystack.text import share_text

VIRTUAL_COUNT = 4
"""Requests of a ping without -c in virtual time, where "until Ctrl-C" means nothing."""

ICMP_HEADER_BYTES = 8
UNREACHABLE_MARKS = {0: " !N", 1: " !H", 2: " !P", 4: " !F", 13: " !X"}


@click.command()
@click.argument("node")
@click.argument("address")
@click.option("-c", "--count", type=click.IntRange(1, MOST_REQUESTS), help="Requests; default: until Ctrl-C.")
@click.option(
    "-i", "--interval", default=DEFAULT_PING.interval, show_default=True, help="Between requests: 100ms, 1s."
)
@click.option(
    "-s", "--size", default=DEFAULT_PING.size, show_default=True, help="Bytes of data in a request."
)
@click.option("-t", "--ttl", type=click.IntRange(1, 255), default=DEFAULT_PING.ttl, show_default=True)
@click.option(
    "-W",
    "--timeout",
    default=DEFAULT_PING.timeout,
    show_default=True,
    help="For the answer to the last request.",
)
@network_options
def ping(
    node: str,
    address: str,
    count: int | None,
    name: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Ping ADDRESS (or a node) from the virtual NODE. Exit code 1 if nothing answered.

    In virtual time a ping without -c sends 4 requests.
    """
    shown = Shown(node)
    with Client(find(name)) as client:
        if count is None:
            count = VIRTUAL_COUNT if client.about["time"] == "virtual" else 0
        result = client.call(
            "ping",
            on_item=None if as_json else shown.item,
            node=node,
            destination=address,
            count=count,
            **settings,
        )
    if as_json:
        echo_json(result)
    else:
        print_statistics(result)
    if not result["received_packets"]:
        fail_quietly()


class Shown:
    """Prints what comes while a ping goes on."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._data_bytes = 0

    def item(self, item: Any) -> None:
        """Print the first line, or an answer."""
        if "meaning" not in item:
            self._data_bytes = item["size_bytes"]
            click.echo(f"PING {item['destination']} from {self._node}: {self._data_bytes} bytes of data.")
            return
        number = item["sequence"] + 1  # as ping(8) counts
        if item["icmp_type"] == 0:
            click.echo(
                f"{self._data_bytes + ICMP_HEADER_BYTES} bytes from {item['responder']}: icmp_seq={number} "
                f"ttl={item['ttl']} time={milliseconds(item['rtt_ns'])} ms"
            )
        else:
            click.echo(f"From {item['responder']} icmp_seq={number} {item['meaning']}")


def print_statistics(result: Any) -> None:
    """Print the last lines of a ping."""
    sent, received = result["sent_packets"], result["received_packets"]
    click.echo(f"\n--- {result['destination']} ping statistics ---")
    click.echo(
        f"{sent} packets transmitted, {received} received, {share_text(sent - received, sent)} packet loss, "
        f"time {result['elapsed_ns'] // 1_000_000}ms"
    )
    rtts = [reply["rtt_ns"] for reply in result["replies"] if reply["icmp_type"] == 0]
    if rtts:
        mean = sum(rtts) / len(rtts)
        deviation = math.sqrt(sum((rtt - mean) ** 2 for rtt in rtts) / len(rtts))
        figures = "/".join(milliseconds(value) for value in (min(rtts), mean, max(rtts), deviation))
        click.echo(f"rtt min/avg/max/mdev = {figures} ms")


@click.command()
@click.argument("node")
@click.argument("address")
@click.option("-m", "--max-hops", type=click.IntRange(1, 255), default=30, show_default=True)
@click.option(
    "-q", "--probes", type=click.IntRange(1, 10), default=3, show_default=True, help="For each hop."
)
@click.option("-w", "--timeout", default="5s", show_default=True, help="For the answer to the last probe.")
@network_options
def traceroute(
    node: str, address: str, max_hops: int, probes: int, timeout: str, name: str | None, as_json: bool
) -> None:
    """Print the routers between the virtual NODE and ADDRESS. Exit code 1 if ADDRESS did not answer."""
    with Client(find(name)) as client:
        result = client.call(
            "traceroute", node=node, destination=address, max_hops=max_hops, probes=probes, timeout=timeout
        )
    if as_json:
        echo_json(result)
    else:
        click.echo(f"traceroute to {address} ({result['destination']}) from {node}, {max_hops} hops max")
        for hop in result["hops"]:
            click.echo(hop_line(hop))
    last = result["hops"][-1]["probes"] if result["hops"] else []
    if not any(probe is not None and probe["icmp_type"] == 0 for probe in last):
        fail_quietly()


def hop_line(hop: Any) -> str:
    """Return one hop as traceroute -n prints it: each address once, then the times of its answers."""
    line = f"{hop['ttl']:2} "
    responder = None
    for probe in hop["probes"]:
        if probe is None:
            line += " *"
            continue
        if probe["responder"] != responder:
            responder = probe["responder"]
            line += f" {responder}"
        line += f"  {milliseconds(probe['rtt_ns'])} ms"
        if probe["icmp_type"] == 3:
            line += UNREACHABLE_MARKS.get(probe["icmp_code"], f" !<{probe['icmp_code']}>")
    return line


def milliseconds(ns: float) -> str:
    """Return ns as ms with three decimals."""
    return f"{ns / 1e6:.3f}"
