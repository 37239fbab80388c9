import json
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from manystack.errors import UsageError
from manystack.host import runtime
from manystack.host.runtime import RunningNetwork, Runtime, reclaim_dead, running

# Says that it is ready, claims a name once told to, says how that went, and stays until its input ends.
CLAIMER = """
import sys
from pathlib import Path
from manystack.host import runtime
from manystack.errors import UsageError
runtime.ROOT_DIRECTORY = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    network = runtime.Runtime(sys.argv[2])
    print("won", flush=True)
except UsageError as error:
    print(error, flush=True)
sys.stdin.read()
"""

# Another claimer, which has a fork and a program that it started with all of its descriptors live longer.
PARENT = CLAIMER.replace(
    "sys.stdin.read()",
    """
import os, signal, subprocess
child = os.fork()
if child == 0:
    signal.pause()
print(child, subprocess.Popen(["sleep", "infinity"], close_fds=False).pid, sep="\\n", flush=True)
sys.stdin.read()
""",
)

OTHER_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of this test's own for the directories of networks, and for namespaces that are plain files."""
    monkeypatch.setattr(runtime, "ROOT_DIRECTORY", tmp_path / "manystack")
    monkeypatch.setattr(runtime, "NAMESPACES", tmp_path / "netns")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "netns").mkdir()
    (tmp_path / "tmp").mkdir()
    return tmp_path / "manystack"


@contextmanager
def claimer(
    base: Path, name: str, program: str = CLAIMER, wrapper: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    command = [*wrapper, sys.executable, "-c", program, str(base), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert answer(process) == "ready"
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def kill_owner(network: RunningNetwork, process: subprocess.Popen[str]) -> None:
    """Kill a process, and wait for the end of the network that it, or its child, owns."""
    lifeline = network.open_lifeline()
    assert lifeline is not None
    try:
        assert select.select([lifeline], [], [], 0) == ([], [], [])
        process.kill()
        assert select.select([lifeline], [], [], 20)[0] == [lifeline]
    finally:
        os.close(lifeline)


def test_directory_is_private_and_goes_with_the_network(base: Path) -> None:
    with Runtime("office") as network:
        assert network.directory == base / "office"
        assert stat.S_IMODE(network.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(base.stat().st_mode) == 0o700
        assert network.control_endpoint == f"ipc://{base}/office/control"
        Path(network.control_endpoint.removeprefix("ipc://")).touch()
    assert list(base.iterdir()) == []
    network.close()


def test_second_start_of_a_name_says_who_has_it_and_what_to_do() -> None:
    with Runtime("office"):
        with pytest.raises(UsageError) as caught:
            Runtime("office")
        assert f"process {os.getpid()}" in str(caught.value)
        assert "--name" in str(caught.value)
        assert "`emu stop --name office`" in str(caught.value)
        with Runtime("office2"):
            pass
    with Runtime("office"):
        pass


def test_closing_late_does_not_touch_the_successor() -> None:
    first = Runtime("office")
    first.close()
    with Runtime("office") as second:
        first.close()
        assert second.directory.exists()


def test_of_many_starts_at_once_one_wins(base: Path) -> None:
    with (
        claimer(base, "office") as a,
        claimer(base, "office") as b,
        claimer(base, "office") as c,
        claimer(base, "office") as d,
    ):
        rivals = [a, b, c, d]
        for rival in rivals:
            tell(rival)
        answers = [answer(rival) for rival in rivals]
        winner = rivals[answers.index("won")]
        del answers[answers.index("won")]
        assert all(f"process {winner.pid}" in text for text in answers)
        assert running() == [RunningNetwork("office", winner.pid, f"ipc://{base}/office/control")]


def test_what_a_killed_process_left_is_reclaimed(base: Path) -> None:
    with claimer(base, "office") as process:
        tell(process)
        assert answer(process) == "won"
        assert reclaim_dead() == []
        process.kill()
        # Not yet waited for by its parent, but dead: a zombie holds nothing.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert running() == []
        assert reclaim_dead() == ["office"]
    assert list(base.iterdir()) == []


def test_a_start_reclaims_whatever_is_dead(base: Path) -> None:
    with claimer(base, "office") as office, claimer(base, "home") as home:
        for process in (office, home):
            tell(process)
            assert answer(process) == "won"
            process.send_signal(signal.SIGKILL)
            process.wait()
    with Runtime("office"):
        assert [path.name for path in base.iterdir()] == ["office"]


def test_the_process_id_on_record_says_nothing(base: Path) -> None:
    """It is another process's in another PID namespace, or after the owner's death."""
    record = {"pid": os.getpid(), "start_ticks": 1, "boot": "an older version wrote this", "namespaces": {}}
    for name in ("home", "office"):
        (base / name).mkdir(parents=True)
        (base / name / "owner.json").write_text(json.dumps(record))
    os.mkfifo(base / "home" / "lifeline")
    base.chmod(0o700)
    assert running() == []
    assert reclaim_dead() == ["home", "office"]


def test_what_the_owner_has_started_does_not_keep_it_alive(base: Path) -> None:
    with claimer(base, "office", PARENT) as process:
        tell(process)
        assert answer(process) == "won"
        assert process.stdout is not None
        child, program = (int(process.stdout.readline()) for _ in range(2))
        try:
            process.kill()
            process.wait()
            os.kill(child, 0)
            os.kill(program, 0)
            assert running() == []
            assert reclaim_dead() == ["office"]
        finally:
            os.kill(child, signal.SIGKILL)
            os.kill(program, signal.SIGKILL)


def test_a_fork_owns_nothing(base: Path) -> None:
    with Runtime("office") as network:
        child = os.fork()
        if child == 0:
            network.close()
            os._exit(len(running()))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 1
        assert [found.name for found in running()] == ["office"]


def test_the_end_of_a_network_can_be_waited_for(base: Path) -> None:
    with claimer(base, "office") as process:
        tell(process)
        assert answer(process) == "won"
        (network,) = running()
        kill_owner(network, process)
        assert network.open_lifeline() is None
        assert reclaim_dead() == ["office"]
        assert network.open_lifeline() is None


@pytest.mark.root
@pytest.mark.parametrize("owner_is_inside", [False, True])
def test_an_owner_in_another_pid_namespace_is_alive(base: Path, owner_is_inside: bool) -> None:
    wrappers = [OTHER_PID_NAMESPACE, ()] if owner_is_inside else [(), OTHER_PID_NAMESPACE]
    with claimer(base, "office", wrapper=wrappers[0]) as owner:
        tell(owner)
        assert answer(owner) == "won"
        before = {path: path.stat().st_ino for path in (base / "office").iterdir()}
        for name, words in (("office", "already running as process"), ("home", "won")):
            with claimer(base, name, wrapper=wrappers[1]) as other:
                tell(other)
                assert words in answer(other)
                assert {path: path.stat().st_ino for path in (base / "office").iterdir()} == before
                assert {network.name for network in running()} == {"office", name}
        kill_owner(next(network for network in running() if network.name == "office"), owner)
        with claimer(base, "office", wrapper=wrappers[1]) as other:
            tell(other)
            assert answer(other) == "won"


def test_killed_before_the_record_was_written(base: Path) -> None:
    with Runtime("home"):
        (base / "office").mkdir()
        assert [network.name for network in running()] == ["home"]
        assert reclaim_dead() == ["office"]


def test_running_lists_the_living_by_name() -> None:
    with Runtime("b") as b, Runtime("a") as a:
        assert running() == [
            RunningNetwork("a", os.getpid(), a.control_endpoint),
            RunningNetwork("b", os.getpid(), b.control_endpoint),
        ]
    assert running() == []


def test_namespace_is_on_record_until_its_last_hold_is_released() -> None:
    with Runtime("office") as network:
        assert not network.hold_namespace("site")
        network.record_namespace("site", (1, 2, 3))
        assert json.loads((network.directory / "owner.json").read_text())["namespaces"] == {"site": [1, 2, 3]}
        mount_point = runtime.NAMESPACES / "site"
        mount_point.touch()
        assert network.hold_namespace("site")
        network.release_namespace("site")
        assert mount_point.exists()
        network.release_namespace("site")
        assert not mount_point.exists()
        assert not network.hold_namespace("site")


def test_network_that_ends_takes_its_namespaces_along() -> None:
    with Runtime("office") as network:
        network.record_namespace("site", (1, 2, 3))
        (runtime.NAMESPACES / "site").touch()
    assert list(runtime.NAMESPACES.iterdir()) == []


def test_reclaim_removes_a_mount_point_that_was_never_mounted_on() -> None:
    network = Runtime("office")
    network.record_namespace("made", (1, 2, 3))
    network.record_namespace("planned", (1, 2, 4))
    (runtime.NAMESPACES / "made").touch()
    (runtime.NAMESPACES / "foreign").touch()
    network.let_go()
    assert reclaim_dead() == ["office"]
    assert [path.name for path in runtime.NAMESPACES.iterdir()] == ["foreign"]


def test_reclaim_leaves_what_has_come_to_mean_something_else() -> None:
    network = Runtime("office")
    network.record_namespace("site", (1, 2, 3))
    (runtime.NAMESPACES / "site").write_text("a user's own")
    network.let_go()
    assert reclaim_dead() == ["office"]
    assert (runtime.NAMESPACES / "site").exists()


def test_directory_open_to_others_is_refused(base: Path, tmp_path: Path) -> None:
    base.mkdir()
    base.chmod(0o750)
    fallback = tmp_path / "tmp" / f"manystack-{os.geteuid()}"
    with Runtime("office") as network:
        assert network.directory == fallback / "office"
    fallback.chmod(0o701)
    with pytest.raises(UsageError) as caught:
        Runtime("office")
    assert f"{base} is open to other users" in str(caught.value)
    assert f"`chmod 700 {fallback}`" in str(caught.value)


def test_directory_of_another_user_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = os.geteuid()
    (tmp_path / "tmp" / f"manystack-{user + 1}").mkdir(mode=0o700)
    base.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(UsageError, match=f"belongs to user {user}"):
        Runtime("office")


def test_link_in_the_place_of_the_directory_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    base.symlink_to(tmp_path / "elsewhere")
    with Runtime("office") as network:
        assert network.directory.parent == tmp_path / "tmp" / f"manystack-{os.geteuid()}"


def test_without_any_place_the_error_names_all(base: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").rmdir()
    base.touch()
    with pytest.raises(UsageError) as caught:
        running()
    assert f"{base}: File exists" in str(caught.value)
    assert f"manystack-{os.geteuid()}: No such file or directory" in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "-x", "a\n"])
def test_name_that_cannot_be_a_directory(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a network"):
        Runtime(name)


def test_longest_name_whose_socket_still_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        base = Path(short) / "manystack"
        monkeypatch.setattr(runtime, "ROOT_DIRECTORY", base)
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        longest = 107 - len(f"{base}//control")
        with Runtime("n" * longest) as network, zmq.Context() as context, context.socket(zmq.REP) as socket:
            socket.bind(network.control_endpoint)
        with pytest.raises(UsageError, match="2 bytes too long"):
            Runtime("n" * (longest + 2))
        assert list(base.iterdir()) == []
