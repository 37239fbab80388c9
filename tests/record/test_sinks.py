"""Where captures go: named pipes that nobody reads yet, or any more, and disks that are full."""

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from captured import EMU, RUN, document, outside, read, tshark

from manystack import Engine, Topology
from manystack.network import Event
from manystack.record.sinks import HOLD_BYTES, PipeSink, open_sink

NAME = f"sinks-{os.getpid()}"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_pipe_gets_a_virtual_run_whole_whenever_somebody_comes_to_read_it(pipe: Path) -> None:
    copy = pipe.with_name("copy")
    with Engine(Topology.parse(document(capture=[{"file": str(pipe)}]))) as emu:
        emu.run()
        reader = subprocess.Popen(["dd", f"if={pipe}", f"of={copy}", "status=none"])
    assert reader.wait(60) == 0
    data = copy.read_bytes()
    capture = emu.captures.all[0]
    assert (capture.error, capture.lost_packets) == (None, 0)
    assert len(read(data)) == capture.packets > 100


def test_a_pipe_that_nobody_reads_holds_up_neither_start_nor_end_in_real_time(pipe: Path) -> None:
    with Engine(Topology.parse(document(time="real", capture=[{"file": str(pipe)}]))) as emu:
        emu.run("50ms")
    capture = emu.captures.all[0]
    assert capture.error == "nobody has read it"
    assert threads_of_pipes() == []


def test_a_reader_that_leaves_ends_the_capture_and_not_the_network(pipe: Path) -> None:
    traffic = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "5ms"}]
    topology = Topology.parse(document(time="real", traffic=traffic, capture=[{"file": str(pipe)}]))
    events: list[str] = []
    with Engine(topology) as emu:
        ended = emu.loop.create_future()

        def note(event: Event) -> None:
            events.append(str(event))
            if event.kind == "capture-ended":
                ended.set_result(None)

        async def until_ended() -> None:
            await ended

        emu.subscribe(note)
        head = outside(emu, lambda: read_some(pipe))
        emu.run_until_complete(until_ended())
        capture = emu.captures.all[0]
        before = emu.summary().traffic[0].received_packets
        assert before is not None
        assert emu.node("h1").ping("h2")
    assert head.startswith(b"\x0a\x0d\x0d\x0a")
    assert capture.error == "its reader has left"
    text = f"capture-ended {pipe} its reader has left, after {capture.packets} packets; the network goes on"
    assert text in events
    assert threads_of_pipes() == []


def test_virtual_time_waits_for_a_pipe_as_long_as_it_is_read(
    pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience is over at once here; so it is for a reader of whom nothing is heard."""
    sink = PipeSink(pipe, is_virtual=True)
    monkeypatch.setattr("manystack.record.sinks.PATIENCE_S", 0)
    sink.write(bytes(HOLD_BYTES))
    assert not sink.is_full
    sink.write(b"more")
    assert sink.is_full
    monkeypatch.setattr("manystack.record.sinks.PATIENCE_S", 60)
    reader = subprocess.Popen(["wc", "-c", str(pipe)], stdout=subprocess.PIPE)
    with sink._changed:
        assert sink._changed.wait_for(lambda: not sink.is_full, 60)
    sink.write(bytes(3 * HOLD_BYTES))
    sink.close()
    assert int(reader.communicate(timeout=60)[0].split()[0]) == 4 * HOLD_BYTES + 4
    assert threads_of_pipes() == []


def test_a_reader_that_stalls_is_given_up_at_the_end(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manystack.record.sinks.PATIENCE_S", 0.01)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        sink = PipeSink(pipe, is_virtual=False)
        sink.write(bytes(1 << 20))
        with sink._changed:
            assert sink._changed.wait_for(lambda: sink._taken > 0, 60)
        with pytest.raises(OSError, match="its reader does not read"):
            sink.close()
    finally:
        os.close(reading)
    assert threads_of_pipes() == []


def test_a_pipe_without_permission_is_refused(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write to everything
    with pytest.raises(PermissionError):
        open_sink(pipe, is_virtual=True)


def test_emu_capture_waits_for_a_reader_and_says_so(pipe: Path) -> None:
    traffic = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "5ms"}]

    def watch() -> tuple[bytes, int, bytes, str]:
        command = [*EMU, "capture", "--name", NAME, "r", "-w", str(pipe)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as client:
            assert client.stderr is not None
            said = client.stderr.readline()
            head = read_some(pipe)
            _, told = client.communicate(timeout=60)
        return said, client.returncode, head, told.decode()

    with Engine(Topology.parse(document(time="real", traffic=traffic)), name=NAME) as emu:
        said, exit_code, head, told = outside(emu, watch)
    assert said.decode() == f"waiting for somebody to read {pipe}\n"
    assert head.startswith(b"\x0a\x0d\x0d\x0a")
    assert (exit_code, told) == (0, f"the reader of {pipe} has left\n")


def test_emu_capture_to_a_pipe_that_nobody_reads_ends_with_the_network(pipe: Path) -> None:
    client: subprocess.Popen[bytes]

    def begin() -> bytes:
        nonlocal client
        command = [*EMU, "capture", "--name", network.name, "r", "-w", str(pipe)]
        client = subprocess.Popen(command, stderr=subprocess.PIPE)
        assert client.stderr is not None
        return client.stderr.readline()

    network = Path(f"{pipe.parent}/three.json")
    network.write_text(json.dumps(document(time="real", traffic=[])))
    run = subprocess.Popen([*RUN, str(network), "--name", network.name], stdout=subprocess.PIPE)
    try:
        assert run.stdout is not None
        assert run.stdout.readline()
        begin()
    finally:
        run.terminate()
        run.communicate(timeout=60)
    _, told = client.communicate(timeout=60)
    assert client.returncode == 1
    assert told.decode() == f"error: nobody has read {pipe}, and network {network.name} has ended\n"


@pytest.mark.root
def test_a_full_disk_leaves_a_file_of_whole_blocks(tmp_path: Path) -> None:
    """A file system of 64 KiB, in a mount namespace of its own."""
    small = tmp_path / "small"
    small.mkdir()
    network = tmp_path / "three.json"
    network.write_text(json.dumps(document(capture=[{"file": str(small / "a.pcapng")}])))
    script = 'mount -t tmpfs -o size=64k none small; "$@"; code=$?; cp small/a.pcapng . && exit $code'
    command = ["unshare", "-m", "sh", "-c", script, "sh"]
    done = subprocess.run([*command, *RUN, str(network)], cwd=tmp_path, capture_output=True, text=True)
    packets = read((tmp_path / "a.pcapng").read_bytes())
    told = f"Captured {len(packets)} packets in {small}/a.pcapng, until it ended: No space left on device"
    assert done.returncode == 1 and told in done.stdout, done.stdout + done.stderr
    assert "ended: idle" in done.stdout
    assert len(packets) > 20 and len(tshark(tmp_path / "a.pcapng", "frame.number")) == len(packets)
    infos = subprocess.run(["capinfos", "a.pcapng"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert infos.stderr == ""


def read_some(pipe: Path) -> bytes:
    """Read the head of what comes, and leave."""
    with pipe.open("rb", buffering=0) as file:
        return file.read(100)


def threads_of_pipes() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("manystack pipe")]
