"""Tests of root have devices, named namespaces and running networks of their own: conftest.isolate."""

import os
import socket
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def differs_from_the_parents(kind: str) -> bool:
    own, parents = (Path(f"/proc/{process}/ns/{kind}").readlink() for process in ("self", os.getppid()))
    return own != parents


def test_devices_are_those_of_a_namespace_of_its_own() -> None:
    assert differs_from_the_parents("net")
    shown = {path.name for path in Path("/sys/class/net").iterdir()}
    assert shown == {name for _, name in socket.if_nameindex()}
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


@pytest.mark.parametrize("place", ["/run/netns", "/run/manystack"])
def test_what_is_named_is_named_here_alone(place: str) -> None:
    assert differs_from_the_parents("mnt")
    assert Path(place).is_mount()
