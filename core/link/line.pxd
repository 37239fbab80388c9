# A pipe's line: a ring of (packet, arrival) in the order of arrivals, with what waits for the transmitter at
# its end. Only its head is an event of the receiving node.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

from ..machine.platform cimport is_unlikely, must_resize, prefetch
from ..state.network cimport Pipe, PipeEntry, Waiting, Worker
from ..state.packets cimport Packet
from ..time.events cimport node_arrival, node_wake
from ..time.heap cimport heap_hasten
from .crossing cimport UNDELAYED, next_round, packet_round

cdef enum:
    RING_START = 16


cdef inline void pipe_grow(Pipe *pipe) noexcept nogil:
    """Double the ring. Entries keep their index, which is taken modulo the capacity."""
    cdef uint32_t capacity = pipe.capacity * 2 if pipe.capacity else RING_START
    cdef PipeEntry *ring = <PipeEntry *>must_resize(NULL, capacity * sizeof(PipeEntry))
    cdef Waiting *waiting = NULL
    cdef uint32_t i = pipe.tail - pipe.capacity
    if pipe.bandwidth_bps and pipe.shaper is NULL:
        waiting = <Waiting *>must_resize(NULL, capacity * sizeof(Waiting))
    while i != pipe.tail:
        ring[i & (capacity - 1)] = pipe.ring[i & (pipe.capacity - 1)]
        if waiting is not NULL:
            waiting[i & (capacity - 1)] = pipe.waiting[i & (pipe.capacity - 1)]
        i += 1
    free(pipe.ring)
    free(pipe.waiting)
    pipe.ring = ring
    pipe.waiting = waiting
    pipe.capacity = capacity


cdef inline void pipe_serve_until(Pipe *pipe, int64_t time_ns) noexcept nogil:
    """Take out of the queue what has started service by `time_ns`."""
    cdef Waiting *first
    while pipe.service != pipe.tail:
        first = &pipe.waiting[pipe.service & (pipe.capacity - 1)]
        if first.start_ns > time_ns:
            break
        pipe.queue_bytes -= first.length
        pipe.service += 1


cdef inline Packet *pipe_first(Pipe *pipe) noexcept nogil:
    """The next packet to arrive, NULL where there is none; passes over what was lost."""
    cdef Packet *packet
    while pipe.head != pipe.tail:
        packet = pipe.ring[pipe.head & (pipe.capacity - 1)].packet
        if packet is not NULL:
            return packet
        pipe.head += 1
    return NULL


cdef inline void pipe_make_room(Pipe *pipe, uint32_t places) noexcept nogil:
    """Have so many free places in the line of a pipe with bandwidth.

    One is free again when its packet has both arrived and started, whatever comes last.
    """
    while pipe.tail - pipe.service + places > pipe.capacity:
        pipe_grow(pipe)
    if pipe.tail - pipe.head + places > pipe.capacity:
        pipe_first(pipe)  # where all is lost, nothing else takes the lost ones out of the line
        while pipe.tail - pipe.head + places > pipe.capacity:
            pipe_grow(pipe)


cdef inline void pipe_take_service(
    Pipe *pipe, uint32_t place, uint32_t length, bint waits, int64_t start_ns, uint64_t start_remainder
) noexcept nogil:
    """Let what comes into a place of the line wait until its service starts, unless it does so now."""
    cdef Waiting *waiting
    if waits:
        waiting = &pipe.waiting[place & (pipe.capacity - 1)]
        waiting.start_ns = start_ns + (start_remainder != 0)
        waiting.remainder = start_remainder
        waiting.length = length
        pipe.queue_bytes += length
    else:
        pipe.service += 1


cdef inline void pipe_append(Worker *worker, Pipe *pipe, Packet *packet, int64_t arrival_ns) noexcept nogil:
    """Put a packet at the end of the delay line; the receiving node hears of it if it is the first."""
    cdef uint32_t round
    cdef PipeEntry *entry
    if is_unlikely(pipe.tail - pipe.head == pipe.capacity):
        pipe_grow(pipe)
    entry = &pipe.ring[pipe.tail & (pipe.capacity - 1)]
    entry.packet = packet
    entry.arrival_ns = arrival_ns
    pipe.tail += 1
    if not pipe.active:
        pipe.active = 1
        pipe.head = pipe.tail - 1  # all before it was lost
        round = worker.round + 1 if packet.crossings & UNDELAYED else 0
        node_arrival(worker, pipe.receiver.node, pipe, arrival_ns, round)


cdef inline void pipe_append_vector(
    Worker *worker, Pipe *pipe, Packet **vector, uint32_t count
) noexcept nogil:
    """pipe_append() for packets that take no time: each arrives at its logical time, in the next round."""
    cdef uint16_t crossings = next_round(worker)
    cdef uint32_t tail = pipe.tail
    cdef uint32_t mask, i
    cdef PipeEntry *ring
    cdef Packet *packet
    while is_unlikely(tail - pipe.head + count > pipe.capacity):
        pipe_grow(pipe)
    ring = pipe.ring
    mask = pipe.capacity - 1
    for i in range(0, count, 4):  # entries, of which a cache line holds four
        prefetch(&ring[(tail + i) & mask])
    for i in range(count):
        packet = vector[i]
        packet.crossings = crossings
        ring[tail & mask].packet = packet
        ring[tail & mask].arrival_ns = packet.time_ns
        tail += 1
    pipe.tail = tail
    if not pipe.active:
        pipe.active = 1
        node_arrival(worker, pipe.receiver.node, pipe, vector[0].time_ns, worker.round + 1)


cdef inline void pipe_insert(Worker *worker, Pipe *pipe, Packet *packet, int64_t arrival_ns) noexcept nogil:
    """Put a packet into the delay line where it may overtake others: behind all that arrive before it or with
    it.

    Those on the side that has fewer of them make room. The line has no places of lost packets.
    """
    cdef uint32_t mask, place, round, i
    cdef uint32_t before = 0       # so many are known to arrive before it or with it …
    cdef uint32_t after = pipe.tail - pipe.head  # … and those from this one on, after it
    cdef uint32_t port = pipe.receiver.port
    if pipe.tail - pipe.head == pipe.capacity:
        pipe_grow(pipe)
    mask = pipe.capacity - 1
    if after and pipe.ring[(pipe.tail - 1) & mask].arrival_ns <= arrival_ns:
        before = after  # it mostly comes last
    while before != after:
        i = (before + after) >> 1
        if pipe.ring[(pipe.head + i) & mask].arrival_ns <= arrival_ns:
            before = i + 1
        else:
            after = i
    if before < pipe.tail - pipe.head - before:
        pipe.head -= 1
        for i in range(before):
            pipe.ring[(pipe.head + i) & mask] = pipe.ring[(pipe.head + i + 1) & mask]
    else:
        i = pipe.tail
        while i != pipe.head + before:
            pipe.ring[i & mask] = pipe.ring[(i - 1) & mask]
            i -= 1
        pipe.tail += 1
    place = pipe.head + before
    pipe.ring[place & mask].packet = packet
    pipe.ring[place & mask].arrival_ns = arrival_ns
    if not pipe.active:
        pipe.active = 1
        node_arrival(worker, pipe.receiver.node, pipe, arrival_ns, packet_round(worker, packet, arrival_ns))
    elif place == pipe.head:
        round = packet_round(worker, packet, arrival_ns)
        heap_hasten(&pipe.receiver.node.events, arrival_ns, <uint64_t>round << 32 | port)
        node_wake(worker, pipe.receiver.node, arrival_ns, round)


cdef inline void pipe_close_up(Pipe *pipe) noexcept nogil:
    """Take the places of lost packets out of the line."""
    cdef uint32_t mask = pipe.capacity - 1
    cdef uint32_t i = pipe.head
    cdef uint32_t end = pipe.tail
    pipe.tail = pipe.head
    while i != end:
        if pipe.ring[i & mask].packet is not NULL:
            pipe.ring[pipe.tail & mask] = pipe.ring[i & mask]
            pipe.tail += 1
        i += 1
    pipe.service = pipe.tail
