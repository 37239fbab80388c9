# The scheduler of fq_codel and fq_pie (RFC 8290, section 4): deficit round robin over the queues that flows
# are hashed to, where flows that begin to send come before those that have waited a round.
#
# A queue that gets its first packet joins the end of the new queues with a quantum of credit. Served is the
# first of the new queues, else the first of the old ones; one without credit gets a quantum more and goes to
# the end of the old ones. One that is found empty leaves: a new one to the end of the old ones, so that no
# flow lives on being new; an old one for good. A full queue drops the oldest packets of the flow with the
# most bytes (section 4.1).
#
# Once the transmitter has found nothing, every queue has left; the first packet after that sees to it.

from libc.stdint cimport uint32_t

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport FlowQueue, Shaper
from .classify cimport flow_queue_of
from .flow_queue cimport (
    active_append, active_first, active_pop, queue_drop, queue_is_over, queue_pop, queue_push,
)

cdef enum:
    FAIR_NEW = 0
    FAIR_OLD = 1


cdef inline FlowQueue *fair_queue(Shaper *shaper, Packet *packet, bint waits) noexcept nogil:
    """The queue of a packet that comes."""
    if not waits and shaper.packets == 0:
        while active_pop(shaper, FAIR_NEW) is not NULL:
            pass
        while active_pop(shaper, FAIR_OLD) is not NULL:
            pass
    return flow_queue_of(shaper, packet)


cdef inline FlowQueue *fair_fattest(Shaper *shaper) noexcept nogil:
    """The queue with the most bytes, the first in turn of those with equally many; there is one."""
    cdef FlowQueue *fattest = NULL
    cdef FlowQueue *queue
    cdef uint32_t number, index
    for number in range(2):
        index = shaper.active[number].first
        while index:
            queue = &shaper.queues[index - 1]
            if fattest is NULL or queue.bytes > fattest.bytes:
                fattest = queue
            index = queue.next_active
    return fattest


cdef inline void fair_push(
    Worker *worker, Pipe *pipe, FlowQueue *queue, Packet *packet, bint waits
) noexcept nogil:
    """Queue a packet; where that is one too many, make room."""
    cdef Shaper *shaper = pipe.shaper
    queue_push(shaper, queue, packet)
    if queue.list == 0:
        queue.deficit_bytes = shaper.queue.quantum_bytes
        active_append(shaper, FAIR_NEW, queue)
    while waits and queue_is_over(pipe):
        queue_drop(worker, pipe, queue_pop(shaper, fair_fattest(shaper)))


cdef inline FlowQueue *fair_turn(Shaper *shaper) noexcept nogil:
    """The queue whose turn it is, with credit; NULL where none is left."""
    cdef uint32_t number
    cdef FlowQueue *queue
    while True:
        number = FAIR_NEW if shaper.active[FAIR_NEW].first else FAIR_OLD
        queue = active_first(shaper, number)
        if queue is NULL or queue.deficit_bytes > 0:
            return queue
        queue.deficit_bytes += shaper.queue.quantum_bytes
        active_append(shaper, FAIR_OLD, active_pop(shaper, number))


cdef inline void fair_leave(Shaper *shaper, FlowQueue *queue) noexcept nogil:
    """Let the queue whose turn it is, and which is empty, leave its place."""
    cdef uint32_t number = queue.list - 1
    active_pop(shaper, number)
    if number == FAIR_NEW:
        active_append(shaper, FAIR_OLD, queue)
