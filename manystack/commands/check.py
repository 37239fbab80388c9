"""`emu check`: every mistake in a topology."""

import sys
from pathlib import Path

import click

from manystack.commands.common import Command, echo_json
from manystack.topology import Topology, TopologyError
from manystack.topology.files import encode


def load(file: Path, as_json: bool) -> Topology:
    """Return the topology in a file; if it has mistakes, print them, one a line, and end with exit code 2."""
    try:
        return Topology.load(file)
    except TopologyError as error:
        for mistake in error.errors:
            click.echo(f"{file}: {mistake}", err=True)
        if as_json:
            errors = [{"place": mistake.place, "message": mistake.message} for mistake in error.errors]
            echo_json({"file": str(file), "valid": False, "errors": errors})
        sys.exit(error.exit_code)


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Print the topology with all defaults written out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(file: Path, verbose: bool, as_json: bool) -> None:
    """Report every mistake in the topology FILE, each with its place.

    Exit code 2 if there is any.
    """
    topology = load(file, as_json)
    document = topology.dump(defaults=True) if verbose else None
    if as_json:
        report = {"file": str(file), "valid": True, "errors": []}
        echo_json(report | ({"topology": document} if document else {}))
    elif document:
        click.echo(encode(document, "yaml"), nl=False)
    else:
        click.echo(f"{file}: no mistakes in {len(topology.nodes)} nodes and {len(topology.links)} links")
