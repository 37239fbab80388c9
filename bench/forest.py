"""Many chains of virtual routers in one engine, with many routes: the size of a network, not its length.

Each chain stands between two ports, as in chain.py. Every router has a route to each of the destinations, and
the frames that cross a chain go to all of them, in random order.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns

from bench.chain import address, mac, plant, udp_frame
from manystack.core import Switch

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
        rows = [plant(switch, routers) for _ in range(chains)]
        for row in rows:
            for index, node in enumerate(row.nodes):
                for number in range(routes):
                    switch.add_route(node, FIRST_PREFIX + (number << 8), PREFIX_LENGTH, address(index + 1, 2))
            row.introduce_sink(switch)
        switch.run(switch.now_ns)
        sources = [row.source for row in rows]
        order = random.Random(SEED)
        destinations = [FIRST_PREFIX + (number << 8) + 1 for number in range(routes)]
        frames = [
            [udp_frame(mac(0, 1), address(0, 1), order.choice(destinations)) for _ in range(vector)]
            for _ in range(64 if routes > 1 else 1)
        ]
        if routes == 1:
            frames = [frames[0][:1]]
        forest = Forest(switch, sources, [row.pipes[-1][0] for row in rows], frames, routers, vector)
        for (
            source
        ) in sources:  # the neighbors of each chain find each other, by one packet that waits for them
            switch.inject(source, frames[0][0])
        switch.run(switch.now_ns)
        yield forest
    finally:
        switch.close()
