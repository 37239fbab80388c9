"""Ping and traceroute from a virtual node: flows of the engine that a coroutine waits for."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from types import TracebackType
from typing import TYPE_CHECKING, Self

from manystack.errors import UsageError
from manystack.loop import SECOND_NS
from manystack.network import Network
from manystack.ping import Ping
from manystack.results import TIME_EXCEEDED, Hop, PingResult, Reply, TracerouteResult
from manystack.topology.document.quantity import parse_duration, parse_size

if TYPE_CHECKING:
    from manystack.core._switch import FlowStatistics

LOOK_NS = 20_000_000
"""How often a running ping is asked for new answers in real time."""


def duration_ns(value: str | int, place: str) -> int:
    """Return ns of a duration given as text with its unit, or as ns. Raises UsageError with the place."""
    try:
        duration = value if isinstance(value, int) else parse_duration(value)
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from None
    if duration < 0:
        raise UsageError(f"{place}: a duration cannot be negative")
    return duration


def size_bytes(value: str | int, place: str) -> int:
    """Return bytes of a size given as text with its unit, or as bytes. Raises UsageError with the place."""
    try:
        return value if isinstance(value, int) else parse_size(value)
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from None


REPLIES_AT_ONCE = 20_000
"""The engine keeps three times as many; a longer ping is asked in between."""


class Probe:
    """A flow of echo requests of its own, removed when the block ends."""

    def __init__(
        self,
        network: Network,
        node: int,
        destination: IPv4Address,
        asked: Ping,
        *,
        probes_per_ttl: int = 0,
    ) -> None:
        self._network = network
        self.destination = destination
        self.size_bytes = size_bytes(asked.size, "size")
        self.replies: list[Reply] = []
        self._interval_ns = duration_ns(asked.interval, "interval")
        self._began_ns = network.now_ns
        try:
            self._flow = network.switch.add_ping(
                node,
                int(destination),
                interval_ns=self._interval_ns,
                count=asked.count,
                size_bytes=self.size_bytes,
                start_ns=self._began_ns,
                timeout_ns=duration_ns(asked.timeout, "timeout"),
                ttl=asked.ttl,
                probes_per_ttl=probes_per_ttl,
                keep_replies=True,
            )
        except ValueError as error:
            raise UsageError(str(error)) from None
        self._done = network.watch_flow(self._flow, network.wiring.node_names[node])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._network.remove_flow(self._flow)

    def statistics(self) -> "FlowStatistics":
        """Return the flow's counters."""
        return self._network.switch.flow(self._flow, quantiles=False)

    async def finish(self) -> None:
        """Wait until all requests are answered or given up."""
        while not await self._wait(self._interval_ns * REPLIES_AT_ONCE):
            self._collect()
        self._collect()

    async def answers(self) -> AsyncIterator[Reply]:
        """Give each answer soon after it came, until all requests are answered or given up."""
        look_ns = self._interval_ns if self._network.is_virtual else LOOK_NS
        done = False
        while not done:
            done = await self._wait(look_ns)
            for reply in self._collect():
                yield reply

    def result(self) -> PingResult:
        """Return what is known so far."""
        statistics = self.statistics()
        return PingResult(
            self.destination,
            statistics["sent_packets"],
            statistics["received_packets"],
            tuple(self.replies),
            self._network.now_ns - self._began_ns,
        )

    async def _wait(self, longest_ns: int) -> bool:
        await asyncio.wait([self._done], timeout=longest_ns / SECOND_NS)
        return self._done.done()

    def _collect(self) -> list[Reply]:
        fresh = [
            Reply(
                sequence=reply["sequence"],
                responder=IPv4Address(reply["responder"]),
                icmp_type=reply["icmp_type"],
                icmp_code=reply["icmp_code"],
                ttl=reply["ttl"],
                rtt_ns=reply["rtt_ns"],
            )
            for reply in self._network.switch.take_replies(self._flow)
        ]
        self.replies += fresh
        return fresh


def trace(destination: IPv4Address, sent: int, replies: list[Reply], probes: int) -> TracerouteResult:
    """Sort the answers to a sweep of `sent` requests into hops, up to the first that is not just a router."""
    by_number = {reply.sequence: reply for reply in replies}
    hops = []
    for start in range(0, sent, probes):
        answers = tuple(by_number.get(start + offset) for offset in range(probes))
        hops.append(Hop(1 + start // probes, answers))
        if any(answer is not None and answer.icmp_type != TIME_EXCEEDED for answer in answers):
            break
    return TracerouteResult(destination, tuple(hops))
