# One direction of a link: queue, transmitter, wire, delay line.
#
# The transmitter takes the next packet at start = max(logical arrival, last departure); departure = start + bits /
# bandwidth; arrival = departure + delay. The departure is exact: whole nanoseconds and a carried remainder in
# 1/bandwidth nanoseconds. `bits` are those of the Ethernet frame without preamble, gap and checksum, plus the
# overhead. The queue is what has not started service; it drops at the tail. A lost packet is lost on the wire, after
# the transmitter, so it has used its bandwidth. Order holds: an arrival never comes before the one in front of it.
#
# With a drop-tail FIFO all of this is known when a packet comes in, so it is computed there: such a pipe is plain. A
# change of bandwidth or delay computes what has not started service again. On a change of bandwidth the carried
# remainder is rounded up to a whole nanosecond. A pipe that is asked for anything else gets a shaper (shaper.pxd), and
# keeps it.

from libc.stdint cimport UINT64_MAX, int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

from .capture cimport capture_begin, capture_end, capture_link_drop
from .heap cimport heap_push
from .layout cimport (
    CARRIED_WHOLE, CROSSING_LIMIT, FATE_SPARED, LINK_DOWN, LINK_LOOP, LINK_LOSS, LINK_QUEUE_FULL, OBSERVE_CAPTURE,
    WAY_IDEAL, WAY_SHAPED, WAY_SPECIAL, Event, Node, Packet, Pipe, PipeEntry, Shaper, Waiting, Worker,
)
from .line cimport (
    pipe_append, pipe_append_vector, pipe_close_up, pipe_first, pipe_make_room, pipe_serve_until, pipe_take_service,
)
from .packet cimport packet_release
from .platform cimport is_likely, is_unlikely, must_resize
from .queues.discipline cimport discipline_enqueue
from .random cimport random_happens
from .schedule cimport TIMER_SOURCE, never, node_wake
from .segment cimport wire_segments
from .shaper cimport shaper_arm, shaper_cut, shaper_new, shaper_send, shaper_serve, shaper_set, shaper_settle
from .transmitter cimport NANOBITS_IN_BYTE, transmit, transmit_next, transmitter_is_busy, transmitter_round_up
from .whole cimport pipe_carries_whole, pipe_segment, pipe_send_whole, pipe_unfold

cdef enum:
    SHORTEST_FRAME = 1             # byte, that a PORT may send
    BURST_LONGEST_NS = 100000000000000000  # of idleness, after which the largest bucket is full at the least bandwidth


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
        pipe.way = WAY_IDEAL
    else:  # an ideal pipe, too, as long as what comes next could overtake what is under way
        pipe.way = WAY_SHAPED


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
            pipe.tail - pipe.service >= pipe.queue_limit_packets or pipe.queue_bytes + length > pipe.queue_limit_bytes
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
    elif is_unlikely(worker.round >= CROSSING_LIMIT):
        pipe.loop_drop_packets += wire_segments(packet)
        capture_link_drop(worker, pipe, packet, LINK_LOOP, time_ns)
        packet_release(&worker.pool, packet)
        return
    else:
        packet.crossings = <uint16_t>(worker.round + 1)
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


cdef inline void pipe_send_special(Worker *worker, Pipe *pipe, Packet *packet, int64_t time_ns) noexcept nogil:
    """Send over a special pipe, or a super-frame: as the segments of the wire, each with its own time and fate, or whole."""
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
        if is_unlikely(worker.round >= CROSSING_LIMIT):
            pipe_send_special(worker, pipe, packet, time_ns)
            return
        packet.crossings = <uint16_t>(worker.round + 1)
        pipe_append(worker, pipe, packet, time_ns)
    elif is_likely(
        pipe.way == WAY_SHAPED and (
            packet.segment_size == 0
            or (pipe.bandwidth_bps == 0 and pipe.loss_threshold == 0 and pipe.shaper is NULL)
        )
    ):
        pipe_shape(worker, pipe, packet, time_ns)
    else:
        pipe_send_special(worker, pipe, packet, time_ns)


cdef inline void pipe_send_vector(Worker *worker, Pipe *pipe, Packet **vector, uint32_t count) noexcept nogil:
    """pipe_send() for one packet after the other, each at its logical time."""
    cdef uint32_t i
    if is_likely(pipe.way == WAY_IDEAL and worker.round < CROSSING_LIMIT):
        pipe_append_vector(worker, pipe, vector, count, <uint16_t>(worker.round + 1))
    else:
        for i in range(count):
            pipe_send(worker, pipe, vector[i], vector[i].time_ns)


cdef inline int64_t pipe_quickest_ns(Pipe *pipe) noexcept nogil:
    """The least time that a packet takes over the pipe."""
    cdef Shaper *shaper = pipe.shaper
    cdef int64_t service_ns = 0
    cdef int64_t delay_ns = pipe.delay_ns
    cdef int64_t bytes = pipe.overhead_bytes + <int64_t>SHORTEST_FRAME
    if pipe.bandwidth_bps and bytes > 0:
        service_ns = (bytes * NANOBITS_IN_BYTE) // pipe.bandwidth_bps
    if shaper is NULL:
        return service_ns + delay_ns
    if shaper.burst_bytes or shaper.trace.table is not NULL:
        service_ns = 0
    if shaper.jitter.distribution is not NULL:
        delay_ns += shaper.jitter.distribution.values[0]
    if shaper.reorder.threshold or delay_ns < 0:
        delay_ns = 0
    # A service that starts amid a nanosecond is a matter of the instant after it.
    return service_ns + delay_ns - 1 if service_ns + delay_ns else 0


cdef inline void node_find_lookahead(Node *node) noexcept nogil:
    """The least time that anything takes to reach the node: over the quickest pipe that leads to it."""
    cdef int64_t least = never()
    cdef int64_t quickest
    cdef uint32_t i
    cdef Pipe *pipe
    node.overtaken = 0
    for i in range(node.port_count):
        pipe = node.ports[i].input
        if pipe is NULL:
            continue
        quickest = pipe_quickest_ns(pipe)
        if quickest < least:
            least = quickest
        if pipe.shaper is not NULL and (pipe.shaper.jitter.overtakes or pipe.shaper.reorder.threshold):
            node.overtaken = 1
    node.lookahead_ns = least


cdef inline void node_find_events(Worker *worker, Node *node) noexcept nogil:
    """Collect a node's events anew, after arrivals were changed or taken away; its timers stay."""
    cdef uint32_t count = node.events.count
    cdef uint32_t i
    cdef Event event
    cdef Event *events = <Event *>must_resize(NULL, (count + 1) * sizeof(Event))
    cdef Pipe *pipe
    cdef Packet *packet
    for i in range(count):
        events[i] = node.events.events[i]
    node.events.count = 0
    for i in range(count):
        event = events[i]
        if <uint32_t>event.order >= TIMER_SOURCE:
            heap_push(&node.events, event.time_ns, event.order)
    free(events)
    node.arrival = NULL
    for i in range(node.port_count):
        pipe = node.ports[i].input
        if pipe is NULL:
            continue
        packet = pipe_first(pipe)
        pipe.active = packet is not NULL
        if packet is not NULL:
            heap_push(
                &node.events,
                pipe.ring[pipe.head & (pipe.capacity - 1)].arrival_ns,
                <uint64_t>packet.crossings << 32 | i,
            )
    if node.events.count:
        node_wake(
            worker, node, node.events.events[0].time_ns, <uint32_t>(node.events.events[0].order >> 32)
        )


cdef inline void pipe_set_timing(
    Worker *worker, Pipe *pipe, uint64_t bandwidth_bps, int32_t overhead_bytes, int64_t delay_ns, int64_t now_ns
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
    # What was lost may have left the line already and still takes its turn in the transmitter. So does, on a very quick pipe, what
    # has arrived at the whole nanosecond before its exact start.
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
                if entry.arrival_ns == worker.instant_ns:
                    entry.packet.crossings = <uint16_t>(worker.round + 1)
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

    Its fate was drawn when it came, and stays: what was lost takes no more time, and no loss meets the rest again.
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
    Worker *worker, Pipe *pipe, Shaper *wanted, uint64_t bandwidth_bps, int32_t overhead_bytes, int64_t delay_ns, int64_t now_ns
) noexcept nogil:
    """Change all that a pipe with a shaper, or one that gets it now, does; it counts from the next packet that starts service."""
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
            pipe.ring[kept & mask].packet is NULL or pipe.ring[kept & mask].packet.header_state & CARRIED_WHOLE
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
