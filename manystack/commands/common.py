"""What every command shares: options, errors with their exit codes, JSON."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn, TypeVar

import click

from manystack.errors import INTERRUPTED, ManystackError, UsageError

F = TypeVar("F", bound=Callable[..., Any])


class Failure(click.ClickException):
    """A ManystackError on its way out of a command."""

    def __init__(self, error: ManystackError) -> None:
        super().__init__(str(error))
        self.exit_code: int = error.exit_code  # type: ignore[misc]  # an instance's own, as Context.exit's users do

    def show(self, file: Any = None) -> None:
        """Print the sentence, each of several errors on its own line."""
        for line in self.message.splitlines():
            click.echo(f"error: {line}", file=file, err=True)


@contextmanager
def ended_by_exit_codes() -> Iterator[None]:
    """Make a sentence and an exit code of a ManystackError, and an exit code alone of Ctrl-C."""
    try:
        yield
    except ManystackError as error:
        raise Failure(error) from error
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None


class Command(click.Command):
    """A command whose ManystackErrors are sentences and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with ended_by_exit_codes():
            return super().invoke(ctx)


class Group(click.Group):
    """A group that imports its commands when they are asked for: `{verb: "module:attribute"}`."""

    command_class = Command

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order they were given."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb's command, importing it."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self._lazy[cmd_name].split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; its ManystackErrors are sentences and exit codes."""
        with ended_by_exit_codes():
            return super().invoke(ctx)


def network_options(function: F) -> F:
    """Add --name and --json."""
    function = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)
    return click.option("--name", metavar="NAME", help="Which running network; needed where several run.")(
        function
    )


def echo_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def echo_lines(lines: list[str]) -> None:
    """Print lines of text."""
    for line in lines:
        click.echo(line)


def not_in_this_version(what: str) -> NoReturn:
    """Refuse what interface documents name and this version lacks."""
    raise UsageError(f"{what}: not in this version")


def fail_quietly(exit_code: int = 1) -> NoReturn:
    """End when the output has said why already."""
    sys.exit(exit_code)
