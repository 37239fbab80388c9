"""A chain of virtual routers between two ports, which stand where a wire would: frames in, frames out."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

from manystack.core import Switch
from manystack.core._switch import PORT, ROUTER

VECTOR = 256
"""Frames that are put in together: what one stage of the engine takes at once."""

BANDWIDTH_BPS, DELAY_NS, OVERHEAD_BYTES = 1_000_000_000, 1_000_000, 24
"""A shaped link: gigabit Ethernet with its preamble, checksum and gap, and a millisecond of wire."""

FRAME_BYTES = 60
"""Of a minimum Ethernet frame, without the checksum that makes it 64."""

SOURCE_MAC, SINK_MAC = bytes.fromhex("02ff00000001"), bytes.fromhex("02ff00000002")


@dataclass(frozen=True)
class Chain:
    """`source - r1 - … - rK - sink`, and the frame that crosses it from end to end."""

    switch: Switch
    source: int
    sink_pipe: int
    frame: bytes
    step_ns: int
    drain_ns: int

    def forward(self, vectors: int) -> None:
        """Let so many vectors cross, each as soon as the first link has sent the one before."""
        switch = self.switch
        for _ in range(vectors):
            switch.inject(self.source, self.frame, VECTOR)
            switch.run(switch.now_ns + self.step_ns)
        self.drain()

    def drain(self) -> None:
        """Let what is under way arrive."""
        self.switch.run(self.switch.now_ns + self.drain_ns)

    @property
    def delivered_packets(self) -> int:
        """Frames that have reached the sink so far."""
        return self.switch.pipe_statistics(self.sink_pipe)["delivered_packets"]


@dataclass(frozen=True)
class Row:
    """Routers in a row between two ports, which discard what arrives; of each link, both pipes."""

    source: int
    sink: int
    nodes: list[int]
    pipes: list[tuple[int, int]]

    def introduce_sink(self, switch: Switch) -> None:
        """Let the sink ask for its router, which so learns of the sink (RFC 826)."""
        last = len(self.nodes)
        switch.inject(self.sink, arp_request(SINK_MAC, address(last, 2), address(last, 1)))


def plant(switch: Switch, routers: int) -> Row:
    """Add `source - r1 - … - rK - sink` to an engine, without routes. All rows have the same addresses."""
    source, sink = switch.add_node(PORT), switch.add_node(PORT)
    nodes = [switch.add_node(ROUTER) for _ in range(routers)]
    left = [switch.add_interface(node, mac(index, 1)) for index, node in enumerate(nodes)]
    right = [switch.add_interface(node, mac(index, 2)) for index, node in enumerate(nodes)]
    for index in range(routers):
        switch.add_address(left[index], address(index, 2), 30)
        switch.add_address(right[index], address(index + 1, 1), 30)
    starts = [switch.add_interface(source, SOURCE_MAC), *right]
    ends = [*left, switch.add_interface(sink, SINK_MAC)]
    pipes = [switch.add_link(start, end) for start, end in zip(starts, ends, strict=True)]
    switch.discard_frames(source, True)
    switch.discard_frames(sink, True)
    return Row(source, sink, nodes, pipes)


@contextmanager
def open_chain(routers: int, *, shaped: bool, proof: bool = False) -> Iterator[Chain]:
    """A chain of `routers` in virtual time; each knows its neighbors, and the sink discards what arrives.

    proof: with the run's hash.
    """
    switch = Switch(proof=proof)
    try:
        row = plant(switch, routers)
        for pipe in [pipe for pair in row.pipes for pipe in pair] if shaped else []:
            switch.set_pipe(
                pipe, bandwidth_bps=BANDWIDTH_BPS, overhead_bytes=OVERHEAD_BYTES, delay_ns=DELAY_NS
            )
        for index, node in enumerate(row.nodes[:-1]):
            switch.add_route(node, address(routers, 0), 30, address(index + 1, 2))
        wire_ns = (FRAME_BYTES + OVERHEAD_BYTES) * 8 * 1_000_000_000 // BANDWIDTH_BPS
        chain = Chain(
            switch=switch,
            source=row.source,
            sink_pipe=row.pipes[-1][0],
            frame=udp_frame(mac(0, 1), address(0, 1), address(routers, 2)),
            step_ns=VECTOR * wire_ns if shaped else 1,
            drain_ns=(routers + 1) * (3 * DELAY_NS + VECTOR * wire_ns) if shaped else 0,
        )
        row.introduce_sink(switch)
        chain.drain()
        # The neighbors within the chain find each other when the first frame passes; it is alone, because few
        # may wait for an answer.
        switch.inject(row.source, chain.frame)
        chain.drain()
        yield chain
    finally:
        switch.close()


def mac(router: int, side: int) -> bytes:
    """The MAC address of a router's side 1 (left) or 2 (right)."""
    return b"\x02" + router.to_bytes(4) + bytes([side])


def address(link: int, end: int) -> int:
    """End 1 (left) or 2 (right) of a link's own /30; end 0 is the network itself."""
    return int(IPv4Address("10.0.0.0")) + 4 * link + end


def arp_request(own_mac: bytes, own_address: int, wanted: int) -> bytes:
    """A frame that asks who has the wanted address."""
    ether = b"\xff" * 6 + own_mac + b"\x08\x06"
    request = struct.pack("!HHBBH6sI6xI", 1, 0x0800, 6, 4, 1, own_mac, own_address, wanted)
    return (ether + request).ljust(FRAME_BYTES, b"\0")


def udp_frame(gateway_mac: bytes, source: int, destination: int) -> bytes:
    """A frame of minimum size that the source sends by way of its gateway."""
    payload_bytes = FRAME_BYTES - 14 - 20 - 8
    header = struct.pack("!BBHHHBBHII", 0x45, 0, 28 + payload_bytes, 0, 0, 255, 17, 0, source, destination)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = header[:10] + checksum.to_bytes(2) + header[12:]
    udp = struct.pack("!HHHH", 5000, 9, 8 + payload_bytes, 0)
    return b"".join([gateway_mac, SOURCE_MAC, b"\x08\x00", header, udp, bytes(payload_bytes)])
