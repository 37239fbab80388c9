# Which packet comes next: the one place that knows all disciplines. Each is a room beside this one with `…_enqueue` (takes
# the packet, or drops it or another) and `…_dequeue` (gives the next to be sent, NULL where all is gone, and may drop or
# mark on the way). `waits` is false for a packet that finds the transmitter idle and nobody before it: it is sent at
# once, so no limit counts. docs/adding-an-impairment.md tells how to add one.

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

from ..layout cimport (
    QUEUE_CODEL, QUEUE_DROPTAIL, QUEUE_DRR, QUEUE_PRIORITY, QUEUE_QFQ, QUEUE_ROUND_ROBIN, QUEUE_WFQ, FlowQueue, Packet,
    Pipe, Shaper, Worker,
)
from ..platform cimport must_zero
from .codel cimport codel_dequeue, codel_enqueue
from .droptail cimport droptail_dequeue, droptail_enqueue
from .drr cimport drr_dequeue, drr_enqueue
from .fair_clock cimport fair_end
from .priority cimport PRECEDENCES, priority_dequeue, priority_enqueue
from .qfq cimport qfq_begin, qfq_dequeue, qfq_enqueue
from .round_robin cimport round_robin_dequeue, round_robin_enqueue
from .wfq cimport wfq_begin, wfq_dequeue, wfq_enqueue


cdef inline void discipline_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    """Take a packet into the queue at its time_ns."""
    cdef uint32_t discipline = pipe.shaper.queue.discipline
    if discipline == QUEUE_DROPTAIL:
        droptail_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_CODEL:
        codel_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_ROUND_ROBIN:
        round_robin_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_DRR:
        drr_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_WFQ:
        wfq_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_QFQ:
        qfq_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_PRIORITY:
        priority_enqueue(worker, pipe, packet, waits)


cdef inline Packet *discipline_dequeue(Worker *worker, Pipe *pipe, int64_t now_ns) noexcept nogil:
    """The packet whose service starts at `now_ns`."""
    cdef uint32_t discipline = pipe.shaper.queue.discipline
    if discipline == QUEUE_DROPTAIL:
        return droptail_dequeue(worker, pipe)
    if discipline == QUEUE_ROUND_ROBIN:
        return round_robin_dequeue(pipe)
    if discipline == QUEUE_DRR:
        return drr_dequeue(pipe)
    if discipline == QUEUE_WFQ:
        return wfq_dequeue(pipe)
    if discipline == QUEUE_QFQ:
        return qfq_dequeue(pipe)
    if discipline == QUEUE_PRIORITY:
        return priority_dequeue(pipe)
    return codel_dequeue(worker, pipe, now_ns)


cdef inline uint32_t discipline_queues(Shaper *shaper) noexcept nogil:
    """How many queues the discipline needs."""
    cdef uint32_t discipline = shaper.queue.discipline
    if discipline == QUEUE_DROPTAIL or discipline == QUEUE_CODEL:
        return 1
    return PRECEDENCES if discipline == QUEUE_PRIORITY else shaper.queue.flows


cdef inline void discipline_end(Shaper *shaper) noexcept nogil:
    """Free its queues, which are empty."""
    free(shaper.queues)
    fair_end(shaper)


cdef inline void discipline_begin(Shaper *shaper) noexcept nogil:
    """Make its empty queues."""
    discipline_end(shaper)
    shaper.queue_count = discipline_queues(shaper)
    shaper.queues = <FlowQueue *>must_zero(shaper.queue_count * sizeof(FlowQueue))
    memset(shaper.active, 0, sizeof(shaper.active))
    if shaper.queue.discipline == QUEUE_WFQ:
        wfq_begin(shaper)
    elif shaper.queue.discipline == QUEUE_QFQ:
        qfq_begin(shaper)
