"""`emu`: look at and change running networks, and handle topology files."""

import click

from manystack.commands.common import Group

VERBS = {
    "ps": "manystack.commands.network:ps",
    "stop": "manystack.commands.network:stop",
    "check": "manystack.commands.check:check",
    "convert": "manystack.commands.convert:convert",
    "generate": "manystack.commands.generate:generate",
    "show": "manystack.commands.show:show",
    "watch": "manystack.commands.network:watch",
    "ping": "manystack.commands.probe:ping",
    "traceroute": "manystack.commands.probe:traceroute",
    "link": "manystack.commands.change:link",
    "route": "manystack.commands.change:route",
    "exec": "manystack.commands.later:exec_",
    "capture": "manystack.commands.capture:capture",
    "diff": "manystack.commands.diff:diff",
}


@click.group(cls=Group, lazy=VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="manystack")
def main() -> None:
    """Look at and change running emulated networks, and handle topology files.

    Exit codes: 0 done, 1 it failed, 2 wrong usage or a bad topology.
    """
