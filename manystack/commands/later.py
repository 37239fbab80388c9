"""Verbs that users may already know of and this version lacks."""

import click

from manystack.commands.common import network_options, not_in_this_version

ANYTHING = {"ignore_unknown_options": True}


@click.command("exec", context_settings=ANYTHING)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@network_options
def exec_(arguments: tuple[str, ...], name: str | None, as_json: bool) -> None:
    """A real program inside a node (not in this version)."""
    not_in_this_version("emu exec")
