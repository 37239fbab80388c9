"""More load than the engine can carry: memory is bounded, the verdict tells, and relief is felt at once."""

import resource
import socket
import threading
import time
from pathlib import Path

import pytest

from manystack import Engine, Topology
from manystack.core import Switch
from manystack.core import _switch as core
from manystack.network import Event

pytestmark = pytest.mark.alone

SECOND = 1_000_000_000
MIB = 1 << 20
TIMEOUT_S = 60
SIZE_BYTES = 100
VIEW_BYTES = 64


def network(*packets_per_second: int) -> Topology:
    """`a - r - b` over a millisecond, and flows from a to b, which end before the third second."""
    rates = [f"{rate * SIZE_BYTES * 8}bit/s" for rate in packets_per_second]
    return Topology.parse(
        {
            "manystack": 1,
            "name": "overload",
            "time": "real",
            "routes": "shortest",
            "nodes": {
                "a": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.1/24"]}}},
                "r": {
                    "kind": "router",
                    "interfaces": {f"eth{i}": {"addresses": [f"10.0.{i}.254/24"]} for i in range(2)},
                },
                "b": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.1.1/24"]}}},
            },
            "links": [{"ends": ["a.eth0", "r.eth0"]}, {"ends": ["r.eth1", "b.eth0"], "delay": "1ms"}],
            "traffic": [
                {
                    "kind": "udp",
                    "from": "a",
                    "to": "b",
                    "rate": rate,
                    "size": f"{SIZE_BYTES}B",
                    "stop": "1.95s",
                }
                for rate in rates
            ],
        }
    )


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_more_than_twice_the_load_degrades_the_run_until_a_second_after_relief() -> None:
    """No engine carries a hundred million packets a second: how late they are shows by how much."""
    with Engine(network(100_000, 100_000_000)) as emu:
        emu.run("300ms")
        before_bytes = resident_bytes()
        told = []

        def listen(event: Event) -> None:
            if event.kind in {"degraded", "valid"}:
                told.append(event.kind)
                emu.stop()

        emu.subscribe(listen)
        assert emu.run(f"{TIMEOUT_S}s") == "stopped"
        grown_bytes = resident_bytes() - before_bytes
        pool_bytes = emu.switch.statistics()["pool_bytes"]
        emu.switch.stop_flow(emu.wiring.flows[1].flow)
        relief_ns = emu.now_ns
        assert emu.run(f"{TIMEOUT_S}s") == "stopped"
        verdict = emu.verdict()
    assert told == ["degraded", "valid"]
    assert verdict.state == "degraded"
    [stretch] = [stretch for stretch in verdict.intervals if stretch.place == "r.eth1 → b.eth0"]
    assert stretch.late_packets > stretch.packets // 10
    assert stretch.worst_ns > relief_ns // 2
    assert stretch.from_ns < SECOND < relief_ns
    assert all(other.until_ns <= relief_ns + SECOND for other in verdict.intervals)
    assert pool_bytes < 64 * MIB
    assert grown_bytes < 64 * MIB


def test_what_multiplies_inside_waits_outside_while_the_engine_is_behind() -> None:
    """A device brings frames as fast as they are read; a hub makes 20,000 of each."""
    ports = 20_000
    switch = Switch(real_time=True)
    tap = switch.add_node(core.TAP)
    hub = switch.add_node(core.HUB)
    number = iter(range(1, 1 << 32))

    def interface(node: int) -> int:
        return switch.add_interface(node, b"\x02" + next(number).to_bytes(5, "big"))

    switch.add_link(interface(tap), interface(hub))
    for _ in range(ports):
        port = switch.add_node(core.PORT)
        pipe, _ = switch.add_link(interface(hub), interface(port))
        switch.set_pipe(pipe, delay_ns=1_000_000)
        switch.discard_frames(port, True)
    device, host = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    device.setblocking(False)
    switch.attach_tap(tap, device.fileno())
    feeder = threading.Thread(target=feed, args=(host,))
    switch.start()
    feeder.start()
    most_bytes = 0
    give_up_s = time.monotonic() + TIMEOUT_S
    try:
        while (statistics := switch.statistics())["device_read_packets"] < 300:
            most_bytes = max(most_bytes, statistics["pool_bytes"])
            assert time.monotonic() < give_up_s
        assert statistics["pool_drop_packets"] == 0
    finally:
        switch.close()
        device.close()
        feeder.join()
        host.close()
    assert most_bytes < 64 * MIB + 2 * 64 * ports * VIEW_BYTES  # what a batch makes, and what is spare


def feed(host: socket.socket) -> None:
    """Send one frame after another, until there is nobody who takes them."""
    header = bytes(12)
    frame = b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xb5" + bytes(46)
    try:
        while True:
            host.send(header + frame)
    except OSError:
        return
