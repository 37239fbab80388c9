# priority: eight queues by the IP precedence of the packets (the class selectors of RFC 2474; 7 first),
# strictly: none is served while a higher one has packets. What is no IP has precedence 0. Within one it is
# first in, first out. Reads: the pipe's limits, drops_head (a full queue drops from the precedence with the
# most bytes waiting).
#
# A high precedence that fills the link starves all below it. Cousins: drr, wfq and qfq with weights do not.

from libc.stdint cimport uint32_t

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport Shaper
from .classify cimport packet_precedence
from .flow_queue cimport queue_make_room, queue_pop, queue_push

cdef enum:
    PRECEDENCES = 8


cdef inline void priority_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    queue_push(shaper, &shaper.queues[packet_precedence(packet)], packet)
    if waits:
        queue_make_room(worker, pipe)


cdef inline Packet *priority_dequeue(Pipe *pipe) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef uint32_t precedence = PRECEDENCES - 1
    while precedence and shaper.queues[precedence].first == 0:
        precedence -= 1
    return queue_pop(shaper, &shaper.queues[precedence])
