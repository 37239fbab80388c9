"""`emu capture`: packets of interfaces as pcapng, to a file or to standard output."""

import errno
import os
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import click

from manystack.commands.common import echo_json, network_options
from manystack.control.client import Client, find, interrupts_at_once
from manystack.errors import ManystackError, UsageError
from manystack.text import plural


@click.command()
@click.argument("interfaces", nargs=-1, required=True, metavar="NODE.IFACE …")
@click.option("-w", "--write", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE.")
@click.option(
    "-s",
    "--snap-length",
    metavar="SIZE",
    help="Bytes of each frame to keep, such as 96B; default: all.",
)
@network_options
def capture(
    interfaces: tuple[str, ...], file: Path | None, snap_length: str | None, name: str | None, as_json: bool
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
    with Client(find(name)) as client, ExitStack() as stack:
        # A named pipe is opened when the first part is there: what else may be wrong has been said by then.
        is_pipe = file is not None and file.is_fifo()
        output = None if is_pipe else stack.enter_context(_output(file))
        whole = 0

        def write(part: bytes) -> bool:
            nonlocal output, whole
            if output is None:
                assert file is not None
                output = stack.enter_context(_opened_pipe(file, client))
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
            if file is not None:
                click.echo(f"the reader of {file} has left", err=True)
            sys.exit(0)  # whoever read standard output needs no word about it
        except OSError as error:
            with suppress(OSError):  # a pipe, or a device
                if output is not None:
                    output.truncate(whole)  # so that what is there can be read
            raise ManystackError(f"cannot write {file or 'to standard output'}: {error.strerror}") from None
    if as_json:
        echo_json(told)
        return
    lost = f", and lost {told['lost_packets']:,}, which came too fast" if told["lost_packets"] else ""
    click.echo(f"captured {plural(told['packets'], 'packet')}{lost}", err=True)


def _output(file: Path | None) -> BinaryIO:
    # Without a buffer, so that a viewer sees packets as they come.
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb", 0) if file is None else file.open("wb", 0)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None


def _opened_pipe(file: Path, client: Client) -> BinaryIO:
    """Open a named pipe when somebody reads it. Raises ManystackError if the network ends before."""
    try:
        pipe = os.open(file, os.O_WRONLY | os.O_NONBLOCK)
        os.set_blocking(pipe, True)
        return os.fdopen(pipe, "wb", 0)
    except OSError as error:
        if error.errno != errno.ENXIO:  # which means that nobody reads
            raise UsageError(f"cannot write {file}: {error.strerror}") from None
    click.echo(f"waiting for somebody to read {file}", err=True)
    opened: list[BinaryIO] = []
    come = os.eventfd(0)

    def wait() -> None:
        opened.append(file.open("wb", 0))
        os.eventfd_write(come, 1)

    threading.Thread(target=wait, daemon=True).start()
    try:
        with interrupts_at_once():
            client.wait_until_gone(come)
    except KeyboardInterrupt:
        raise ManystackError(f"nobody has read {file}") from None
    if not opened:
        raise ManystackError(f"nobody has read {file}, and network {client.network.name} has ended")
    return opened[0]
