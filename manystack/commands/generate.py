"""`emu generate`: a topology of a known shape and any size."""

from pathlib import Path

import click

from manystack.commands.common import Command, echo_json
from manystack.topology import PipeParameters, changed_parameters
from manystack.topology import generate as generate_document
from manystack.topology.document.files import FORMATS, encode, write_document


@click.command(cls=Command)
@click.argument("kind")
@click.argument("sizes", metavar="N…", nargs=-1, type=int)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Instead of standard output."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(dict.fromkeys(FORMATS.values()))),
    help="Default: by FILE's suffix; on standard output yaml.",
)
@click.option("--bandwidth", metavar="RATE", help="Of every link, in both directions: 100Mbit/s.")
@click.option("--delay", metavar="TIME", help="Of every link, in both directions: 5ms.")
@click.option("--loss", metavar="RATIO", help="Of every link, in both directions: 0.1%.")
@click.option("--queue", metavar="LIMIT", help="Of every link, in both directions: 100packets or 64KiB.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document: with -o what was written, else it."
)
def generate(
    kind: str,
    sizes: tuple[int, ...],
    output: Path | None,
    form: str | None,
    as_json: bool,
    **link: str | None,
) -> None:
    """Write a topology with addresses, shortest routes, and a ping from the first host to the last.

    \b
    chain ROUTERS          hosts h1 and h2 at its ends
    ring ROUTERS           hosts h1 and h2 opposite to each other
    star HOSTS             around router r1
    grid WIDTH HEIGHT      of routers, with hosts h1 and h2 at opposite corners
    tree DEPTH FANOUT      of routers, the lowest level hosts

    Where the last host is more than 254 routers away, the ping goes to a router on the way.
    """
    parameters = {key: value for key, value in link.items() if value is not None}
    changed_parameters((PipeParameters(), PipeParameters()), parameters)
    document = generate_document(kind, sizes, parameters)
    if output is not None:
        write_document(output, document, form)
        if as_json:
            counts = {"nodes": len(document["nodes"]), "links": len(document["links"])}
            echo_json({"output": str(output), **counts})
    else:
        click.echo(encode(document, "json" if as_json else form or "yaml"), nl=False)
