# Who is next. A worker keeps its nodes in a heap by the next thing that each has to do, and a node keeps its
# own events (heads of ingress pipes, timers) in a heap of its own, so that it can run ahead in vectors.
#
# Order is (time, round, source). A round is one step over undelayed links: what a node sends over one in
# round r of an instant is handled in round r + 1 of that instant. Nodes of one round cannot see each other,
# so the order among them does not matter, and any number of workers gives the same run.

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from ..machine.platform cimport (
    atomic_load32, atomic_store32, atomic_store64, is_likely, is_unlikely, must_resize, must_zero, with_room,
)
from ..state.network cimport Interface, Node, Pipe, Worker
from ..state.records cimport Event, Heap, Posted
from .heap cimport heap_push

cdef enum:
    TIMER_SOURCE = 0x80000000u      # after what arrives at the same time
    TIMER_NEIGHBORS = 0x80000000u
    TIMER_FLOWS = 0x80000001u       # plus the flow's index
    TIMER_SOCKETS = 0xB0000000u     # of all conversations that wait
    TIMER_PIPES = 0xC0000000u       # plus the port: after all else that happens at the time
    POSTED_CAPACITY = 8192          # at first; a power of two


cdef inline int64_t never() noexcept nogil:
    return INT64_MAX


cdef inline Interface *node_port(Node *node, uint32_t port) noexcept nogil:
    """The interface at a port, which is the source of the events of what it brings."""
    return node.ports[port] if is_likely(port < node.port_count) else &node.stack.loopback


cdef inline void worker_clear_events(Worker *worker) noexcept nogil:
    """Rid the worker's events of places that are no node's any more, and of doubles.

    A node whose next thing is far away leaves one behind each time that something nearer comes in between.
    """
    cdef Heap old = worker.events
    cdef uint32_t i
    cdef Event *event
    cdef Node *node
    worker.events.events = <Event *>must_resize(NULL, (old.capacity + 1) * sizeof(Event))
    worker.events.count = 0
    for i in range(old.count):
        event = &old.events[i]
        node = &worker.nodes[<uint32_t>event.order]
        if (
            not node.wake_kept and node.wake_ns == event.time_ns
            and node.wake_round == <uint32_t>(event.order >> 32)
        ):
            node.wake_kept = 1
            heap_push(&worker.events, event.time_ns, event.order)
    for i in range(worker.events.count):
        worker.nodes[<uint32_t>worker.events.events[i].order].wake_kept = 0
    free(old.events)


cdef inline void node_ready(Worker *worker, Node *node) noexcept nogil:
    """Give a node its turn in the round after this one."""
    worker.ready = <Node **>with_room(
        worker.ready, worker.ready_count, &worker.ready_capacity, 64, sizeof(void *)
    )
    node.ready = 1
    worker.ready[worker.ready_count] = node
    worker.ready_count += 1


cdef inline void node_wake(Worker *worker, Node *node, int64_t time_ns, uint32_t round) noexcept nogil:
    """See to it that a node gets its turn at (time, round), if it has none before."""
    if time_ns == worker.instant_ns and round == worker.round + 1:
        if not node.ready:
            node_ready(worker, node)
    elif time_ns < node.wake_ns or (time_ns == node.wake_ns and round < node.wake_round):
        node.wake_ns = time_ns
        node.wake_round = round
        if is_unlikely(worker.events.count >= worker.events_limit):
            worker_clear_events(worker)
            worker.events_limit = 2 * worker.events.count + 64
        heap_push(&worker.events, time_ns, <uint64_t>round << 32 | node.index)


cdef inline void node_event(
    Worker *worker, Node *node, int64_t time_ns, uint32_t round, uint32_t source
) noexcept nogil:
    heap_push(&node.events, time_ns, <uint64_t>round << 32 | source)
    node_wake(worker, node, time_ns, round)


cdef inline void node_arrival(
    Worker *worker, Node *node, Pipe *pipe, int64_t time_ns, uint32_t round
) noexcept nogil:
    """Let a node know of the head of a pipe that leads to it.

    What an ideal link brings goes past the node's events, unless it has something else to do in that round
    already.
    """
    if not node.ready and round == worker.round + 1 and time_ns == worker.instant_ns:
        node.arrival = pipe
        node_ready(worker, node)
    else:
        node_event(worker, node, time_ns, round, pipe.receiver.port)


cdef inline void node_timer(Worker *worker, Node *node, int64_t time_ns, uint32_t source) noexcept nogil:
    """Let a timer of the node fire at `time_ns`, in the round of this instant or the first of a later one."""
    cdef uint32_t round = 0
    if time_ns <= worker.instant_ns:
        time_ns = worker.instant_ns
        round = worker.round
    node_event(worker, node, time_ns, round, source)


cdef inline void posted_grow(Worker *worker) noexcept nogil:
    """Make room for twice as many events, where no other thread can be reading: in virtual time, and
    before the start.
    """
    cdef uint32_t capacity = worker.posted_capacity
    cdef Posted *larger = <Posted *>must_zero(2 * <uint64_t>capacity * sizeof(Posted))
    cdef uint32_t i, k
    for i in range(capacity):  # places count on from zero again at their end
        k = worker.posted_head + i
        larger[k & (2 * capacity - 1)] = worker.posted[k & (capacity - 1)]
    free(worker.posted)
    worker.posted = larger
    worker.posted_capacity = 2 * capacity


cdef inline void post(Worker *worker, int64_t time_ns, uint32_t kind, uint32_t index) noexcept nogil:
    """Tell Python that something happened; never waits.

    In real time, what it does not fetch is lost at some point, and counted.
    """
    cdef Posted *posted
    if is_unlikely(worker.posted_tail - atomic_load32(&worker.posted_head) == worker.posted_capacity):
        if worker.clock.epoch_ns >= 0:
            atomic_store64(&worker.posted_lost, worker.posted_lost + 1)
            return
        posted_grow(worker)
    posted = &worker.posted[worker.posted_tail & (worker.posted_capacity - 1)]
    posted.time_ns = time_ns
    posted.kind = kind
    posted.index = index
    atomic_store32(&worker.posted_tail, worker.posted_tail + 1)
