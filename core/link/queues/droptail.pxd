# droptail: first in, first out. A full queue drops what comes; with `drops_head` its oldest packet instead,
# so that who sends hears of the loss sooner (Lakshman, Neidhardt, Ott, "The drop from front strategy in TCP
# and in TCP over ATM", INFOCOM 1996). Reads: the pipe's limits.
#
# Cousins: codel, pie and red keep the queue short before it is full.

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from .flow_queue cimport queue_drop, queue_is_full, queue_make_room, queue_pop, queue_push


cdef inline void droptail_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    if waits and queue_is_full(pipe, packet.total_length) and not pipe.shaper.queue.drops_head:
        queue_drop(worker, pipe, packet)
        return
    queue_push(pipe.shaper, pipe.shaper.queues, packet)
    if waits:
        queue_make_room(worker, pipe)


cdef inline Packet *droptail_dequeue(Worker *worker, Pipe *pipe) noexcept nogil:
    return queue_pop(pipe.shaper, pipe.shaper.queues)
