# fq_codel: CoDel on each of many flows, which share the link evenly (Hoeiland-Joergensen, McKenney, Taht,
# Gettys, Dumazet, RFC 8290). A flow that sends less than its share waits no longer than one quantum of each
# flow that begins to send; one that sends more waits near the target, and its drops are its own. Reads: flows
# (1,024), quantum_bytes (1,514), mask; target_ns (5 ms), interval_ns (100 ms), ecn, as codel does; the pipe's
# limits (RFC 8290: 10,240 packets), at which the flow with the most bytes loses its oldest packets.
#
# Limits: flows whose hashes meet share one queue; who floods without slowing down costs a walk over the flows
# that wait for each packet that the limit drops. Cousins: codel without flows; fq_pie; drr without the
# judgement.

from libc.stdint cimport int64_t

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport FlowQueue
from .codel cimport codel_take
from .fair cimport fair_leave, fair_push, fair_queue, fair_turn


cdef inline void fq_codel_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    fair_push(worker, pipe, fair_queue(pipe.shaper, packet, waits), packet, waits)


cdef inline Packet *fq_codel_dequeue(Worker *worker, Pipe *pipe, int64_t now_ns) noexcept nogil:
    cdef FlowQueue *queue = fair_turn(pipe.shaper)
    cdef Packet *packet
    while queue is not NULL:
        packet = codel_take(worker, pipe, queue, now_ns)
        if packet is not NULL:
            queue.deficit_bytes -= packet.total_length
            return packet
        fair_leave(pipe.shaper, queue)
        queue = fair_turn(pipe.shaper)
    return NULL
