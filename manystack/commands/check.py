"""`emu check`: every mistake in a topology."""

from pathlib import Path
from typing import Any

import click

from manystack.commands.common import Command, echo_json, fail_quietly
from manystack.text import plural
from manystack.topology import Topology, TopologyError
from manystack.topology.document.files import encode


def load(file: Path, as_json: bool) -> Topology:
    """Return the topology in a file; if it has mistakes, print them, one a line, and end with exit code 2."""
    try:
        return Topology.load(file)
    except TopologyError as error:
        click.echo(str(error), err=True)
        if as_json:
            echo_json(_refusal(file, error))
        fail_quietly(error.exit_code)


@click.command(cls=Command)
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Print topologies with all defaults written out.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document; of several files a list of reports."
)
def check(files: tuple[Path, ...], verbose: bool, as_json: bool) -> None:
    """Report every mistake in the topology FILEs, each with its place.

    Exit code 2 if there is any.
    """
    reports: list[dict[str, Any]] = []
    for file in files:
        try:
            topology = Topology.load(file)
        except TopologyError as error:
            click.echo(str(error), err=True)
            reports.append(_refusal(file, error))
            continue
        document = topology.dump(defaults=True, folder=file.absolute().parent) if verbose else None
        reports.append(
            {"file": str(file), "valid": True, "errors": []} | ({"topology": document} if document else {})
        )
        if as_json:
            continue
        if document:
            if len(files) > 1:
                click.echo(f"--- # {file}")
            click.echo(encode(document, "yaml"), nl=False)
        else:
            size = f"{plural(len(topology.nodes), 'node')} and {plural(len(topology.links), 'link')}"
            click.echo(f"{file}: no mistakes in {size}")
    if as_json:
        echo_json(reports if len(files) > 1 else reports[0])
    if not all(report["valid"] for report in reports):
        fail_quietly(2)


def _refusal(file: Path, error: TopologyError) -> dict[str, Any]:
    errors = [{"place": mistake.place, "message": mistake.message} for mistake in error.errors]
    return {"file": str(file), "valid": False, "errors": errors}
