# codel: keeps the time that packets wait near a target (RFC 8289). A queue whose packets have waited `target_ns` or
# longer for a whole `interval_ns` drops one when it leaves, and the next ones at times that come closer with the
# square root of their number, until the waiting is below the target again.
# Reads: target_ns (5 ms), interval_ns (100 ms), ecn (mark in place of a drop), the pipe's limits (drop-tail).
#
# The square root is that of whole numbers, scaled by 2^16: the same on every machine. Times are whole nanoseconds of
# the start of service. Section numbers are the RFC's.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..layout cimport FlowQueue, Packet, Pipe, Shaper, Worker
from .ecn cimport packet_can_be_marked, packet_mark
from .flow_queue cimport queue_drop, queue_drop_early, queue_is_full, queue_pop, queue_push

cdef enum:
    CODEL_MTU = 1514               # a queue of no more than this is never too long (section 5.6)


cdef inline uint64_t square_root(uint64_t x) noexcept nogil:
    """The whole part of the square root, bit by bit."""
    cdef uint64_t root = 0
    cdef uint64_t bit = <uint64_t>1 << 62
    while bit > x:
        bit >>= 2
    while bit:
        if x >= root + bit:
            x -= root + bit
            root = (root >> 1) + bit
        else:
            root >>= 1
        bit >>= 2
    return root


cdef inline int64_t codel_next(int64_t time_ns, int64_t interval_ns, uint32_t count) noexcept nogil:
    """Section 4.3: interval / sqrt(count) after a drop."""
    return time_ns + <int64_t>((<uint64_t>interval_ns << 16) // square_root(<uint64_t>count << 32))


cdef inline bint codel_too_long(Pipe *pipe, FlowQueue *queue, Packet *packet, int64_t now_ns) noexcept nogil:
    """Section 5.6, dodequeue: whether a packet that has been taken may be dropped."""
    cdef Shaper *shaper = pipe.shaper
    if packet is NULL or now_ns - packet.time_ns < shaper.queue.target_ns or queue.bytes <= CODEL_MTU:
        queue.first_above_ns = 0
        return False
    if queue.first_above_ns == 0:
        queue.first_above_ns = now_ns + shaper.queue.interval_ns
        return False
    return now_ns >= queue.first_above_ns


cdef inline Packet *codel_punish(Worker *worker, Pipe *pipe, FlowQueue *queue, Packet *packet) noexcept nogil:
    """Mark the packet where that can be done: it is returned. Else drop it: NULL."""
    if pipe.shaper.queue.ecn and packet_can_be_marked(packet):
        return packet_mark(worker, pipe, packet)
    queue_drop_early(worker, pipe, packet)
    return NULL


cdef inline Packet *codel_take(Worker *worker, Pipe *pipe, FlowQueue *queue, int64_t now_ns) noexcept nogil:
    """Section 5.5: the next packet of one queue to be sent; NULL where none is left."""
    cdef Shaper *shaper = pipe.shaper
    cdef int64_t interval_ns = shaper.queue.interval_ns
    cdef Packet *packet = queue_pop(shaper, queue)
    cdef Packet *marked
    cdef bint too_long = codel_too_long(pipe, queue, packet, now_ns)
    cdef uint32_t delta
    if queue.dropping:
        if not too_long:
            queue.dropping = 0
        while queue.dropping and now_ns >= queue.drop_next_ns:
            queue.drop_count += 1
            marked = codel_punish(worker, pipe, queue, packet)
            if marked is not NULL:
                queue.drop_next_ns = codel_next(queue.drop_next_ns, interval_ns, queue.drop_count)
                return marked
            packet = queue_pop(shaper, queue)
            if codel_too_long(pipe, queue, packet, now_ns):
                queue.drop_next_ns = codel_next(queue.drop_next_ns, interval_ns, queue.drop_count)
            else:
                queue.dropping = 0
    elif too_long:
        marked = codel_punish(worker, pipe, queue, packet)
        if marked is NULL:
            packet = queue_pop(shaper, queue)
            codel_too_long(pipe, queue, packet, now_ns)
        else:
            packet = marked
        queue.dropping = 1
        # Section 4.2, 5.5: dropping again soon after starts near the rate that controlled the queue the time before.
        delta = queue.drop_count - queue.last_drop_count
        queue.drop_count = 1
        if delta > 1 and now_ns - queue.drop_next_ns < 16 * interval_ns:
            queue.drop_count = delta
        queue.drop_next_ns = codel_next(now_ns, interval_ns, queue.drop_count)
        queue.last_drop_count = queue.drop_count
    return packet


cdef inline void codel_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    if waits and queue_is_full(pipe, packet.total_length):
        queue_drop(worker, pipe, packet)
    else:
        queue_push(pipe.shaper, pipe.shaper.queues, packet)


cdef inline Packet *codel_dequeue(Worker *worker, Pipe *pipe, int64_t now_ns) noexcept nogil:
    return codel_take(worker, pipe, pipe.shaper.queues, now_ns)
