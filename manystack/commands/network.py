"""`emu ps`, `emu stop`, `emu watch`: running networks as a whole."""

import dataclasses
import json
from typing import Any

import click

from manystack.commands.common import echo_json, echo_lines, network_options
from manystack.control.client import Client, find
from manystack.errors import ManystackError
from manystack.host.runtime import running
from manystack.text import NOTHING, clock_text, count_text, table

UNKNOWN = ("time", "seed", "now_ns", "wall_ns", "nodes", "links")


@click.command()
@network_options
def ps(name: str | None, as_json: bool) -> None:
    """List running networks; of one whose program is busy, only its name and process are known."""
    networks: list[dict[str, Any]] = []
    for network in running():
        if name not in (None, network.name):
            continue
        try:
            with Client(network) as client:
                networks.append(client.about)
        except ManystackError as error:
            if network in running():
                click.echo(f"warning: {error}", err=True)
                networks.append({"name": network.name, "pid": network.pid} | dict.fromkeys(UNKNOWN))
    if as_json:
        echo_json(networks)
        return
    rows = [
        [
            network["name"],
            str(network["pid"]),
            network["time"] or NOTHING,
            NOTHING if network["now_ns"] is None else clock_text(network["now_ns"]),
            count_text(network["nodes"]),
            count_text(network["links"]),
        ]
        for network in networks
    ]
    if rows:
        echo_lines(table(["NAME", "PID", "TIME", "CLOCK", "NODES", "LINKS"], rows))
    else:
        click.echo("no network is running", err=True)


@click.command()
@network_options
def stop(name: str | None, as_json: bool) -> None:
    """End a running network, and wait until nothing is left of it."""
    network = find(name)
    with Client(network) as client:
        client.call("stop")
        client.wait_until_gone()
    if as_json:
        echo_json(dataclasses.asdict(network))


@click.command()
@network_options
def watch(name: str | None, as_json: bool) -> None:
    """Print events as they happen, a line each, until Ctrl-C or the network's end."""

    def show(event: Any) -> None:
        if as_json:
            click.echo(json.dumps(event, ensure_ascii=False))
        else:
            moment = clock_text(event["time_ns"])
            click.echo(f"{moment:>12}  {event['kind']:<16} {event['subject']}  {event['detail']}".rstrip())

    with Client(find(name)) as client:
        try:
            client.call("watch", on_item=show)
        except (KeyboardInterrupt, ManystackError):
            return
