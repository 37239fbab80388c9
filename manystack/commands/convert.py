"""`emu convert`: a topology in another format."""

from pathlib import Path

import click

from manystack.commands.check import load
from manystack.commands.common import Command, echo_json
from manystack.topology.document.files import write_document


@click.command(cls=Command)
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def convert(source: Path, target: Path, as_json: bool) -> None:
    """Write the topology IN to OUT.

    The suffix of a file's name is its format: .msgpack, .yaml or .json.
    """
    topology = load(source, as_json)
    write_document(target, topology.dump(folder=target.absolute().parent))
    if as_json:
        echo_json({"input": str(source), "output": str(target)})
