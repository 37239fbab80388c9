# codel: keeps the time that packets wait near a target (Nichols, Jacobson, McGregor, Iyengar, RFC 8289). A
# queue whose packets have waited `target_ns` or longer for a whole `interval_ns` drops one when it leaves,
# and the next ones at times that come closer with the square root of their number, until the waiting is below
# the target again. Reads: target_ns (5 ms), interval_ns (100 ms; a little more than the longest usual round
# trip), ecn (a packet that can be marked is marked and sent in place of a drop), the pipe's limits
# (drop-tail).
#
# Limits: who does not slow down fills the queue to its limit, since drops come closer but slowly; a queue of
# no more than one packet of the sender's MTU is never too long (section 5.6), so a link whose packets take
# longer than the target to send is judged by bytes alone. Times are those of the start of service in whole
# nanoseconds, and so is each step interval / sqrt(count), rounded down: the same on every machine. Section
# numbers are the RFC's.
#
# Cousins: fq_codel does this to each of many flows; pie drops by chance, before the queue; red by the queue's
# length.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ...machine.platform cimport uint128_t
from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport CodelState, FlowQueue
from .ecn cimport packet_punish
from .flow_queue cimport queue_drop, queue_is_full, queue_pop, queue_push

cdef enum:
    CODEL_ETHER_BYTES = 14         # what an MTU does not count
    # intervals after which the last drop rate says nothing about the next (section 5.5)
    CODEL_MEMORY = 16


cdef inline int64_t codel_step(int64_t interval_ns, uint32_t count) noexcept nogil:
    """interval / sqrt(count), rounded down: the root of the whole part of interval^2 / count, bit by bit."""
    cdef uint128_t rest = <uint128_t>interval_ns * <uint64_t>interval_ns / count
    cdef uint128_t root = 0
    cdef uint128_t bit = <uint128_t>1 << 126
    while bit > rest:
        bit >>= 2
    while bit:
        if rest >= root + bit:
            rest -= root + bit
            root = (root >> 1) + bit
        else:
            root >>= 1
        bit >>= 2
    return <int64_t>root


cdef inline bint codel_too_long(Pipe *pipe, FlowQueue *queue, Packet *packet, int64_t now_ns) noexcept nogil:
    """Section 5.6, dodequeue: whether a packet that has been taken may be dropped."""
    cdef CodelState *codel = &queue.judge.codel
    if (
        packet is NULL
        or now_ns - packet.time_ns < pipe.shaper.queue.target_ns
        or queue.bytes <= pipe.sender.mtu + CODEL_ETHER_BYTES
    ):
        codel.first_above_ns = 0
        return False
    if codel.first_above_ns == 0:
        codel.first_above_ns = now_ns + pipe.shaper.queue.interval_ns
        return False
    return now_ns >= codel.first_above_ns


cdef inline Packet *codel_take(Worker *worker, Pipe *pipe, FlowQueue *queue, int64_t now_ns) noexcept nogil:
    """Section 5.5, dequeue: the next packet of one queue to be sent; NULL where none is left.

    A packet that is marked has had its punishment and is sent, so only the next one can end the dropping.
    """
    cdef CodelState *codel = &queue.judge.codel
    cdef int64_t interval_ns = pipe.shaper.queue.interval_ns
    cdef bint ecn = pipe.shaper.queue.ecn
    cdef Packet *packet = queue_pop(pipe.shaper, queue)
    cdef Packet *marked
    cdef bint too_long = codel_too_long(pipe, queue, packet, now_ns)
    cdef uint32_t delta
    if codel.dropping:
        if not too_long:
            codel.dropping = 0
        while codel.dropping and now_ns >= codel.drop_next_ns:
            if codel.drop_count < 0xFFFFFFFFu:
                codel.drop_count += 1
            marked = packet_punish(worker, pipe, packet, ecn)
            if marked is NULL:
                packet = queue_pop(pipe.shaper, queue)
                if not codel_too_long(pipe, queue, packet, now_ns):
                    codel.dropping = 0
                    break
            codel.drop_next_ns += codel_step(interval_ns, codel.drop_count)
            if marked is not NULL:
                return marked
    elif too_long:
        marked = packet_punish(worker, pipe, packet, ecn)
        if marked is not NULL:
            packet = marked
        else:
            packet = queue_pop(pipe.shaper, queue)
            codel_too_long(pipe, queue, packet, now_ns)
        codel.dropping = 1
        # Dropping again soon after starts near the rate that controlled the queue the time before.
        delta = codel.drop_count - codel.last_drop_count
        codel.drop_count = 1
        if delta > 1 and now_ns - codel.drop_next_ns < CODEL_MEMORY * interval_ns:
            codel.drop_count = delta
        codel.drop_next_ns = now_ns + codel_step(interval_ns, codel.drop_count)
        codel.last_drop_count = codel.drop_count
    return packet


cdef inline void codel_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    if waits and queue_is_full(pipe, packet.total_length):
        queue_drop(worker, pipe, packet)
    else:
        queue_push(pipe.shaper, pipe.shaper.queues, packet)


cdef inline Packet *codel_dequeue(Worker *worker, Pipe *pipe, int64_t now_ns) noexcept nogil:
    return codel_take(worker, pipe, pipe.shaper.queues, now_ns)
