"""`emu capture`: packets of interfaces as pcapng, to a file or to standard output."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import click

from manystack.client import Client, find
from manystack.commands.common import echo_json, network_options
from manystack.errors import ManystackError, UsageError
from manystack.text import plural


@click.command()
@click.argument("interfaces", nargs=-1, required=True, metavar="NODE.IFACE …")
@click.option("-w", "--write", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE.")
@click.option(
    "-s",
    "--snap-length",
    default="65664B",
    metavar="SIZE",
    help="Bytes of each frame to keep, such as 96B; default: all.",
)
@network_options
def capture(
    interfaces: tuple[str, ...], file: Path | None, snap_length: str, name: str | None, as_json: bool
) -> None:
    """Show what passes interfaces as pcapng, until Ctrl-C or the end of the network.

    A node alone is all of its interfaces. Without -w it goes to standard output, live: emu capture r1.eth0 |
    wireshark -k -i -
    """
    if file is None and as_json:
        raise UsageError("--json prints to standard output: write the packets to a file with -w")
    if file is None and sys.stdout.isatty():
        raise UsageError(
            "packets are no text for a terminal: write -w FILE, or pipe them to `wireshark -k -i -`"
        )
    with Client(find(name)) as client, _output(file) as output:
        whole = 0

        def write(part: bytes) -> bool:
            nonlocal whole
            with _one_interrupt_later():
                left = memoryview(part)
                while left:
                    left = left[output.write(left) :]
                whole += len(part)
            return bool(part)

        try:
            told: dict[str, Any] = client.call(
                "capture", on_item=write, interfaces=list(interfaces), snap_length=snap_length
            )
        except BrokenPipeError:
            sys.exit(0)  # whoever read has left, and needs no word about it
        except OSError as error:
            with suppress(OSError):  # a pipe, or a device
                output.truncate(whole)  # so that what is there can be read
            raise ManystackError(f"cannot write {file or 'to standard output'}: {error.strerror}") from None
    if as_json:
        echo_json(told)
        return
    lost = f", and lost {told['lost_packets']:,}, which came too fast" if told["lost_packets"] else ""
    click.echo(f"captured {plural(told['packets'], 'packet')}{lost}", err=True)


@contextmanager
def _one_interrupt_later() -> Iterator[None]:
    """Let the first Ctrl-C wait for the end of the block, so that no part is written by halves."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, as nohup leaves it
        yield
        return
    waiting = False

    def note(*_: object) -> None:
        nonlocal waiting
        if waiting:
            raise KeyboardInterrupt
        waiting = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


def _output(file: Path | None) -> BinaryIO:
    # Without a buffer, so that a viewer sees packets as they come.
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb", 0) if file is None else file.open("wb", 0)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None
