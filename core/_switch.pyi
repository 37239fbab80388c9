"""The compiled engine as Python sees it. Indices are small integers, times nanoseconds since start."""

from collections.abc import Callable, Sequence
from typing import Final, TypedDict

NEVER: Final[int]

HOST: Final[int]
ROUTER: Final[int]
SWITCH: Final[int]
HUB: Final[int]
TAP: Final[int]
NIC: Final[int]
PORT: Final[int]

FLOW_DONE: Final[int]
LINK_CHANGED: Final[int]
NEIGHBOR_FAILED: Final[int]
DEVICE_GONE: Final[int]

EVENT_RING: Final[int]
CAPTURE_RING: Final[int]

DROP_REASONS: Final[tuple[str, ...]]
DISCIPLINES: Final[tuple[str, ...]]
LOOPBACK: Final[int]
"""Plus a node's index: that of its loopback interface, and of the pipe there."""
LONGEST_NS: Final[int]
"""The longest delay, interval or trace: what may be added to a time."""
LATE_ABOVE_NS: Final[int]
LATE_ABOVE_PERCENT: Final[int]
CAPTURE_REASONS: Final[tuple[str, ...]]
"""What a captured frame was dropped for: by the reason in its CaptureHeader (records.pxd), less one."""
LONGEST_FRAME: Final[int]
"""Bytes of the longest frame that the engine carries, VLAN tags included."""

class PipeStatistics(TypedDict):
    """Exact at the moment of the call: sent + duplicate = delivered + every drop and loss + in_flight.

    The last two tell what RED and PIE have learned: the average of the queue (RED), and the probability
    with which the next packet is dropped that they judge.
    """

    sent_packets: int
    sent_bytes: int
    delivered_packets: int
    delivered_bytes: int
    queue_drop_packets: int
    early_drop_packets: int
    loss_packets: int
    down_drop_packets: int
    loop_drop_packets: int
    in_flight_packets: int
    waiting_packets: int
    waiting_bytes: int
    marked_packets: int
    duplicate_packets: int
    corrupted_packets: int
    reordered_packets: int
    average_bytes: int
    drop_probability: float

class Shaping(TypedDict, total=False):
    """What a pipe does beyond bandwidth, overhead, delay, random loss and a drop-tail queue; absent: not.

    Probabilities and correlations are 0 to 1. A distribution is (probabilities, values): its quantile
    function by points, both rising, the probabilities from 0 to 1, values in ns. Each is told at the
    head of its file in core/link/queues or core/link/impairments.
    """

    discipline: str
    ecn: bool
    gentle: bool
    drops_head: bool
    flows: int
    quantum_bytes: int
    rate_bps: int
    weights: Sequence[int]
    target_ns: int
    interval_ns: int
    burst_ns: int
    alpha_microhertz: int
    beta_microhertz: int
    caps: bool
    derandomizes: bool
    turns_off: bool
    least_bytes: int
    most_bytes: int
    probability: float
    average_shift: int
    mask: tuple[bytes, bytes, int, int, int, int, int]
    cell_bytes: int
    cell_overhead_bytes: int
    burst_bytes: int
    rates: tuple[Sequence[int], Sequence[int], int]
    opportunities: tuple[Sequence[int], int, int]
    airtime: tuple[Sequence[float], Sequence[int]]
    airtime_loss_above: float
    loss_model: str
    loss_chain: Sequence[float]
    loss_fates: bytes
    loss_correlation: float
    loss_marks: bool
    bit_error: float
    duplicate: float
    duplicate_correlation: float
    corrupt: float
    corrupt_correlation: float
    reorder: float
    reorder_correlation: float
    reorder_gap: int
    jitter: tuple[Sequence[float], Sequence[int]]
    jitter_correlation: float
    jitter_overtakes: bool
    slots: tuple[Sequence[float], Sequence[int]]
    slots_packets: int
    slots_bytes: int

class Lateness(TypedDict):
    """How late the packets of a pipe were handled; late_packets: by more than LATE_ABOVE_NS.

    `buckets` are (least ns, packets), four for each factor of two, those that are not empty.
    """

    late_packets: int
    worst_ns: int
    buckets: list[tuple[int, int]]

class InterfaceStatistics(TypedDict):
    """Frames and bytes that an interface took from its link and gave to it."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    capture_lost_packets: int

class EngineStatistics(TypedDict):
    """Counters of the engine as a whole."""

    hop_packets: int
    vectors: int
    copied_bytes: int
    captured_bytes: int
    packets_in_use: int
    pool_bytes: int
    pool_drop_packets: int
    device_read_packets: int
    device_write_packets: int
    device_write_drop_packets: int
    lost_events: int

class PingReply(TypedDict):
    """One answer to an echo request: from whom, what ICMP type and code, after what time (ns)."""

    sequence: int
    responder: int
    icmp_type: int
    icmp_code: int
    ttl: int
    rtt_ns: int

class FlowStatistics(TypedDict):
    """What a flow has done so far. Delays are ns (ping: round trip; UDP: one way), None without a sample."""

    kind: str
    done: bool
    sent_packets: int
    sent_bytes: int
    received_packets: int
    received_bytes: int
    reordered_packets: int
    unreachable_packets: int
    first_sent_ns: int | None
    last_sent_ns: int | None
    first_received_ns: int | None
    last_received_ns: int | None
    delay_min_ns: int | None
    delay_median_ns: int | None
    delay_p99_ns: int | None
    delay_max_ns: int | None

class Switch:
    """One engine: nodes, interfaces, pipes, flows, and the clock they share.

    Every method raises ValueError with a sentence for an index or a value out of range, and RuntimeError
    after close(). In real time, once start() has been called, methods are served by the data path's thread
    between two vectors; they may be called from any one thread at a time.
    """

    def __init__(
        self,
        *,
        real_time: bool = False,
        dilation: int = 1,
        pool_limit_bytes: int = 1 << 30,
        ring_bytes: int = 1 << 27,
        judged_ns: int = 1_000_000_000,
        proof: bool = False,
    ) -> None: ...
    def close(self) -> None: ...

    # Building: before start(), or between two run() calls.
    def add_node(self, kind: int) -> int: ...
    def add_interface(self, node: int, mac: bytes, mtu: int = 1500) -> int: ...
    def loopback(self, node: int) -> int:
        """Return the index of a node's loopback interface, and of its pipe; it is made on first use."""

    def loopbacks(self) -> list[int]:
        """Return the indices of the loopback interfaces that have been made."""

    def add_address(self, interface: int, address: int, prefix_length: int) -> None: ...
    def add_link(
        self, interface_a: int, interface_b: int, seed_ab: int = 0, seed_ba: int = 0
    ) -> tuple[int, int]: ...
    # takes_udp: whether the kernel behind the device cuts UDP super-frames; else they are not made.
    def attach_tap(self, node: int, fd: int, *, takes_udp: bool = True) -> None: ...
    def attach_nic(self, node: int, fd: int, *, takes_udp: bool = True) -> None: ...

    # Live changes.
    def set_pipe(
        self,
        pipe: int,
        *,
        bandwidth_bps: int = 0,
        overhead_bytes: int = 0,
        delay_ns: int = 0,
        loss: float = 0.0,
        queue_limit_packets: int | None = None,
        queue_limit_bytes: int | None = None,
        shaping: Shaping | None = None,
    ) -> None: ...
    def is_device_gone(self, node: int) -> bool: ...
    def set_link_up(self, pipe: int, up: bool) -> None: ...
    def add_route(self, node: int, prefix: int, prefix_length: int, gateway: int | None) -> None: ...
    def delete_route(self, node: int, prefix: int, prefix_length: int) -> bool: ...

    # What is there.
    def routes(self, node: int) -> list[tuple[int, int, str, int | None, int | None]]: ...
    def lookup(self, node: int, address: int) -> tuple[str, int | None, int | None]: ...
    def neighbors(self, node: int) -> list[tuple[int, int, bytes | None, str, int]]: ...
    def mac_table(self, node: int) -> list[tuple[bytes, int, int]]: ...

    # Flows.
    def add_ping(
        self,
        node: int,
        destination: int,
        *,
        interval_ns: int,
        count: int,
        size_bytes: int = 56,
        start_ns: int = 0,
        stop_ns: int = NEVER,
        timeout_ns: int = 5_000_000_000,
        ttl: int = 64,
        probes_per_ttl: int = 0,
        keep_replies: bool = False,
    ) -> int: ...
    def add_udp(
        self,
        node: int,
        destination: int,
        *,
        rate_bps: int,
        size_bytes: int,
        start_ns: int = 0,
        stop_ns: int = NEVER,
        sink: int | None = None,
    ) -> int: ...
    def flow(self, flow: int, *, quantiles: bool = True) -> FlowStatistics: ...
    def take_replies(self, flow: int) -> list[PingReply]: ...
    def stop_flow(self, flow: int) -> None: ...
    def remove_flow(self, flow: int) -> None: ...

    # UDP ports of a node that answer by themselves (RFC 862), up to a number of datagrams; counts are
    # (received, answered). Used by tests, for conversations that no Python takes part in.

    def open_echo(self, node: int, port: int, *, limit_packets: int | None = None) -> None: ...
    def begin_echo(
        self, node: int, port: int, destination: int, destination_port: int, *, size_bytes: int = 18
    ) -> None: ...
    def echo_counts(self, node: int, port: int) -> tuple[int, int]: ...

    # Frames by hand: PORT nodes only. Used by tests and benchmarks, which stand where a wire would.
    def inject(self, node: int, frame: bytes, count: int = 1, vnet_header: bytes | None = None) -> int: ...
    def take_frames(self, node: int) -> list[tuple[int, bytes]]: ...
    def discard_frames(self, node: int, discard: bool) -> None: ...

    # Time.
    @property
    def now_ns(self) -> int: ...
    @property
    def next_event_ns(self) -> int | None: ...
    def run(self, until_ns: int, *, stop_on_event: bool = False, wall_limit_ns: int = 0) -> bool: ...
    def settle(self) -> None:
        """Bring all nodes to one time after a run that was left midway, as every change does first.

        After a second of real time it is left where it stands, and unsettled_calls counts one more.
        """

    @property
    def unsettled_calls(self) -> int:
        """How often a call found nodes at different times: an instant had more to do than a second allows."""
    def start(self) -> None: ...
    def stop(self) -> None: ...
    @property
    def event_fd(self) -> int:
        """An eventfd that is readable once something was posted.

        The engine never resets it: who waits for it reads it, and takes the events after that, so that none
        is posted unnoticed in between.
        """
    def take_events(self) -> list[tuple[int, int, int]]:
        """Return (time, kind, index) of what was posted since the last call, in the order in which it was.

        Where nodes have run ahead of each other, that need not be the order of time. In real time so many
        wait as there is room for, at least 8,192; what is beyond is lost.
        """
    @property
    def lost_events(self) -> int:
        """How many events were lost. event_fd tells of that too: then look up what they are about."""

    # Records: what the data path tells in full, by a ring of bytes for each kind of reader.
    def take_records(self, ring: int) -> bytes:
        """Return all records that are there.

        Each is a length (4 bytes, little-endian), a kind (4), as many bytes as the length says, and zeros up
        to a multiple of 8. One thread at a time reads a ring, while the data path runs or not. In real time a
        record for which a ring has no room is lost; in virtual time none is.
        """
    @property
    def recorded_ns(self) -> int:
        """All that is recorded from now on is at this time or later."""
    def lost_records(self, ring: int) -> int: ...
    def ring_fd(self, ring: int) -> int:
        """An eventfd that is readable once there are records after a take_records() that gave none.

        As for event_fd, who waits for it reads it, and takes the records after that.
        """
    @property
    def drain(self) -> Callable[[], None] | None:
        """Called within run() when a ring is half full, to take the records of every ring that is read.

        It may call nothing of this engine but take_records() and lost_records(). Without it, rings grow.
        """
    @drain.setter
    def drain(self, drain: Callable[[], None] | None) -> None: ...
    # Both directions of an interface, the first bytes of each frame; 0 ends it: CaptureHeader in records.pxd.
    def capture(self, interface: int, snap_bytes: int) -> None: ...
    # By every pipe from now on, in its order: EventHeader in records.pxd, up to 128 bytes. Needs proof=True.
    def tell_arrivals(self) -> None: ...

    # Counters.
    def statistics(self) -> EngineStatistics: ...
    def pipe_statistics(self, pipe: int) -> PipeStatistics: ...
    def pipe_proof(self, pipe: int) -> tuple[int, int]:
        """Return the hash (64 bits) of all that has arrived by the pipe, and how many packets that was.

        A super-frame counts once. Both are 0 unless the switch was made with proof=True.
        """
    def lateness(self, pipe: int) -> Lateness | None:
        """None where nothing is measured: virtual time, a pipe without delay, or without a packet so far."""

    def device_lateness(self, node: int) -> Lateness | None:
        """How long frames of a TAP or NIC have waited to be read, as far as it is known; None without one."""

    def late_stretches(
        self, since_ns: int = 0, *, under_way: bool = True
    ) -> list[tuple[int | None, int | None, int, int, int, int, int]]:
        """(pipe, node, from ns, until ns, packets, late packets, worst ns) of stretches after `since_ns`.

        Of a pipe, or of the device of a node; the other is None.

        They join degraded seconds (judged_ns), in which more than LATE_ABOVE_PERCENT of a pipe's packets
        are late; the one under way is judged as if it ended now, or left out.
        """

    def interface_statistics(self, interface: int) -> InterfaceStatistics: ...
    def node_drops(self, node: int) -> dict[str, int]: ...
    def memory_bytes(self, node: int) -> int:
        """Bytes that a node has taken: its context, interfaces and tables, and the pipes that it sends over.

        A pipe is its line, and what its shaper holds: settings, queues, places for what waits, and tables of
        distributions and recordings. Pipes share those; each counts in full with every pipe that has it, so
        that what others do changes nothing here. Packets are the pool's, and not counted.
        """
