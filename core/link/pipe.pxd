# One direction of a link: queue, transmitter, wire, delay line.
#
# The transmitter takes the next packet at start = max(logical arrival, last departure); departure = start +
# bits / bandwidth; arrival = departure + delay. The departure is exact: whole nanoseconds and a carried
# remainder in 1/bandwidth nanoseconds. `bits` are those of the Ethernet frame without preamble, gap and
# checksum, plus the overhead. The queue is what has not started service; it drops at the tail. A lost packet
# is lost on the wire, after the transmitter, so it has used its bandwidth. Order holds: an arrival never
# comes before the one in front of it.
#
# With a drop-tail FIFO all of this is known when a packet comes in, so it is computed there: such a pipe is
# plain. A change of bandwidth or delay computes what has not started service again. On a change of bandwidth
# the carried remainder is rounded up to a whole nanosecond. A pipe that is asked for anything else gets a
# shaper (shaper.pxd), and keeps it.

from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from ..machine.platform cimport is_likely, is_unlikely
from ..machine.random cimport random_happens
from ..observe.capture cimport capture_begin, capture_end, capture_link_drop
from ..packet.packet cimport packet_release
from ..packet.segment cimport wire_segments
from ..state.network cimport (
    Interface, OBSERVE_CAPTURE, Pipe, WAY_BRIDGED, WAY_IDEAL, WAY_SHAPED, WAY_SPECIAL, Worker,
)
from ..state.packets cimport Packet
from ..state.reasons cimport LINK_DOWN, LINK_LOOP, LINK_LOSS, LINK_QUEUE_FULL
from .crossing cimport is_bridge, next_round, packet_crosses
from .line cimport pipe_append, pipe_append_vector, pipe_make_room, pipe_serve_until, pipe_take_service
from .shaper cimport shaper_send
from .transmitter cimport transmit_next, transmitter_is_busy
from .whole cimport pipe_carries_whole, pipe_segment, pipe_send_whole


cdef inline Pipe *pipe_reverse(Pipe *pipe) noexcept nogil:
    """The other direction of the link: the two stand side by side."""
    return pipe - 1 if pipe.index & 1 else pipe + 1


cdef inline bint pipe_is_ideal(Pipe *pipe) noexcept nogil:
    return pipe.bandwidth_bps == 0 and pipe.delay_ns == 0 and pipe.loss_threshold == 0 and pipe.shaper is NULL


cdef inline void pipe_find_way(Pipe *pipe) noexcept nogil:
    """After a change, choose how pipe_send() goes about the pipe."""
    if not pipe.up or pipe.observed & OBSERVE_CAPTURE:
        pipe.way = WAY_SPECIAL
    elif pipe_is_ideal(pipe) and pipe.head == pipe.tail:
        pipe.way = WAY_BRIDGED if is_bridge(pipe.sender.node) else WAY_IDEAL
    else:  # an ideal pipe, too, as long as what comes next could overtake what is under way
        pipe.way = WAY_SHAPED


cdef inline void pipe_init(
    Pipe *pipe, uint32_t index, Interface *sender, Interface *receiver, uint64_t seed
) noexcept nogil:
    memset(pipe, 0, sizeof(Pipe))
    pipe.index = index
    pipe.sender = sender
    pipe.receiver = receiver
    pipe.up = 1
    pipe.departure_ns = -1
    pipe.random_state = seed
    pipe.queue_limit_packets = pipe.queue_limit_bytes = UINT64_MAX
    pipe.cached_length = 0xFFFFFFFFu
    pipe_find_way(pipe)
    sender.output = pipe
    receiver.input = pipe


cdef inline void pipe_end_loop(Worker *worker, Pipe *pipe, Packet *packet, int64_t time_ns) noexcept nogil:
    """Drop what bridges pass on to each other without end."""
    pipe.loop_drop_packets += wire_segments(packet)
    capture_link_drop(worker, pipe, packet, LINK_LOOP, time_ns)
    packet_release(&worker.pool, packet)


cdef inline void pipe_shape(Worker *worker, Pipe *pipe, Packet *packet, int64_t time_ns) noexcept nogil:
    """Send a packet over a pipe that is up and has something to compute."""
    cdef uint32_t length = packet.total_length
    cdef bint waits = False
    cdef int64_t start_ns = time_ns
    cdef int64_t arrival_ns = time_ns
    cdef uint64_t start_remainder = 0
    if is_unlikely(pipe.shaper is not NULL):
        shaper_send(worker, pipe, packet, time_ns)
        return
    if pipe.bandwidth_bps:
        pipe_serve_until(pipe, time_ns)
        waits = transmitter_is_busy(pipe, time_ns)
        if waits and (
            pipe.tail - pipe.service >= pipe.queue_limit_packets
            or pipe.queue_bytes + length > pipe.queue_limit_bytes
        ):
            pipe.queue_drop_packets += 1
            capture_link_drop(worker, pipe, packet, LINK_QUEUE_FULL, time_ns)
            packet_release(&worker.pool, packet)
            return
        start_ns = transmit_next(pipe, length, time_ns, waits, &start_remainder)
        arrival_ns = pipe.departure_ns
    elif pipe.delay_ns == 0 and time_ns > pipe.last_arrival_ns:
        pipe_find_way(pipe)
    arrival_ns += pipe.delay_ns
    if arrival_ns < pipe.last_arrival_ns:
        arrival_ns = pipe.last_arrival_ns
    if random_happens(&pipe.random_state, pipe.loss_threshold):
        pipe.loss_packets += 1
        capture_link_drop(worker, pipe, packet, LINK_LOSS, time_ns)
        packet_release(&worker.pool, packet)
        if not waits:
            return
        packet = NULL
    elif arrival_ns > time_ns:
        packet.crossings = 0
        packet.turns = 0
    elif is_unlikely(not packet_crosses(worker, pipe, packet)):
        pipe_end_loop(worker, pipe, packet, time_ns)
        return
    if packet is not NULL:
        pipe.last_arrival_ns = arrival_ns
    if pipe.bandwidth_bps:
        pipe_make_room(pipe, 1)
        pipe_take_service(pipe, pipe.tail, length, waits, start_ns, start_remainder)
    if packet is NULL:
        pipe.ring[pipe.tail & (pipe.capacity - 1)].packet = NULL
        pipe.ring[pipe.tail & (pipe.capacity - 1)].arrival_ns = arrival_ns
        pipe.tail += 1
    else:
        pipe_append(worker, pipe, packet, arrival_ns)


cdef inline void pipe_send_special(
    Worker *worker, Pipe *pipe, Packet *packet, int64_t time_ns
) noexcept nogil:
    """Send over a special pipe, or a super-frame: as the segments of the wire, each with its own time and
    fate, or whole.
    """
    cdef uint32_t segments, i
    cdef Packet *segment
    if packet.segment_size:
        segments = wire_segments(packet)
        if pipe_carries_whole(pipe, packet, segments, time_ns):
            pipe_send_whole(worker, pipe, packet, segments, time_ns)
            return
        for i in range(segments):
            segment = pipe_segment(worker, pipe, packet, i, segments)
            if segment is not NULL:
                pipe_send_special(worker, pipe, segment, time_ns)
        packet_release(&worker.pool, packet)
        return
    capture_begin(worker, pipe, packet, time_ns)
    if pipe.up:
        pipe_shape(worker, pipe, packet, time_ns)
    else:
        pipe.down_drop_packets += 1
        capture_link_drop(worker, pipe, packet, LINK_DOWN, time_ns)
        packet_release(&worker.pool, packet)
    capture_end(worker)


cdef inline void pipe_send(Worker *worker, Pipe *pipe, Packet *packet, int64_t time_ns) noexcept nogil:
    """Hand a packet to the link at its logical time; the caller's claim goes with it."""
    if is_likely(pipe.way == WAY_IDEAL):
        packet.crossings = next_round(worker)
        pipe_append(worker, pipe, packet, time_ns)
    elif is_likely(
        pipe.way == WAY_SHAPED and (
            packet.segment_size == 0
            or (pipe.bandwidth_bps == 0 and pipe.loss_threshold == 0 and pipe.shaper is NULL)
        )
    ):
        pipe_shape(worker, pipe, packet, time_ns)
    elif pipe.way != WAY_BRIDGED:
        pipe_send_special(worker, pipe, packet, time_ns)
    elif packet_crosses(worker, pipe, packet):
        pipe_append(worker, pipe, packet, time_ns)
    else:
        pipe_end_loop(worker, pipe, packet, time_ns)


cdef inline void pipe_send_vector(Worker *worker, Pipe *pipe, Packet **vector, uint32_t count) noexcept nogil:
    """pipe_send() for one packet after the other, each at its logical time."""
    cdef uint32_t i
    if is_likely(pipe.way == WAY_IDEAL):
        pipe_append_vector(worker, pipe, vector, count)
    else:
        for i in range(count):
            pipe_send(worker, pipe, vector[i], vector[i].time_ns)
