# The worker: turns of nodes in the order of their events. The loop that keeps to the host's clock is in
# loop.pxd.
#
# A node's turn takes what it may handle now, in the order (time, round, ingress port, sequence), in vectors.
# Where every pipe that leads to it takes time, nothing unknown can arrive within the least of those times, so
# it runs ahead by that much. The two ends of a UDP flow know of each other without a packet between them:
# whether all has been sent, and how long that took. So they keep in step, except while it is known that the
# flow goes on (see ahead.pxd).
#
# A vector that is alone at its instant passes routers on ideal links without a turn for each of them. What
# arrives at devices is written when all that is due has been handled, or much has: segments that are due
# together leave as one frame.

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from ..device.nic cimport nic_vector
from ..device.tap cimport tap_vector
from ..headers.icmp cimport ICMP_UNREACHABLE, UNREACHABLE_HOST
from ..link.crossing cimport ROUND_MASK, next_round, packet_round
from ..link.interface cimport interface_send_vector
from ..link.line cimport pipe_first
from ..link.shaper cimport shaper_timer
from ..machine.platform cimport debug_assert, host_clock_ns, is_likely, is_unlikely, prefetch, with_room
from ..observe.arrivals cimport pipe_observe
from ..observe.drops cimport drop
from ..observe.lateness cimport is_device, lateness_handled
from ..packet.segment cimport wire_bytes, wire_segments
from ..stack.bridge cimport hub_vector, switch_vector
from ..stack.echo cimport echo_timer
from ..stack.ether_input cimport host_vector
from ..stack.flow cimport flow_timer
from ..stack.icmp_output cimport icmp_error
from ..stack.neighbor cimport neighbor_timer, request_interval_ns
from ..stack.router cimport Departure, ip4_router_vector
from ..state.network cimport (
    Interface, KIND_HOST, KIND_HUB, KIND_NIC, KIND_ROUTER, KIND_SWITCH, KIND_TAP, LOOPBACK_PORT, Node,
    OBSERVE_LATENESS, Pipe, PipeEntry, VECTOR_SIZE, WAY_IDEAL, Worker,
)
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_NEIGHBOR_UNREACHABLE
from ..state.records cimport Event
from ..time.events cimport (
    TIMER_FLOWS, TIMER_NEIGHBORS, TIMER_PIPES, TIMER_SOCKETS, TIMER_SOURCE, never, node_event, node_port,
    node_wake,
)
from ..time.heap cimport heap_pop, heap_push, heap_replace_first, heap_second
from .ahead cimport worker_find_quiet, worker_find_stride
from .port cimport port_vector

cdef enum:
    TURN_PACKETS = 512             # after which a node that runs ahead lets others have theirs
    # after which devices get what has come for them meanwhile: none of it is to wait for long
    WRITE_TURNS = 16
    NO_ROUND = ROUND_MASK + 1      # that no packet has


cdef inline void node_input(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count, Departure *departure
) noexcept nogil:
    """Let a node handle a vector of frames that came by one interface.

    It may leave it to the caller to send the last ones on.
    """
    cdef uint8_t kind = interface.node.kind
    departure.output = NULL
    worker.vectors += 1
    if kind == KIND_ROUTER:
        worker.hop_packets += count
        ip4_router_vector(worker, interface, vector, count, departure)
    elif kind == KIND_SWITCH:
        worker.hop_packets += count
        switch_vector(worker, interface, vector, count)
    elif kind == KIND_HUB:
        worker.hop_packets += count
        hub_vector(worker, interface, vector, count)
    elif kind == KIND_HOST:
        host_vector(worker, interface, vector, count)
    elif kind == KIND_TAP:
        tap_vector(worker, interface, vector, count)
    elif kind == KIND_NIC:
        nic_vector(worker, interface, vector, count)
    else:
        port_vector(worker, interface.node, vector, count)


cdef inline void node_timer_fired(
    Worker *worker, Node *node, uint32_t source, int64_t time_ns
) noexcept nogil:
    cdef uint32_t i
    cdef Packet *packet
    if source == TIMER_NEIGHBORS:
        neighbor_timer(worker, node, time_ns)
        i = 0
        while i < worker.undeliverable.count:
            packet = worker.undeliverable.packets[i]
            packet.time_ns = time_ns
            icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_HOST, 0, time_ns)
            drop(worker, node, packet, DROP_NEIGHBOR_UNREACHABLE)
            i += 1
        worker.undeliverable.count = 0
    elif source == TIMER_SOCKETS:
        echo_timer(worker, node, time_ns)
    elif source >= TIMER_PIPES:
        shaper_timer(worker, node.ports[source - TIMER_PIPES].output, time_ns)
    elif worker.flows[source - TIMER_FLOWS].node == node:  # else it was for a flow that had this place before
        flow_timer(worker, &worker.flows[source - TIMER_FLOWS], time_ns)


cdef inline bint entry_arrives(PipeEntry *entry, int64_t last_ns, uint32_t later_round) noexcept nogil:
    """Whether an entry of a line, and so all before it, arrives by `last_ns`, but not in `later_round` of it.

    Of one that was lost, nothing can be told.
    """
    return entry.packet is not NULL and (
        entry.arrival_ns < last_ns
        or (entry.arrival_ns == last_ns and entry.packet.crossings & ROUND_MASK != later_round)
    )


cdef inline uint32_t take_vector(
    Worker *worker, Pipe *pipe, int64_t last_ns, uint32_t later_round
) noexcept nogil:
    """Take from a pipe what arrives by `last_ns`, but not in `later_round` of it: how many packets.

    They are a vector at most.
    """
    cdef uint32_t count = 0
    cdef uint32_t mask = pipe.capacity - 1
    cdef uint32_t head = pipe.head
    cdef uint32_t end = pipe.tail
    cdef uint64_t packets = 0
    cdef uint64_t bytes = 0
    cdef PipeEntry *ring = pipe.ring
    cdef Packet *packet
    cdef bint all_arrive
    debug_assert(head != end and ring[head & mask].packet is not NULL)
    if end - head > VECTOR_SIZE:
        end = head + VECTOR_SIZE
    all_arrive = entry_arrives(&ring[(end - 1) & mask], last_ns, later_round)
    while head != end:
        packet = ring[head & mask].packet
        prefetch(ring[(head + 8) & mask].packet)
        if is_likely(packet is not NULL):
            if not all_arrive and not entry_arrives(&ring[head & mask], last_ns, later_round):
                break
            debug_assert(entry_arrives(&ring[head & mask], last_ns, later_round))
            packet.time_ns = ring[head & mask].arrival_ns
            packets += wire_segments(packet)
            bytes += wire_bytes(packet)
            worker.vector[count] = packet
            count += 1
        head += 1
    pipe.head = head
    pipe.receiver.rx_packets += packets
    pipe.receiver.rx_bytes += bytes
    return count


cdef inline uint32_t take_first(
    Worker *worker, Node *node, Pipe *pipe, int64_t limit_ns, bint exact
) noexcept nogil:
    """Take from the pipe at the head of the node's events all that comes before anything else, and put it
    back by its new head.

    The first may begin to ask for a neighbor, which the node does again after a time that the last must not
    be past.
    """
    cdef Event *other = heap_second(&node.events)
    cdef uint32_t later_round = next_round(worker)
    cdef uint32_t count
    cdef int64_t arrival_ns
    cdef Packet *packet
    if not exact:
        later_round = NO_ROUND
        if limit_ns - node.events.events[0].time_ns > request_interval_ns():
            limit_ns = node.events.events[0].time_ns + request_interval_ns()
        if other is not NULL and other.time_ns <= limit_ns:
            limit_ns = other.time_ns - (pipe.receiver.port > <uint32_t>other.order)
    count = take_vector(worker, pipe, limit_ns, later_round)
    packet = pipe_first(pipe)
    if packet is NULL:
        pipe.active = 0
        heap_pop(&node.events)
    else:
        arrival_ns = pipe.ring[pipe.head & (pipe.capacity - 1)].arrival_ns
        heap_replace_first(
            &node.events, arrival_ns,
            <uint64_t>packet_round(worker, packet, arrival_ns) << 32 | pipe.receiver.port,
        )
    return count


cdef inline bint passes_on(Worker *worker, Pipe *pipe) noexcept nogil:
    """Whether what is put into a pipe now arrives at once, at no device, as all that happens in the next
    round of the instant, and no other work is due before.
    """
    return (
        worker.current_count == 0 and worker.ready_count == 0
        and (worker.events.count == 0 or worker.events.events[0].time_ns > worker.instant_ns)
        and (worker.turns + 1) % WRITE_TURNS and not worker.drain_due
        and pipe.way == WAY_IDEAL and not pipe.active and not is_device(pipe.receiver.node)
    )


cdef inline void pipe_deliver(Worker *worker, Pipe *pipe, uint32_t count, bint alone) noexcept nogil:
    """Let the receiving node handle the vector that was taken from a pipe.

    `alone`: the node that it was taken for has nothing else to do in this round. If no other has, either,
    routers pass it on for as long as that holds. As many packets as a full vector has, passed on once, count
    as a turn.
    """
    cdef Departure departure
    cdef uint32_t passed = 0
    # While the engine stands still, its instant may move past what is ready.
    alone = alone and worker.vector[0].time_ns == worker.instant_ns
    while True:
        if is_unlikely(pipe.observed):
            pipe_observe(worker, pipe, worker.vector, count)
        node_input(worker, pipe.receiver, worker.vector, count, &departure)
        if is_unlikely(pipe.observed & OBSERVE_LATENESS):
            lateness_handled(worker, pipe, count)
        if departure.output is NULL:
            break
        if not alone or departure.first or not passes_on(worker, departure.output.output):
            interface_send_vector(
                worker, departure.output, worker.vector + departure.first, count - departure.first,
                departure.packets, departure.bytes,
            )
            break
        departure.output.tx_packets += departure.packets
        departure.output.tx_bytes += departure.bytes
        pipe = departure.output.output
        pipe.receiver.rx_packets += departure.packets
        pipe.receiver.rx_bytes += departure.bytes
        worker.round += 1
        passed += count
        if passed >= VECTOR_SIZE:
            passed -= VECTOR_SIZE
            worker.turns += 1


cdef inline void device_put_off(Worker *worker, Pipe *pipe) noexcept nogil:
    """Let what a pipe has brought to a device wait for devices_write().

    Meanwhile it stands in no node's events.
    """
    worker.unwritten = <Pipe **>with_room(
        worker.unwritten, worker.unwritten_count, &worker.unwritten_capacity, 16, sizeof(void *)
    )
    worker.unwritten[worker.unwritten_count] = pipe
    worker.unwritten_count += 1


cdef inline void devices_write(Worker *worker, int64_t until_ns) noexcept nogil:
    """Give the devices what has come for them by `until_ns`.

    Segments that follow each other leave as one frame if they are given together.
    """
    cdef uint32_t i
    cdef Pipe *pipe
    cdef Packet *packet
    cdef PipeEntry *first
    for i in range(worker.unwritten_count):
        pipe = worker.unwritten[i]
        while True:
            packet = pipe_first(pipe)
            if packet is NULL:
                pipe.active = 0
                break
            first = &pipe.ring[pipe.head & (pipe.capacity - 1)]
            if first.arrival_ns > until_ns:
                node_event(
                    worker, pipe.receiver.node, first.arrival_ns,
                    packet_round(worker, packet, first.arrival_ns), pipe.receiver.port,
                )
                break
            pipe_deliver(worker, pipe, take_vector(worker, pipe, until_ns, NO_ROUND), False)
    worker.unwritten_count = 0


cdef inline void node_turn(Worker *worker, Node *node, int64_t until_ns) noexcept nogil:
    """Handle what is due at a node at the worker's instant and round, and ahead of it, by `until_ns`, as
    far as is safe.
    """
    cdef int64_t limit_ns = worker.instant_ns
    cdef bint in_step = node.flows_in_step and not limit_ns < until_ns < worker.quiet_ns
    cdef bint exact = node.lookahead_ns <= 0 or in_step or worker.round or node.arrival is not NULL
    cdef int64_t timer_limit_ns = limit_ns
    cdef int64_t reached_ns = limit_ns
    cdef uint64_t limit_order = <uint64_t>(worker.round + 1) << 32
    cdef uint32_t left = TURN_PACKETS
    cdef uint32_t source, count
    cdef int64_t time_ns
    cdef Event *event
    cdef Pipe *pipe
    if not exact:
        if until_ns - limit_ns > worker.stride_ns:
            until_ns = limit_ns + worker.stride_ns
        if until_ns > limit_ns:
            limit_ns = until_ns
            if node.lookahead_ns - 1 < until_ns - worker.instant_ns:
                limit_ns = worker.instant_ns + node.lookahead_ns - 1
            timer_limit_ns = limit_ns
            # Where nothing overtakes in its only pipe, all that is in it comes before what is not.
            if node.port_count == 1 and not node.overtaken:
                limit_ns = until_ns
    while node.events.count and left:
        # for what it has sent itself, which comes before what is later
        if is_unlikely(node.ready and not exact):
            limit_ns = timer_limit_ns = worker.instant_ns
        event = node.events.events
        time_ns = event.time_ns
        if time_ns > limit_ns or (exact and time_ns == limit_ns and event.order >= limit_order):
            break
        source = <uint32_t>event.order
        if is_unlikely(source == LOOPBACK_PORT and not exact):
            break
        if source >= TIMER_SOURCE:
            if time_ns > timer_limit_ns:
                break
            heap_pop(&node.events)
            reached_ns = time_ns
            node_timer_fired(worker, node, source, time_ns)
            left -= 1
        else:
            pipe = node_port(node, source).input
            if is_device(node):
                heap_pop(&node.events)
                device_put_off(worker, pipe)
                continue
            count = take_first(worker, node, pipe, limit_ns, exact)
            if count == 0:
                continue
            reached_ns = worker.vector[count - 1].time_ns
            pipe_deliver(
                worker, pipe, count,
                exact and (node.events.count == 0 or node.events.events[0].time_ns > limit_ns),
            )
            left -= count if count < left else left
    if reached_ns > worker.ahead_ns:
        worker.ahead_ns = reached_ns
    if node.events.count:
        node_wake(worker, node, node.events.events[0].time_ns, <uint32_t>(node.events.events[0].order >> 32))


cdef inline void node_ready_turn(Worker *worker, Node *node) noexcept nogil:
    """The turn of a node that was ready.

    Most often all that it has to do is what one ideal link has brought.
    """
    cdef Pipe *pipe = node.arrival
    cdef Packet *packet
    cdef uint32_t count
    cdef int64_t arrival_ns
    node.ready = 0
    node.arrival = NULL
    if pipe is NULL or (node.events.count and node.events.events[0].time_ns <= worker.instant_ns):
        if pipe is not NULL:
            heap_push(&node.events, worker.instant_ns, <uint64_t>worker.round << 32 | pipe.receiver.port)
        node_turn(worker, node, worker.instant_ns)
        return
    if is_device(node):
        device_put_off(worker, pipe)
        return
    count = take_vector(worker, pipe, worker.instant_ns, next_round(worker))
    packet = pipe_first(pipe)
    if packet is NULL:
        pipe.active = 0
    else:
        arrival_ns = pipe.ring[pipe.head & (pipe.capacity - 1)].arrival_ns
        heap_push(
            &node.events, arrival_ns,
            <uint64_t>packet_round(worker, packet, arrival_ns) << 32 | pipe.receiver.port,
        )
    pipe_deliver(worker, pipe, count, packet is NULL)
    if node.events.count:
        node_wake(worker, node, node.events.events[0].time_ns, <uint32_t>(node.events.events[0].order >> 32))


cdef inline void fetch_ahead(Worker *worker) noexcept nogil:
    """Fetch what the next turns of the round read first: a node, then the pipe that has brought it
    something, then the pipe's line; each is found by the one before.
    """
    cdef uint32_t left = worker.current_count
    cdef uint32_t i
    cdef Pipe *pipe
    if left < 3:
        return
    prefetch(worker.current[left - 3])
    prefetch(<uint8_t *>worker.current[left - 3] + 64)
    prefetch(worker.current[left - 2].arrival)
    pipe = worker.current[left - 1].arrival
    if pipe is not NULL:
        prefetch(pipe.receiver)
        for i in range(0, 12, 4):  # entries, of which a cache line holds four
            prefetch(&pipe.ring[(pipe.head + i) & (pipe.capacity - 1)])


cdef inline Event *next_wake(Worker *worker) noexcept nogil:
    """The first entry of the worker's events that is not stale; NULL where there is none."""
    cdef Event *event
    cdef Node *node
    while worker.events.count:
        event = worker.events.events
        node = &worker.nodes[<uint32_t>event.order]
        if node.wake_ns == event.time_ns and node.wake_round == <uint32_t>(event.order >> 32):
            return event
        heap_pop(&worker.events)
    return NULL


cdef inline int64_t next_event_ns(Worker *worker) noexcept nogil:
    cdef Event *event
    if worker.ready_count or worker.current_count:
        return worker.instant_ns
    event = next_wake(worker)
    return event.time_ns if event is not NULL else never()


cdef inline void round_begin(Worker *worker) noexcept nogil:
    """Go on to the next round of the instant."""
    cdef Node **swap = worker.current
    cdef uint32_t capacity = worker.current_capacity
    worker.current = worker.ready
    worker.current_capacity = worker.ready_capacity
    worker.current_count = worker.ready_count
    worker.ready = swap
    worker.ready_capacity = capacity
    worker.ready_count = 0
    worker.round += 1


cdef inline Node *due_node(Worker *worker, int64_t until_ns) noexcept nogil:
    """The node that is next in the worker's events, the instant and round set to its own; NULL where none
    is due before the next round.
    """
    cdef Event *event
    cdef Node *node
    if (
        worker.ready_count
        and (worker.events.count == 0 or worker.events.events[0].time_ns > worker.instant_ns)
    ):
        return NULL
    event = next_wake(worker)
    if event is NULL or event.time_ns > until_ns:
        return NULL
    if event.time_ns != worker.instant_ns or <uint32_t>(event.order >> 32) != worker.round:
        if worker.ready_count:
            return NULL
        worker.instant_ns = event.time_ns
        worker.round = <uint32_t>(event.order >> 32)
    node = &worker.nodes[<uint32_t>event.order]
    heap_pop(&worker.events)
    node.wake_ns = never()
    return node


cdef inline bint worker_work(
    Worker *worker, int64_t until_ns, bint stop_on_event, int64_t host_limit_ns
) noexcept nogil:
    """worker_run(), but for what is still to be given to devices."""
    cdef Node *node
    cdef uint32_t posted = worker.posted_tail
    cdef int64_t target_ns = until_ns
    if stop_on_event and worker.quiet_ns == 0:
        worker_find_quiet(worker)
    while True:
        node = NULL
        if worker.current_count == 0:
            node = due_node(worker, target_ns)
            if node is NULL:
                if worker.ready_count == 0 or worker.instant_ns > target_ns:
                    return target_ns == until_ns
                round_begin(worker)
        if node is NULL:
            worker.current_count -= 1
            fetch_ahead(worker)
            node_ready_turn(worker, worker.current[worker.current_count])
        else:
            node_turn(
                worker, node,
                worker.quiet_ns - 1 if stop_on_event and worker.quiet_ns <= target_ns else target_ns,
            )
        if stop_on_event and worker.posted_tail != posted:
            target_ns = worker.instant_ns  # finish the instant, so that it is whole
        if is_unlikely(worker.drain_due):
            return False
        worker.turns += 1
        if worker.turns % WRITE_TURNS == 0:
            devices_write(worker, worker.instant_ns)
        if worker.turns & 63 == 0:
            worker_find_stride(worker)
            if stop_on_event:
                worker_find_quiet(worker)
            if host_limit_ns and host_clock_ns() > host_limit_ns:
                return False


cdef inline bint worker_run(
    Worker *worker, int64_t until_ns, bint stop_on_event, int64_t host_limit_ns
) noexcept nogil:
    """Handle all that is due by `until_ns`.

    False: stopped before, at an event's instant, for the wall clock or a full ring.
    """
    cdef bint finished = worker_work(worker, until_ns, stop_on_event, host_limit_ns)
    devices_write(worker, until_ns if finished else worker.instant_ns)
    return finished


cdef inline void worker_enter(Worker *worker, int64_t now_ns) noexcept nogil:
    """Make the worker's instant that of something from outside, which comes after all that was handled by
    then.
    """
    if now_ns > worker.instant_ns:
        worker.instant_ns = now_ns
        worker.round = 0
    elif next_event_ns(worker) > worker.instant_ns:
        worker.round = 0
