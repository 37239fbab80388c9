# Live changes of a pipe: its bandwidth and delay, its shaping, up and down. What has not started service is
# computed again; what is under way keeps its fate.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from ..machine.platform cimport must_resize
from ..observe.capture cimport capture_link_drop
from ..packet.packet cimport packet_release
from ..packet.segment cimport wire_segments
from ..state.network cimport Pipe, PipeEntry, Waiting, Worker
from ..state.packets cimport CARRIED_WHOLE, Packet
from ..state.reasons cimport LINK_DOWN
from ..state.shapers cimport FATE_SPARED, Shaper
from .crossing cimport next_round
from .line cimport pipe_close_up, pipe_serve_until
from .lookahead cimport node_find_events, node_find_lookahead
from .pipe cimport pipe_find_way
from .queues.discipline cimport discipline_enqueue
from .shaper cimport shaper_arm, shaper_cut, shaper_new, shaper_serve, shaper_set, shaper_settle
from .transmitter cimport transmit, transmitter_is_busy, transmitter_round_up
from .whole cimport pipe_unfold

cdef enum:
    # of idleness, after which the largest bucket is full at the least bandwidth
    BURST_LONGEST_NS = 100000000000000000


cdef inline void pipe_set_timing(
    Worker *worker, Pipe *pipe, uint64_t bandwidth_bps, int32_t overhead_bytes, int64_t delay_ns,
    int64_t now_ns
) noexcept nogil:
    """Change what decides departures and arrivals; it counts from the next packet that starts service."""
    cdef uint64_t old_bandwidth_bps = pipe.bandwidth_bps
    cdef int64_t arrival_ns = now_ns
    cdef uint32_t i
    cdef bint under_way
    cdef Waiting *place
    cdef PipeEntry *entry
    if old_bandwidth_bps:
        pipe_serve_until(pipe, now_ns)
    else:
        pipe.service = pipe.tail
    if pipe.service != pipe.tail:  # the transmitter's time is when the first that waits would have started
        place = &pipe.waiting[pipe.service & (pipe.capacity - 1)]
        pipe.departure_remainder = place.remainder
        pipe.departure_ns = place.start_ns - (place.remainder != 0)
    if bandwidth_bps != old_bandwidth_bps:
        transmitter_round_up(pipe)
    pipe.bandwidth_bps = bandwidth_bps
    pipe.overhead_bytes = overhead_bytes
    pipe.delay_ns = delay_ns
    pipe.cached_length = 0xFFFFFFFFu
    if bandwidth_bps and pipe.waiting is NULL and pipe.capacity:
        pipe.waiting = <Waiting *>must_resize(NULL, pipe.capacity * sizeof(Waiting))
    # What was lost may have left the line already and still takes its turn in the transmitter. So does, on a
    # very quick pipe, what has arrived at the whole nanosecond before its exact start.
    i = pipe.head if <int32_t>(pipe.service - pipe.head) > 0 else pipe.service
    while i != pipe.tail:
        entry = &pipe.ring[i & (pipe.capacity - 1)]
        under_way = <int32_t>(i - pipe.head) >= 0 and entry.packet is not NULL
        if <int32_t>(i - pipe.service) >= 0:
            place = &pipe.waiting[i & (pipe.capacity - 1)]
            place.start_ns = pipe.departure_ns + (pipe.departure_remainder != 0)
            place.remainder = pipe.departure_remainder
            if bandwidth_bps:
                transmit(pipe, &pipe.departure_ns, &pipe.departure_remainder, place.length)
            if under_way:
                entry.arrival_ns = pipe.departure_ns + delay_ns
                if entry.arrival_ns < arrival_ns:
                    entry.arrival_ns = arrival_ns
                entry.packet.crossings = 0
                entry.packet.turns = 0
                if entry.arrival_ns == worker.instant_ns:
                    entry.packet.crossings = next_round(worker)
        if under_way:
            arrival_ns = entry.arrival_ns
        i += 1
    pipe.last_arrival_ns = arrival_ns
    if bandwidth_bps == 0:
        pipe.service = pipe.tail
        pipe.queue_bytes = 0
    pipe_find_way(pipe)
    node_find_lookahead(pipe.receiver.node)
    node_find_events(worker, pipe.receiver.node)


cdef inline void pipe_begin_shaping(Worker *worker, Pipe *pipe) noexcept nogil:
    """Give a plain pipe a shaper: what waits in its line waits there.

    Its fate was drawn when it came, and stays: what was lost takes no more time, and no loss meets the rest
    again.
    """
    cdef Shaper *shaper = shaper_new(pipe)
    cdef uint32_t mask = pipe.capacity - 1
    cdef uint32_t end = pipe.tail
    cdef uint32_t i = pipe.service
    cdef Packet *packet
    pipe.shaper = shaper
    if i != end:
        pipe.departure_ns = pipe.waiting[i & mask].start_ns - (pipe.waiting[i & mask].remainder != 0)
        pipe.departure_remainder = pipe.waiting[i & mask].remainder
        if <int32_t>(i - pipe.head) < 0:
            i = pipe.head
        pipe.tail = i
    while i != end:
        packet = pipe.ring[i & mask].packet
        if packet is not NULL:
            packet.time_ns = worker.instant_ns
            packet.crossings = FATE_SPARED
            discipline_enqueue(worker, pipe, packet, False)
        i += 1
    pipe.queue_bytes = 0
    pipe_close_up(pipe)
    pipe.last_arrival_ns = worker.instant_ns
    if pipe.head != pipe.tail:
        pipe.last_arrival_ns = pipe.ring[(pipe.tail - 1) & mask].arrival_ns
    node_find_events(worker, pipe.receiver.node)


cdef inline void pipe_shape_as(
    Worker *worker, Pipe *pipe, Shaper *wanted, uint64_t bandwidth_bps, int32_t overhead_bytes,
    int64_t delay_ns, int64_t now_ns
) noexcept nogil:
    """Change all that a pipe with a shaper, or one that gets it now, does; it counts from the next packet
    that starts service.
    """
    cdef bint filled
    if pipe.shaper is NULL:
        if pipe.bandwidth_bps:
            pipe_serve_until(pipe, now_ns)
        else:
            pipe.service = pipe.tail
        pipe_begin_shaping(worker, pipe)
    shaper_serve(worker, pipe, now_ns, True)
    pipe.shaper.now_ns = now_ns
    filled = wanted.burst_bytes != 0 and pipe.shaper.burst_bytes == 0
    shaper_set(worker, pipe, wanted)
    if bandwidth_bps != pipe.bandwidth_bps:
        transmitter_round_up(pipe)
    pipe.bandwidth_bps = bandwidth_bps
    pipe.overhead_bytes = overhead_bytes
    pipe.delay_ns = delay_ns
    pipe.cached_length = 0xFFFFFFFFu
    if filled and not transmitter_is_busy(pipe, now_ns):
        pipe.departure_ns = now_ns - <int64_t>BURST_LONGEST_NS
        pipe.departure_remainder = 0
    pipe_find_way(pipe)
    shaper_arm(worker, pipe)
    node_find_lookahead(pipe.receiver.node)


cdef inline void pipe_set_up(Worker *worker, Pipe *pipe, bint up, int64_t now_ns) noexcept nogil:
    """Cut or restore the wire. What was queued or under way when it was cut is lost, and counted."""
    cdef uint32_t mask = pipe.capacity - 1
    cdef uint32_t kept, i
    cdef Packet *packet
    if pipe.up == up:
        return
    if not up:
        if pipe.shaper is not NULL:
            shaper_settle(worker, pipe, now_ns)
        pipe_unfold(worker, pipe)
        kept = pipe.head  # up to here: segments that had arrived, and were carried whole
        while kept != pipe.tail and (
            pipe.ring[kept & mask].packet is NULL
            or pipe.ring[kept & mask].packet.header_state & CARRIED_WHOLE
        ):
            kept += 1
        for i in range(pipe.tail - kept):
            packet = pipe.ring[(kept + i) & mask].packet
            if packet is not NULL:
                pipe.down_drop_packets += wire_segments(packet)
                capture_link_drop(worker, pipe, packet, LINK_DOWN, now_ns)
                packet_release(&worker.pool, packet)
        pipe.tail = kept
        if pipe.shaper is not NULL:
            pipe.down_drop_packets += shaper_cut(worker, pipe, now_ns)
        pipe.service = pipe.tail
        pipe.queue_bytes = 0
        if pipe.departure_ns >= now_ns:  # what a burst has saved up before stays
            pipe.departure_ns = now_ns
            pipe.departure_remainder = 0
        pipe.last_arrival_ns = now_ns
        node_find_events(worker, pipe.receiver.node)
    pipe.up = up
    pipe_find_way(pipe)
