# Super-frames that a link with bandwidth and delay carries whole.
#
# Where a device comes next, whoever cuts a super-frame only has its segments joined again. So one that is
# soon over arrives there with its last segment. Queue and transmitter have all of its segments nonetheless,
# each with a place in the line: in the first stands the frame, with the arrival of the last segment; in every
# other, as if what stands there had been lost, the arrival of the segment before. A change of the link meets
# segments: they take their places then.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..observe.drops cimport count_drop
from ..observe.lateness cimport is_device
from ..packet.packet cimport packet_release
from ..packet.segment cimport packet_segment, segment_bytes, wire_bytes, wire_segments
from ..state.network cimport Pipe, PipeEntry, WAY_SHAPED, Worker
from ..state.packets cimport CARRIED_WHOLE, Packet
from ..state.reasons cimport DROP_POOL_EMPTY
from .crossing cimport next_round
from .line cimport pipe_append, pipe_make_room, pipe_serve_until, pipe_take_service
from .rate_trace cimport NANOBITS_IN_BYTE
from .transmitter cimport transmit_next, transmitter_is_busy

cdef enum:
    # for each byte of it, so that it is over within 60 µs: 64 KiB take 54 at 10 Gbit/s
    LEAST_BPS = 133334


cdef inline Packet *pipe_segment(
    Worker *worker, Pipe *pipe, Packet *packet, uint32_t number, uint32_t segments
) noexcept nogil:
    """packet_segment() for a link whose sender has counted all of them.

    NULL, counted: never sent after all.
    """
    cdef Packet *segment = packet_segment(&worker.pool, packet, number, segments)
    if segment is NULL:
        count_drop(pipe.sender.node, DROP_POOL_EMPTY)
        pipe.sender.tx_packets -= 1
        pipe.sender.tx_bytes -= segment_bytes(packet, number)
    return segment


cdef inline bint pipe_carries_whole(
    Pipe *pipe, Packet *packet, uint32_t segments, int64_t time_ns
) noexcept nogil:
    """Whether a super-frame may arrive with its last segment: at a device, soon after the first, and if
    nothing can be lost of it.
    """
    cdef uint64_t bytes = wire_bytes(packet)
    if (
        pipe.way != WAY_SHAPED or pipe.bandwidth_bps == 0 or pipe.shaper is not NULL or pipe.loss_threshold
        or pipe.overhead_bytes < 0 or not is_device(pipe.receiver.node)
    ):
        return False
    # Each segment, of which the last is the shortest, takes a nanosecond or more: none arrives before it has
    # started, or at once.
    if (
        segment_bytes(packet, segments - 1) + <uint64_t>pipe.overhead_bytes
        <= pipe.bandwidth_bps // NANOBITS_IN_BYTE
        or bytes + <uint64_t>segments * <uint32_t>pipe.overhead_bytes > pipe.bandwidth_bps // LEAST_BPS
    ):
        return False
    pipe_serve_until(pipe, time_ns)
    return (
        pipe.tail - pipe.service + <uint64_t>segments <= pipe.queue_limit_packets
        and pipe.queue_bytes + bytes <= pipe.queue_limit_bytes
    )


cdef inline void pipe_send_whole(
    Worker *worker, Pipe *pipe, Packet *packet, uint32_t segments, int64_t time_ns
) noexcept nogil:
    """Send a super-frame that is carried whole."""
    cdef uint32_t first, i
    cdef uint64_t start_remainder = 0
    cdef int64_t start_ns
    cdef bint waits
    pipe_make_room(pipe, segments)
    first = pipe.tail
    for i in range(segments):
        waits = transmitter_is_busy(pipe, time_ns)
        pipe.ring[(first + i) & (pipe.capacity - 1)].packet = NULL
        pipe.ring[(first + i) & (pipe.capacity - 1)].arrival_ns = pipe.last_arrival_ns
        start_ns = transmit_next(pipe, segment_bytes(packet, i), time_ns, waits, &start_remainder)
        pipe_take_service(pipe, first + i, segment_bytes(packet, i), waits, start_ns, start_remainder)
        if pipe.departure_ns + pipe.delay_ns > pipe.last_arrival_ns:
            pipe.last_arrival_ns = pipe.departure_ns + pipe.delay_ns
    packet.crossings = 0
    packet.header_state |= CARRIED_WHOLE
    pipe_append(worker, pipe, packet, pipe.last_arrival_ns)
    pipe.tail = first + segments


cdef inline bint pipe_unfold(Worker *worker, Pipe *pipe) noexcept nogil:
    """Let the segments of what is carried whole take their places; whether there was any, so that the
    receiving node's events are to be collected anew.

    What would have arrived already does so now, whatever happens to the link.
    """
    cdef bint found = False
    cdef bint arrived
    cdef uint32_t mask = pipe.capacity - 1
    cdef uint32_t place = pipe.head
    cdef uint32_t segments, i
    cdef int64_t last_ns
    cdef Packet *packet
    cdef Packet *segment
    cdef PipeEntry *entry
    while place != pipe.tail:
        packet = pipe.ring[place & mask].packet
        if packet is NULL or packet.segment_size == 0 or not packet.header_state & CARRIED_WHOLE:
            place += 1
            continue
        found = True
        packet.header_state &= ~CARRIED_WHOLE & 0xFF
        segments = wire_segments(packet)
        last_ns = pipe.ring[place & mask].arrival_ns
        for i in range(segments):
            entry = &pipe.ring[(place + i) & mask]
            entry.arrival_ns = pipe.ring[(place + i + 1) & mask].arrival_ns if i + 1 < segments else last_ns
            arrived = entry.arrival_ns <= worker.instant_ns
            if arrived:
                entry.arrival_ns = worker.instant_ns
            segment = pipe_segment(worker, pipe, packet, i, segments)
            entry.packet = segment
            if segment is NULL:
                continue
            if arrived:
                segment.crossings = next_round(worker)
                segment.header_state |= CARRIED_WHOLE
            else:
                segment.crossings = 0
        packet_release(&worker.pool, packet)
        place += segments
    return found
