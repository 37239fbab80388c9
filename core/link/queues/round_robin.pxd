# round_robin: one packet of each flow in turn (Nagle, RFC 970: "On packet switches with infinite storage",
# 1985). A flow that begins to wait is the last of the round. Long packets get more of the link than short
# ones. Reads: flows, mask; the pipe's limits, drops_head (a full queue drops from the flow with the most
# bytes waiting).
#
# Cousins: drr shares by bytes (and is what dummynet calls `rr`), wfq and qfq also by time; priority does not
# share.

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport FlowQueue, Shaper
from .classify cimport flow_queue_of
from .flow_queue cimport active_append, active_pop, queue_make_room, queue_pop, queue_push


cdef inline void round_robin_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FlowQueue *queue = flow_queue_of(shaper, packet)
    queue_push(shaper, queue, packet)
    if queue.list == 0:
        active_append(shaper, 0, queue)
    if waits:
        queue_make_room(worker, pipe)


cdef inline Packet *round_robin_dequeue(Pipe *pipe) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FlowQueue *queue = active_pop(shaper, 0)
    cdef Packet *packet
    while queue is not NULL:
        packet = queue_pop(shaper, queue)
        if queue.packets:
            active_append(shaper, 0, queue)
        if packet is not NULL:
            return packet
        queue = active_pop(shaper, 0)
    return NULL
