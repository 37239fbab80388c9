"""`emu ps`, `emu stop`, `emu watch`: running networks as a whole."""

import dataclasses
import json
from typing import Any

import click

from manystack.client import Client, find
from manystack.commands.common import echo_json, echo_lines, network_options
from manystack.errors import ManystackError
from manystack.runtime import running
from manystack.text import clock_text, table


@click.command()
@network_options
def ps(name: str | None, as_json: bool) -> None:
    """List running networks."""
    networks = []
    for network in running():
        if name not in (None, network.name):
            continue
        try:
            with Client(network) as client:
                networks.append(client.call("network"))
        except ManystackError:
            continue  # it ended just now
    if as_json:
        echo_json(networks)
        return
    rows = [
        [
            network["name"],
            str(network["pid"]),
            network["time"],
            clock_text(network["now_ns"]),
            str(network["nodes"]),
            str(network["links"]),
        ]
        for network in networks
    ]
    if rows:
        echo_lines(table(["NAME", "PID", "TIME", "CLOCK", "NODES", "LINKS"], rows))


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
        if event is None:
            return
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
