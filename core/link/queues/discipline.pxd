# Which packet comes next: the one place that knows all disciplines. Each is a room beside this one with
# `…_enqueue` (takes the packet, or drops it or another) and `…_dequeue` (gives the next to be sent, NULL
# where all is gone, and may drop or mark on the way). One that may hold packets back moves the shaper's
# `ready_ns` to when it gives the next. `waits` is false for a packet that finds the transmitter idle and
# nobody before it: it is sent at once, so no limit counts. docs/adding-an-impairment.md tells how to add one.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from ...machine.platform cimport must_zero
from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport (
    FlowQueue, QUEUE_CODEL, QUEUE_DROPTAIL, QUEUE_DRR, QUEUE_EACH, QUEUE_FQ_CODEL, QUEUE_FQ_PIE, QUEUE_PIE,
    QUEUE_PRIORITY, QUEUE_QFQ, QUEUE_RED, QUEUE_ROUND_ROBIN, QUEUE_WFQ, QueueSettings, Shaper,
)
from .codel cimport codel_dequeue, codel_enqueue
from .droptail cimport droptail_dequeue, droptail_enqueue
from .drr cimport drr_dequeue, drr_enqueue
from .each cimport each_begin, each_change_rate, each_dequeue, each_enqueue, each_settle
from .fair_clock cimport fair_end
from .fq_codel cimport fq_codel_dequeue, fq_codel_enqueue
from .fq_pie cimport fq_pie_dequeue, fq_pie_enqueue
from .pie cimport pie_dequeue, pie_enqueue, pie_fraction, pie_update
from .priority cimport PRECEDENCES, priority_dequeue, priority_enqueue
from .qfq cimport qfq_begin, qfq_dequeue, qfq_enqueue
from .red cimport RED_FRACTION_BITS, red_dequeue, red_enqueue, red_probability
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
    elif discipline == QUEUE_RED:
        red_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_PIE:
        pie_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_FQ_CODEL:
        fq_codel_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_FQ_PIE:
        fq_pie_enqueue(worker, pipe, packet, waits)
    elif discipline == QUEUE_EACH:
        each_enqueue(worker, pipe, packet, waits)


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
    if discipline == QUEUE_RED:
        return red_dequeue(pipe)
    if discipline == QUEUE_PIE:
        return pie_dequeue(pipe, now_ns)
    if discipline == QUEUE_FQ_CODEL:
        return fq_codel_dequeue(worker, pipe, now_ns)
    if discipline == QUEUE_FQ_PIE:
        return fq_pie_dequeue(pipe, now_ns)
    if discipline == QUEUE_EACH:
        return each_dequeue(worker, pipe, now_ns)
    return codel_dequeue(worker, pipe, now_ns)


cdef inline uint32_t discipline_queues(Shaper *shaper) noexcept nogil:
    """How many queues the discipline needs."""
    cdef uint32_t discipline = shaper.queue.discipline
    if (
        discipline == QUEUE_DROPTAIL or discipline == QUEUE_CODEL or discipline == QUEUE_RED
        or discipline == QUEUE_PIE
    ):
        return 1
    if discipline == QUEUE_EACH:
        return shaper.queue.flows + 1
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
    elif shaper.queue.discipline == QUEUE_EACH:
        each_begin(shaper)


cdef inline bint discipline_stays(QueueSettings *settings, QueueSettings *wanted) noexcept nogil:
    """Whether a change leaves each packet in its place, and what the discipline has learned as it is."""
    return (
        settings.discipline == wanted.discipline and settings.flows == wanted.flows
        and settings.quantum_bytes == wanted.quantum_bytes
        and memcmp(settings.weights, wanted.weights, sizeof(settings.weights)) == 0
        and memcmp(&settings.mask, &wanted.mask, sizeof(settings.mask)) == 0
    )


cdef inline void discipline_set(QueueSettings *settings, QueueSettings *wanted) noexcept nogil:
    # with what lies between the fields: discipline_stays() compares it
    memcpy(settings, wanted, sizeof(QueueSettings))


cdef inline void discipline_change(Shaper *shaper, QueueSettings *wanted) noexcept nogil:
    """Take over settings under which the discipline stays."""
    if shaper.queue.discipline == QUEUE_EACH and shaper.queue.rate_bps != wanted.rate_bps:
        each_change_rate(shaper)
    discipline_set(&shaper.queue, wanted)


cdef inline void discipline_settle(Worker *worker, Pipe *pipe, int64_t now_ns) noexcept nogil:
    """Do what was to be done by `now_ns` and was put off until somebody looks."""
    if pipe.shaper.queue.discipline == QUEUE_EACH:
        each_settle(worker, pipe, now_ns)


cdef inline void discipline_look(
    Shaper *shaper, int64_t now_ns, uint64_t *probability, uint64_t *average_bytes
) noexcept nogil:
    """With which probability (in 1/2^64) the next packet is dropped that is judged, and the average that
    tells it.
    """
    probability[0] = average_bytes[0] = 0
    if shaper.queue.discipline == QUEUE_RED:
        probability[0] = red_probability(&shaper.queue, shaper.queues.judge.red.average)
        average_bytes[0] = shaper.queues.judge.red.average >> RED_FRACTION_BITS
    elif shaper.queue.discipline == QUEUE_PIE and shaper.queues.judge.pie.update_ns:
        pie_update(&shaper.queue, &shaper.queues.judge.pie, now_ns)
        probability[0] = pie_fraction(&shaper.queues.judge.pie)
