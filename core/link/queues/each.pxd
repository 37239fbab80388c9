# each: a transmitter of its own for each flow, in front of the link's: what dummynet calls dynamic pipes. A
# flow waits in a queue of its own and leaves it at `rate_bps`; all that has left its flow goes through the
# link's own queue and transmitter, first come, first served. With an unlimited link the flows know nothing of
# each other; with a limited one, each is a subscriber who shares it. Reads: flows, mask, rate_bps; the pipe's
# limits, drops_head; overhead and cells, which count for a flow as for the link.
#
# The pipe's limits hold for the queue of each flow, and once more for the link's. As with any transmitter,
# the packet in service does not count, and one that finds its flow idle is never dropped.
#
# A flow's service starts at max(arrival, the end of the one before), exactly: whole nanoseconds and a carried
# remainder in 1/rate_bps nanoseconds. At its end, in whole nanoseconds, rounded down, the packet comes to the
# link, as it would over a pipe without delay, and the next one's service begins. What comes to the link in
# one nanosecond comes in the order of the table of queues, and before anything that arrives at its flow in
# that nanosecond.
#
# There is no timer for that: packets come to the link when the next one arrives, or when the link can take
# one, each at its own time. Alone of all disciplines this one may have packets and none for the link:
# `ready_ns` says when there is one.
#
# A change of the rate, the overhead or the cells counts from the next packet that starts service, in each
# flow; other `flows` or another `mask` make all that waits, and all that is in a flow's service, begin anew.
#
# Limits: flows that are hashed to one queue share its rate; 65536 queues make that rare. Work grows with the
# logarithm of the flows that send. Cousins: drr, wfq and qfq share one rate and leave none of it unused.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport EachState, FAIR_NONE, FAIR_WAITING, FlowHeap, FlowQueue, Shaper
from ..rate_trace cimport NANOBITS_IN_BYTE
from ..transmitter cimport frame_wire_bytes, transmitter_is_busy
from .classify cimport flow_hash
from .fair_clock cimport fair_begin
from .flow_heap cimport flow_heap_first, flow_heap_insert, flow_heap_remove
from .flow_queue cimport queue_drop, queue_head, queue_pop, queue_push, queue_remove

# The first queue is the link's, the others are those of the flows. A flow in the heap has its first packet in
# service.
cdef inline void each_begin(Shaper *shaper) noexcept nogil:
    fair_begin(shaper)
    shaper.fair.waiting.list = FAIR_WAITING


cdef inline void each_queue(
    Worker *worker, Pipe *pipe, FlowQueue *queue, Packet *packet, bint waits
) noexcept nogil:
    """Put a packet into a queue, or drop it or what has waited there longest."""
    cdef Shaper *shaper = pipe.shaper
    cdef bint serves = queue.list != FAIR_NONE
    cdef uint32_t packets = queue.packets - serves
    cdef uint64_t bytes = queue.bytes - (queue_head(shaper, queue).total_length if serves else 0)
    cdef Packet *oldest
    if not waits:
        queue_push(shaper, queue, packet)
        return
    if not shaper.queue.drops_head and (
        packets >= pipe.queue_limit_packets or bytes + packet.total_length > pipe.queue_limit_bytes
    ):
        queue_drop(worker, pipe, packet)
        return
    queue_push(shaper, queue, packet)
    packets += 1
    bytes += packet.total_length
    while packets and (packets > pipe.queue_limit_packets or bytes > pipe.queue_limit_bytes):
        oldest = queue_remove(shaper, queue, shaper.places[queue.first - 1].next if serves else queue.first)
        packets -= 1
        bytes -= oldest.total_length
        queue_drop(worker, pipe, oldest)


cdef inline void each_start(Pipe *pipe, FlowQueue *queue, int64_t now_ns) noexcept nogil:
    """Start the service of a flow's first packet, at `now_ns` or when the flow's transmitter is free."""
    cdef Shaper *shaper = pipe.shaper
    cdef EachState *each = &queue.judge.each
    cdef uint64_t nanobits = frame_wire_bytes(pipe, queue_head(shaper, queue).total_length) * NANOBITS_IN_BYTE
    if each.free_ns < now_ns:
        each.free_ns = now_ns
        each.free_remainder = 0
    each.free_ns += nanobits // shaper.queue.rate_bps
    each.free_remainder += nanobits % shaper.queue.rate_bps
    if each.free_remainder >= shaper.queue.rate_bps:
        each.free_remainder -= shaper.queue.rate_bps
        each.free_ns += 1
    queue.virtual_start = <uint64_t>each.free_ns
    flow_heap_insert(shaper, &shaper.fair.waiting, queue)


cdef inline void each_tell_ready(Shaper *shaper, int64_t now_ns) noexcept nogil:
    """Say since when, or from when on, there is something for the link to send."""
    if shaper.queues.packets:
        shaper.ready_ns = now_ns
    elif shaper.fair.waiting.count:
        shaper.ready_ns = <int64_t>flow_heap_first(shaper, &shaper.fair.waiting).virtual_start


cdef inline void each_settle(Worker *worker, Pipe *pipe, int64_t now_ns) noexcept nogil:
    """Bring to the link's queue all that has left its flow by now."""
    cdef Shaper *shaper = pipe.shaper
    cdef FlowHeap *heap = &shaper.fair.waiting
    cdef FlowQueue *link = shaper.queues
    cdef FlowQueue *queue
    cdef int64_t end_ns
    while heap.count:
        queue = flow_heap_first(shaper, heap)
        end_ns = <int64_t>queue.virtual_start
        if end_ns > now_ns:
            break
        flow_heap_remove(shaper, heap, queue)
        shaper.now_ns = end_ns
        each_queue(
            worker, pipe, link, queue_pop(shaper, queue),
            link.packets != 0 or transmitter_is_busy(pipe, end_ns),
        )
        if queue.packets:
            each_start(pipe, queue, end_ns)
    shaper.now_ns = now_ns
    each_tell_ready(shaper, now_ns)


cdef inline void each_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef int64_t now_ns = shaper.now_ns
    cdef uint32_t flows = shaper.queue.flows
    cdef FlowQueue *queue = &shaper.queues[1 + (flow_hash(shaper, packet) % flows if flows > 1 else 0)]
    each_settle(worker, pipe, now_ns)
    each_queue(worker, pipe, queue, packet, waits and queue.packets != 0)
    if queue.list == FAIR_NONE:
        each_start(pipe, queue, now_ns)
        each_settle(worker, pipe, now_ns)


cdef inline Packet *each_dequeue(Worker *worker, Pipe *pipe, int64_t now_ns) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef Packet *packet
    each_settle(worker, pipe, now_ns)
    packet = queue_pop(shaper, shaper.queues)
    each_tell_ready(shaper, now_ns)
    return packet


cdef inline void each_change_rate(Shaper *shaper) noexcept nogil:
    """Carry no remainder over into another rate, in whose fractions it would mean another time."""
    cdef EachState *each
    cdef uint32_t i
    for i in range(shaper.queue.flows):
        each = &shaper.queues[1 + i].judge.each
        each.free_ns += each.free_remainder != 0
        each.free_remainder = 0
