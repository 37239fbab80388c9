# How soon anything can reach a node by the pipes that lead to it, which is how far it may run ahead, and what
# waits for it in them. Whoever shortens a pipe's least time or lets packets overtake has to say so here.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from ..machine.platform cimport must_resize
from ..state.network cimport Node, Pipe, Worker
from ..state.packets cimport Packet
from ..state.records cimport Event
from ..state.shapers cimport Shaper
from ..time.events cimport TIMER_SOURCE, never, node_port, node_wake
from ..time.heap cimport heap_push
from .crossing cimport packet_round
from .line cimport pipe_first
from .rate_trace cimport NANOBITS_IN_BYTE

cdef enum:
    SHORTEST_FRAME = 1             # byte, that a PORT may send


cdef inline int64_t pipe_quickest_ns(Pipe *pipe) noexcept nogil:
    """The least time that a packet takes over the pipe."""
    cdef Shaper *shaper = pipe.shaper
    cdef int64_t service_ns = 0
    cdef int64_t delay_ns = pipe.delay_ns
    cdef int64_t bytes = pipe.overhead_bytes + <int64_t>SHORTEST_FRAME
    if pipe.bandwidth_bps and bytes > 0:
        service_ns = (bytes * NANOBITS_IN_BYTE) // pipe.bandwidth_bps
    if shaper is NULL:
        return service_ns + delay_ns
    if shaper.burst_bytes or shaper.trace.table is not NULL:
        service_ns = 0
    if shaper.jitter.distribution is not NULL:
        delay_ns += shaper.jitter.distribution.values[0]
    if shaper.reorder.threshold or delay_ns < 0:
        delay_ns = 0
    # A service that starts amid a nanosecond is a matter of the instant after it.
    return service_ns + delay_ns - 1 if service_ns + delay_ns else 0


cdef inline void node_find_lookahead(Node *node) noexcept nogil:
    """The least time that anything takes to reach the node: over the quickest pipe that leads to it."""
    cdef int64_t least = never()
    cdef int64_t quickest
    cdef uint32_t i
    cdef Pipe *pipe
    node.overtaken = 0
    for i in range(node.port_count):
        pipe = node.ports[i].input
        if pipe is NULL:
            continue
        quickest = pipe_quickest_ns(pipe)
        if quickest < least:
            least = quickest
        if pipe.shaper is not NULL and (pipe.shaper.jitter.overtakes or pipe.shaper.reorder.threshold):
            node.overtaken = 1
    node.lookahead_ns = least


cdef inline void node_find_events(Worker *worker, Node *node) noexcept nogil:
    """Collect a node's events anew, after arrivals were changed or taken away; its timers stay."""
    cdef uint32_t count = node.events.count
    cdef uint32_t i
    cdef int64_t arrival_ns
    cdef Event event
    cdef Event *events = <Event *>must_resize(NULL, (count + 1) * sizeof(Event))
    cdef Pipe *pipe
    cdef Packet *packet
    for i in range(count):
        events[i] = node.events.events[i]
    node.events.count = 0
    for i in range(count):
        event = events[i]
        if <uint32_t>event.order >= TIMER_SOURCE:
            heap_push(&node.events, event.time_ns, event.order)
    free(events)
    node.arrival = NULL
    for i in range(node.port_count + (node.stack is not NULL)):
        pipe = node_port(node, i).input
        if pipe is NULL:
            continue
        packet = pipe_first(pipe)
        pipe.active = packet is not NULL
        if packet is not NULL:
            arrival_ns = pipe.ring[pipe.head & (pipe.capacity - 1)].arrival_ns
            heap_push(
                &node.events, arrival_ns,
                <uint64_t>packet_round(worker, packet, arrival_ns) << 32 | pipe.receiver.port,
            )
    if node.events.count:
        node_wake(
            worker, node, node.events.events[0].time_ns, <uint32_t>(node.events.events[0].order >> 32)
        )
