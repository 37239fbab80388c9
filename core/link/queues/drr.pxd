# drr: deficit round robin (Shreedhar and Varghese, "Efficient fair queuing using deficit round robin",
# SIGCOMM 1995). A flow whose turn comes gets `quantum_bytes` times its weight on top of what it has left, and
# sends while its next packet is no longer than that; what is left when its queue is empty is forfeit. Over
# any time in which two flows always wait, the bytes that they send, each divided by its weight, differ by
# less than the quantum and twice the longest packet. A flow's weight is that of the packet that finds none of
# its flow waiting: `weights` of the packet's IP precedence. Reads: flows, mask, quantum_bytes, weights; the
# pipe's limits, drops_head (a full queue drops from the flow with the most bytes waiting). Bytes are those of
# the frames, without the link's overhead.
#
# A quantum of at least the longest packet makes the work for a packet constant; else it grows with their
# ratio. Cousins: wfq and qfq also share well over short times; fq_codel is this with new flows first and
# CoDel in each.

from libc.stdint cimport uint16_t

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport FlowQueue, Shaper
from .classify cimport flow_queue_of, packet_precedence
from .flow_queue cimport (
    active_append, active_first, active_pop, queue_head, queue_make_room, queue_pop, queue_push,
)

cdef enum:
    IN_TURN = 2                    # FlowQueue.list of the first, once it has its quantum


cdef inline void drr_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FlowQueue *queue = flow_queue_of(shaper, packet)
    if queue.packets == 0:
        queue.weight = <uint16_t>shaper.queue.weights[packet_precedence(packet)]
    queue_push(shaper, queue, packet)
    if queue.list == 0:
        queue.deficit_bytes = 0
        active_append(shaper, 0, queue)
    if waits:
        queue_make_room(worker, pipe)


cdef inline Packet *drr_dequeue(Pipe *pipe) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FlowQueue *queue = active_first(shaper, 0)
    cdef Packet *packet
    while queue is not NULL:
        packet = queue_head(shaper, queue)
        if packet is NULL:
            active_pop(shaper, 0)
            queue = active_first(shaper, 0)
            continue
        if queue.list != IN_TURN:
            queue.list = IN_TURN
            queue.deficit_bytes += <long long>shaper.queue.quantum_bytes * queue.weight
        if packet.total_length <= queue.deficit_bytes:
            queue.deficit_bytes -= packet.total_length
            queue_pop(shaper, queue)
            if queue.packets == 0:
                active_pop(shaper, 0)
            return packet
        active_append(shaper, 0, active_pop(shaper, 0))
        queue = active_first(shaper, 0)
    return NULL
