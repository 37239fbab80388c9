"""Many chains of virtual routers in one engine, with many routes: the size of a network, not its length.

Each chain stands between two ports, as in chain.py. Every router has a route to each of the destinations, and
the frames that cross a chain go to all of them, in random order.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns

from bench.chain import SINK_MAC, SOURCE_MAC, address, arp_request, mac, udp_frame
from manystack.core import Switch
from manystack.core._switch import PORT, ROUTER

PREFIX_LENGTH = 24
FIRST_PREFIX = 0x0B000000
"""11.0.0.0/24 and those behind it are the routes; the links have 10.0.0.0/8."""

SEED = 20261124


@dataclass(frozen=True)
class Forest:
    """The sources of all chains, what enters each of them in one round, and the pipes to their sinks."""

    switch: Switch
    sources: list[int]
    sink_pipes: list[int]
    frames: list[list[bytes]]
    routers: int
    vector: int

    def nanoseconds_per_hop(self, rounds: int) -> float:
        """What one router takes for one packet; frames are put in beforehand, which is not measured."""
        switch = self.switch
        taken_ns = 0
        before = self.delivered_packets
        for number in range(rounds):
            frames = self.frames[number % len(self.frames)]
            for source in self.sources:
                if len(frames) == 1:
                    switch.inject(source, frames[0], self.vector)
                else:
                    for frame in frames:
                        switch.inject(source, frame)
            start_ns = perf_counter_ns()
            switch.run(switch.now_ns + 1)
            taken_ns += perf_counter_ns() - start_ns
        packets = rounds * self.vector * len(self.sources)
        assert self.delivered_packets - before == packets
        return taken_ns / (packets * self.routers)

    @property
    def delivered_packets(self) -> int:
        """Frames that have reached a sink so far."""
        return sum(self.switch.pipe_statistics(pipe)["delivered_packets"] for pipe in self.sink_pipes)


@contextmanager
def open_forest(*, chains: int = 1, routers: int, routes: int = 1, vector: int) -> Iterator[Forest]:
    """So many chains of `routers`, each with `routes` of its own; `vector` frames enter each in a round."""
    switch = Switch()
    try:
        sources, sink_pipes = [], []
        for _ in range(chains):
            source, sink_pipe = _plant(switch, routers, routes)
            sources.append(source)
            sink_pipes.append(sink_pipe)
        order = random.Random(SEED)
        destinations = [FIRST_PREFIX + (number << 8) + 1 for number in range(routes)]
        frames = [
            [udp_frame(mac(0, 1), address(0, 1), order.choice(destinations)) for _ in range(vector)]
            for _ in range(64 if routes > 1 else 1)
        ]
        if routes == 1:
            frames = [frames[0][:1]]
        forest = Forest(switch, sources, sink_pipes, frames, routers, vector)
        for (
            source
        ) in sources:  # the neighbors of each chain find each other, by one packet that waits for them
            switch.inject(source, frames[0][0])
        switch.run(switch.now_ns)
        yield forest
    finally:
        switch.close()


def _plant(switch: Switch, routers: int, routes: int) -> tuple[int, int]:
    """Add one chain; return its source and the pipe to its sink. All chains have the same addresses."""
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
    for index, node in enumerate(nodes):
        for number in range(routes):
            switch.add_route(node, FIRST_PREFIX + (number << 8), PREFIX_LENGTH, address(index + 1, 2))
    switch.discard_frames(source, True)
    switch.discard_frames(sink, True)
    # The sink asks for its router, which so learns of the sink.
    switch.inject(sink, arp_request(SINK_MAC, address(routers, 2), address(routers, 1)))
    switch.run(switch.now_ns)
    return source, pipes[-1][0]
