"""`emu link` and `emu route`: changes to a running network."""

from pathlib import Path

import click

from manystack.commands.common import Group, echo_json, network_options
from manystack.control.client import Client, find
from manystack.errors import UsageError
from manystack.topology.link.traces import FILE_KEYS


@click.group(cls=Group)
def link() -> None:
    """Change a link, cut it, or mend it."""


@link.command("set")
@click.argument("a", metavar="A.IFACE")
@click.argument("b", metavar="B.IFACE")
@click.argument("settings", metavar="KEY=VALUE…", nargs=-1, required=True)
@network_options
def set_(a: str, b: str, settings: tuple[str, ...], name: str | None, as_json: bool) -> None:
    """Change parameters from the next packet on: delay=20ms loss=1% bandwidth=10Mbit/s queue=50packets.

    Both directions, or one: forward.delay=20ms (from A to B), reverse.delay=20ms. A dot leads into a mapping:
    jitter.correlation=25%, queue.discipline=codel. What is not named stays.
    """
    both: dict[str, str] = {}
    directions: dict[str, dict[str, str]] = {"forward": {}, "reverse": {}}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not value:
            raise UsageError(f"{setting!r} is not KEY=VALUE; write for example delay=20ms")
        direction, dot, own_key = key.partition(".")
        is_own = dot and direction in directions
        place, name_there = (directions[direction], own_key) if is_own else (both, key)
        if name_there in place:
            raise UsageError(f"{key} is there twice: {place[name_there]} and {value}")
        place[name_there] = _with_whole_path(key, value)
    with Client(find(name)) as client:
        result = client.call(
            "link_set", a=a, b=b, both=both, forward=directions["forward"], reverse=directions["reverse"]
        )
    if as_json:
        echo_json(result)


def _with_whole_path(key: str, value: str) -> str:
    """Return a file's name as the network, which runs elsewhere, finds it."""
    is_file = key.rpartition(".")[2] in FILE_KEYS and not value.startswith("[")
    return str(Path(value).absolute()) if is_file else value


@link.command()
@click.argument("a", metavar="A.IFACE")
@click.argument("b", metavar="B.IFACE")
@network_options
def down(a: str, b: str, name: str | None, as_json: bool) -> None:
    """Cut a link: what is in flight is lost; a real host behind it sees its cable unplugged."""
    with Client(find(name)) as client:
        result = client.call("link_down", a=a, b=b)
    if as_json:
        echo_json(result)


@link.command()
@click.argument("a", metavar="A.IFACE")
@click.argument("b", metavar="B.IFACE")
@network_options
def up(a: str, b: str, name: str | None, as_json: bool) -> None:
    """Mend a link."""
    with Client(find(name)) as client:
        result = client.call("link_up", a=a, b=b)
    if as_json:
        echo_json(result)


@click.group(cls=Group)
def route() -> None:
    """Change a node's route table."""


@route.command("add")
@click.argument("node")
@click.argument("prefix")
@click.argument("via", metavar="[via ADDRESS]", nargs=-1)
@network_options
def add(node: str, prefix: str, via: tuple[str, ...], name: str | None, as_json: bool) -> None:
    """Add the route to PREFIX (default: all), or replace it. Without a gateway: unreachable."""
    if via and (len(via) != 2 or via[0] != "via"):
        raise UsageError(f"{' '.join(via)!r} is not `via ADDRESS`: write for example via 10.0.0.1")
    with Client(find(name)) as client:
        client.call("route_add", node=node, prefix=prefix, via=via[1] if via else None)
        if as_json:
            echo_json(client.call("show_routes", node=node))


@route.command("del")
@click.argument("node")
@click.argument("prefix")
@network_options
def delete(node: str, prefix: str, name: str | None, as_json: bool) -> None:
    """Remove the route to exactly PREFIX."""
    with Client(find(name)) as client:
        client.call("route_delete", node=node, prefix=prefix)
        if as_json:
            echo_json(client.call("show_routes", node=node))
