# wfq: weighted fair queueing as WF2Q+ (Bennett and Zhang, "Hierarchical packet fair queueing algorithms",
# IEEE/ACM Transactions on Networking 5(5), 1997). Each flow gets the share of the link that its weight is of
# the sum of those that send, also over short times: of the flows whose next packet would have begun by now in
# an ideal, fluid system, the one whose packet would have ended first is served; of equals, the first in the
# table of queues. A packet leaves at most one longest packet later than where its flow had its share of the
# link for itself. A flow's weight is that of the packet that finds it to take no part: `weights` of the
# packet's IP precedence. Reads: flows, mask, weights; the pipe's limits, drops_head (a full queue drops from
# the flow with the most bytes waiting). Bytes are those of the frames, without the link's overhead.
#
# The virtual time V moves on by length / (sum of weights) with each packet, when its service has ended (what
# comes meanwhile finds V as it was at the beginning), and at least to the least start of those that wait. A
# packet that comes to the head of its queue starts at S = the finish of the one before it, or at V where its
# flow took no part, and finishes at F = S + length / weight. A flow takes part from its first packet on until
# V has reached the F of its last; then its weight leaves the sum. When a packet finds the link idle, none
# takes part.
#
# Virtual times are whole numbers modulo 2^64 (see fair_clock.pxd); each division rounds down, by less than
# 2^-30 byte. They wrap within a minute on a fast link, rightly: those of flows that take part lie within 2^53
# of V, because none finishes later than one packet (2^17 bytes) after a start that V had reached, nor V
# passes an unserved finish by more; those of all others are never looked at.
#
# Work grows with the logarithm of the flows that send. Cousins: qfq does nearly the same in constant work;
# drr is coarser.

from libc.stdint cimport uint16_t

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport FAIR_ELIGIBLE, FAIR_NONE, FAIR_WAITING, FairClock, FlowQueue, Shaper
from .classify cimport flow_queue_of, packet_precedence
from .fair_clock cimport fair_begin, virtual_before, virtual_cost
from .flow_heap cimport flow_heap_first, flow_heap_insert, flow_heap_remove
from .flow_queue cimport queue_drop_longest, queue_head, queue_is_over, queue_pop, queue_push


cdef inline void wfq_begin(Shaper *shaper) noexcept nogil:
    fair_begin(shaper)
    shaper.fair.waiting.list = FAIR_WAITING
    shaper.fair.eligible.list = FAIR_ELIGIBLE


cdef inline void wfq_admit(Shaper *shaper) noexcept nogil:
    """Let those that V has reached be served, or, where none of theirs is left to be, no longer take part."""
    cdef FairClock *fair = shaper.fair
    cdef FlowQueue *queue
    while fair.waiting.count:
        queue = flow_heap_first(shaper, &fair.waiting)
        if virtual_before(fair.now, queue.virtual_start):
            break
        flow_heap_remove(shaper, &fair.waiting, queue)
        if queue.packets:
            flow_heap_insert(shaper, &fair.eligible, queue)
        else:
            fair.weights -= queue.weight


cdef inline void wfq_set_finish(Shaper *shaper, FlowQueue *queue) noexcept nogil:
    queue.virtual_finish = queue.virtual_start + virtual_cost(
        queue_head(shaper, queue).total_length, queue.weight
    )


cdef inline void wfq_make_room(Worker *worker, Pipe *pipe) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FairClock *fair = shaper.fair
    cdef FlowQueue *queue
    while queue_is_over(pipe):
        queue = queue_drop_longest(worker, pipe)
        if queue.list == FAIR_ELIGIBLE:
            flow_heap_remove(shaper, &fair.eligible, queue)
            if queue.packets:
                wfq_set_finish(shaper, queue)
                flow_heap_insert(shaper, &fair.eligible, queue)
            else:
                fair.weights -= queue.weight
        elif queue.packets:
            wfq_set_finish(shaper, queue)


cdef inline void wfq_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FairClock *fair = shaper.fair
    cdef FlowQueue *queue = flow_queue_of(shaper, packet)
    if shaper.packets == 0 and not waits:
        while fair.waiting.count:
            flow_heap_remove(shaper, &fair.waiting, flow_heap_first(shaper, &fair.waiting))
        fair.weights = 0
        fair.served_bytes = 0
    queue_push(shaper, queue, packet)
    if queue.list == FAIR_NONE:
        queue.weight = <uint16_t>shaper.queue.weights[packet_precedence(packet)]
        fair.weights += queue.weight
        queue.virtual_start = fair.now
        wfq_set_finish(shaper, queue)
        flow_heap_insert(shaper, &fair.eligible, queue)
    elif queue.packets == 1:
        wfq_set_finish(shaper, queue)
    if waits:
        wfq_make_room(worker, pipe)


cdef inline Packet *wfq_dequeue(Pipe *pipe) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FairClock *fair = shaper.fair
    cdef FlowQueue *queue
    cdef Packet *packet
    fair.now += virtual_cost(fair.served_bytes, fair.weights)
    wfq_admit(shaper)
    while fair.eligible.count == 0:
        fair.now = flow_heap_first(shaper, &fair.waiting).virtual_start
        wfq_admit(shaper)
    queue = flow_heap_first(shaper, &fair.eligible)
    flow_heap_remove(shaper, &fair.eligible, queue)
    packet = queue_pop(shaper, queue)
    queue.virtual_start = queue.virtual_finish
    if queue.packets:
        wfq_set_finish(shaper, queue)
    flow_heap_insert(shaper, &fair.waiting, queue)
    wfq_admit(shaper)
    fair.served_bytes = packet.total_length
    return packet
