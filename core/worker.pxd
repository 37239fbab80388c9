# The worker: turns of nodes in the order of their events, and the loop that keeps to the host's clock.
#
# A node's turn takes what it may handle now, in the order (time, round, ingress port, sequence), in vectors. Where
# every pipe that leads to it takes time, nothing unknown can arrive within the least of those times, so it runs ahead
# by that much. The two ends of a UDP flow know of each other without a packet between them: whether all has been sent,
# and how long that took. So they keep in step, except while it is known that the flow goes on (see ahead.pxd).
#
# A vector that is alone at its instant passes routers on ideal links without a turn for each of them. What arrives at devices
# is written when all that is due has been handled, or much has: segments that are due together leave as one frame.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from .ahead cimport worker_find_quiet, worker_find_stride
from .bridge cimport hub_vector, switch_vector
from .clock cimport clock_now, clock_to_host
from .device cimport device_lost
from .ether cimport interface_send_vector
from .flow cimport flow_timer
from .heap cimport heap_pop, heap_push, heap_replace_first, heap_second
from .icmp cimport ICMP_UNREACHABLE, UNREACHABLE_HOST, icmp_error
from .ip4_input cimport Departure, ether_input, ip4_local, ip4_router_vector
from .lateness cimport is_device, lateness_handled, waits_begin, waits_end
from .layout cimport (
    CROSSING_LIMIT, DROP_NEIGHBOR_UNREACHABLE, DROP_POOL_EMPTY, KIND_HOST, KIND_HUB, KIND_NIC, KIND_ROUTER, KIND_SWITCH, KIND_TAP,
    OBSERVE_LATENESS, VECTOR_SIZE, WAY_IDEAL, Command, Event, Interface, Node, Packet, Pipe, PipeEntry, Worker,
    sem_t,
)
from .line cimport pipe_first
from .neighbor cimport neighbor_timer, request_interval_ns
from .nic cimport nic_read, nic_vector
from .observe cimport pipe_observe
from .packet cimport list_append, packet_release
from .platform cimport (
    atomic_load32, atomic_store32, atomic_store64, debug_assert, host_clock_ns, is_likely, is_unlikely, prefetch, with_room,
)
from .ring cimport ring_wakes
from .schedule cimport TIMER_FLOWS, TIMER_NEIGHBORS, TIMER_PIPES, TIMER_SOURCE, count_drop, drop, never, node_event, node_wake
from .segment cimport packet_finish_checksum, packet_segment, wire_bytes, wire_segments
from .shaper cimport shaper_timer
from .tap cimport tap_read, tap_vector

cdef extern from *:
    """
    #ifndef MANYSTACK_WAITING
    #define MANYSTACK_WAITING
    #include <errno.h>
    #include <sched.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/resource.h>
    #include <sys/timerfd.h>
    #include <unistd.h>
    /* Let the calling thread come before all but the kernel's and other real-time threads; whether it may. */
    static inline int come_first(void) {
        struct sched_param lowest = {.sched_priority = 1};
        return sched_setscheduler(0, SCHED_RR, &lowest) == 0;
    }
    /* Let it share with ordinary threads, of which it is the most urgent one as far as it may. */
    static inline void give_way(void) {
        struct sched_param none = {.sched_priority = 0};
        (void)sched_setscheduler(0, SCHED_OTHER, &none);
        for (int nice = -20; nice < 0 && setpriority(PRIO_PROCESS, 0, nice) < 0; nice++);
    }
    static inline void drain_fd(int fd) { uint64_t count; ssize_t got = read(fd, &count, sizeof count); (void)got; }
    static inline void signal_fd(int fd) { uint64_t one = 1; ssize_t put = write(fd, &one, sizeof one); (void)put; }
    static inline int new_event_fd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
    static inline int new_timer_fd(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC); }
    static inline int new_epoll_fd(void) { return epoll_create1(EPOLL_CLOEXEC); }
    static inline int watch_fd(int epoll_fd, int fd, uint64_t tag) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
        return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
    static inline void unwatch_fd(int epoll_fd, int fd) { epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL); }
    static inline void set_timer_fd(int fd, int64_t host_ns) {
        struct itimerspec when = {{0, 0}, {host_ns / 1000000000, host_ns % 1000000000}};
        timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL);
    }
    /* The tags of the readable descriptors; waits if told to. */
    static inline int wait_fds(int epoll_fd, uint64_t *tags, int count, int wait) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll_fd, events, count < 64 ? count : 64, wait ? -1 : 0);
        for (int i = 0; i < n; i++) tags[i] = events[i].data.u64;
        return n < 0 ? 0 : n;
    }
    #endif
    """
    bint come_first() noexcept nogil
    void give_way() noexcept nogil
    void drain_fd(int fd) noexcept nogil
    void signal_fd(int fd) noexcept nogil
    int new_event_fd() noexcept nogil
    int new_timer_fd() noexcept nogil
    int new_epoll_fd() noexcept nogil
    int watch_fd(int epoll_fd, int fd, uint64_t tag) noexcept nogil
    void unwatch_fd(int epoll_fd, int fd) noexcept nogil
    void set_timer_fd(int fd, int64_t host_ns) noexcept nogil
    int wait_fds(int epoll_fd, uint64_t *tags, int count, int wait) noexcept nogil

cdef extern from "<semaphore.h>" nogil:
    int sem_post(sem_t *semaphore)

cdef enum:
    TURN_PACKETS = 512             # after which a node that runs ahead lets others have theirs
    WRITE_TURNS = 16               # after which devices get what has come for them meanwhile: none of it is to wait for long
    FRAMES_KEPT = 1 << 20          # of a PORT, until Python takes them
    BUSY_NS = 10000000             # after which a load that never ends lets the control thread have a word
    BEHIND_POOL_BYTES = 1 << 26    # of packets, above which an engine that is behind takes no more in
    SPIN_NS = 50000                # a sleep ends this much early, and the rest is spun: timers are late by tens of µs
    FIRST_NS = 18000000            # awake at real-time priority, after which others get their share
    OTHERS_SHARE = 15              # of the time at real-time priority: one in so many
    FIRST_AFTER_BEHIND_NS = 60000000  # as an ordinary thread
    SLEEP_NS = 20000               # a wait of less was none: something was ready already
    TAG_WAKE = 0xFFFFFFFFu
    TAG_TIMER = 0xFFFFFFFEu
    READY_FDS = 64
    ANY_ROUND = 0xFFFFFFFFu


cdef inline void port_keep(Worker *worker, Node *node, Packet *packet) noexcept nogil:
    packet = packet_finish_checksum(&worker.pool, packet)
    if packet is NULL:
        count_drop(node, DROP_POOL_EMPTY)
    else:
        list_append(&node.frames, packet)


cdef inline void port_vector(Worker *worker, Node *node, Packet **vector, uint32_t count) noexcept nogil:
    """Keep frames for Python as a wire would show them: cut, and with finished checksums."""
    cdef uint32_t i, k, segments
    cdef Packet *segment
    for i in range(count):
        if node.discard_frames or node.frames.count >= FRAMES_KEPT:
            packet_release(&worker.pool, vector[i])
        elif vector[i].segment_size == 0:
            port_keep(worker, node, vector[i])
        else:
            segments = wire_segments(vector[i])
            for k in range(segments):
                segment = packet_segment(&worker.pool, vector[i], k, segments)
                if segment is NULL:
                    count_drop(node, DROP_POOL_EMPTY)
                else:
                    port_keep(worker, node, segment)
            packet_release(&worker.pool, vector[i])


cdef inline void host_vector(Worker *worker, Interface *interface, Packet **vector, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        ether_input(worker, interface, vector[i])


cdef inline void node_input(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count, Departure *departure
) noexcept nogil:
    """Let a node handle a vector of frames that came by one interface. It may leave it to the caller to send the last ones on."""
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


cdef inline void node_timer_fired(Worker *worker, Node *node, uint32_t source, int64_t time_ns) noexcept nogil:
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
    elif source >= TIMER_PIPES:
        shaper_timer(worker, node.ports[source - TIMER_PIPES].output, time_ns)
    elif worker.flows[source - TIMER_FLOWS].node == node:  # else it was for a flow that had this place before
        flow_timer(worker, &worker.flows[source - TIMER_FLOWS], time_ns)


cdef inline void node_loopback(Worker *worker, Node *node) noexcept nogil:
    """Deliver what the node has sent to itself, and what it sends to itself on that account."""
    cdef uint32_t i = 0
    while i < worker.loopback.count:
        ip4_local(worker, node, NULL, worker.loopback.packets[i], False)
        i += 1
    worker.loopback.count = 0


cdef inline bint entry_arrives(PipeEntry *entry, int64_t last_ns, uint32_t last_round) noexcept nogil:
    """Whether an entry of a line, and so all before it, arrives by (last_ns, last_round). Of one that was lost, nothing can be told."""
    return entry.packet is not NULL and (
        entry.arrival_ns < last_ns or (entry.arrival_ns == last_ns and entry.packet.crossings <= last_round)
    )


cdef inline uint32_t take_vector(Worker *worker, Pipe *pipe, int64_t last_ns, uint32_t last_round) noexcept nogil:
    """Take from a pipe what arrives by (last_ns, last_round), a vector at most; how many packets that are."""
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
    all_arrive = entry_arrives(&ring[(end - 1) & mask], last_ns, last_round)
    while head != end:
        packet = ring[head & mask].packet
        prefetch(ring[(head + 8) & mask].packet)
        if is_likely(packet is not NULL):
            if not all_arrive and not entry_arrives(&ring[head & mask], last_ns, last_round):
                break
            debug_assert(entry_arrives(&ring[head & mask], last_ns, last_round))
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


cdef inline uint32_t take_first(Worker *worker, Node *node, Pipe *pipe, int64_t limit_ns, bint exact) noexcept nogil:
    """Take from the pipe at the head of the node's events all that comes before anything else, and put it back by its new head.

    The first may begin to ask for a neighbor, which the node does again after a time that the last must not be past.
    """
    cdef Event *other = heap_second(&node.events)
    cdef uint32_t last_round = worker.round
    cdef uint32_t count
    cdef Packet *packet
    if not exact:
        last_round = ANY_ROUND
        if limit_ns - node.events.events[0].time_ns > request_interval_ns():
            limit_ns = node.events.events[0].time_ns + request_interval_ns()
        if other is not NULL and other.time_ns <= limit_ns:
            limit_ns = other.time_ns - (pipe.receiver.port > <uint32_t>other.order)
    count = take_vector(worker, pipe, limit_ns, last_round)
    packet = pipe_first(pipe)
    if packet is NULL:
        pipe.active = 0
        heap_pop(&node.events)
    else:
        heap_replace_first(
            &node.events,
            pipe.ring[pipe.head & (pipe.capacity - 1)].arrival_ns,
            <uint64_t>packet.crossings << 32 | pipe.receiver.port,
        )
    return count


cdef inline bint passes_on(Worker *worker, Pipe *pipe) noexcept nogil:
    """Whether what is put into a pipe now arrives at once, at no device, as all that happens in the next round of the instant, and no other work is due before."""
    return (
        worker.current_count == 0 and worker.ready_count == 0
        and (worker.events.count == 0 or worker.events.events[0].time_ns > worker.instant_ns)
        and worker.round < CROSSING_LIMIT and (worker.turns + 1) % WRITE_TURNS and not worker.drain_due
        and pipe.way == WAY_IDEAL and not pipe.active and not is_device(pipe.receiver.node)
    )


cdef inline void pipe_deliver(Worker *worker, Pipe *pipe, uint32_t count, bint alone) noexcept nogil:
    """Let the receiving node handle the vector that was taken from a pipe.

    `alone`: the node that it was taken for has nothing else to do in this round. If no other has, either, routers pass it on for as long as
    that holds. As many packets as a full vector has, passed on once, count as a turn.
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
    if worker.loopback.count:
        node_loopback(worker, pipe.receiver.node)


cdef inline void device_put_off(Worker *worker, Pipe *pipe) noexcept nogil:
    """Let what a pipe has brought to a device wait for devices_write(). Meanwhile it stands in no node's events."""
    worker.unwritten = <Pipe **>with_room(worker.unwritten, worker.unwritten_count, &worker.unwritten_capacity, 16)
    worker.unwritten[worker.unwritten_count] = pipe
    worker.unwritten_count += 1


cdef inline void devices_write(Worker *worker, int64_t until_ns) noexcept nogil:
    """Give the devices what has come for them by `until_ns`. Segments that follow each other leave as one frame if they are given together."""
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
                node_event(worker, pipe.receiver.node, first.arrival_ns, packet.crossings, pipe.receiver.port)
                break
            pipe_deliver(worker, pipe, take_vector(worker, pipe, until_ns, ANY_ROUND), False)
    worker.unwritten_count = 0


cdef inline void node_turn(Worker *worker, Node *node, int64_t until_ns) noexcept nogil:
    """Handle what is due at a node at the worker's instant and round, and ahead of it, by `until_ns`, as far as is safe."""
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
        event = node.events.events
        time_ns = event.time_ns
        if time_ns > limit_ns or (exact and time_ns == limit_ns and event.order >= limit_order):
            break
        source = <uint32_t>event.order
        if source >= TIMER_SOURCE:
            if time_ns > timer_limit_ns:
                break
            heap_pop(&node.events)
            reached_ns = time_ns
            node_timer_fired(worker, node, source, time_ns)
            left -= 1
            if worker.loopback.count:
                node_loopback(worker, node)
        else:
            pipe = node.ports[source].input
            if is_device(node):
                heap_pop(&node.events)
                device_put_off(worker, pipe)
                continue
            count = take_first(worker, node, pipe, limit_ns, exact)
            if count == 0:
                continue
            reached_ns = worker.vector[count - 1].time_ns
            pipe_deliver(
                worker, pipe, count, exact and (node.events.count == 0 or node.events.events[0].time_ns > limit_ns)
            )
            left -= count if count < left else left
    if reached_ns > worker.ahead_ns:
        worker.ahead_ns = reached_ns
    if node.events.count:
        node_wake(worker, node, node.events.events[0].time_ns, <uint32_t>(node.events.events[0].order >> 32))


cdef inline void node_ready_turn(Worker *worker, Node *node) noexcept nogil:
    """The turn of a node that was ready. Most often all that it has to do is what one ideal link has brought."""
    cdef Pipe *pipe = node.arrival
    cdef Packet *packet
    cdef uint32_t count
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
    count = take_vector(worker, pipe, worker.instant_ns, worker.round)
    packet = pipe_first(pipe)
    if packet is NULL:
        pipe.active = 0
    else:
        heap_push(
            &node.events,
            pipe.ring[pipe.head & (pipe.capacity - 1)].arrival_ns,
            <uint64_t>packet.crossings << 32 | pipe.receiver.port,
        )
    pipe_deliver(worker, pipe, count, packet is NULL)
    if node.events.count:
        node_wake(worker, node, node.events.events[0].time_ns, <uint32_t>(node.events.events[0].order >> 32))


cdef inline void fetch_ahead(Worker *worker) noexcept nogil:
    """Fetch what the next turns of the round read first: a node, then the pipe that has brought it something, then the pipe's line; each is found by the one before."""
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
    """The node that is next in the worker's events, the instant and round set to its own; NULL where none is due before the next round."""
    cdef Event *event
    cdef Node *node
    if worker.ready_count and (worker.events.count == 0 or worker.events.events[0].time_ns > worker.instant_ns):
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


cdef inline bint worker_work(Worker *worker, int64_t until_ns, bint stop_on_event, int64_t host_limit_ns) noexcept nogil:
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
            node_turn(worker, node, worker.quiet_ns - 1 if stop_on_event and worker.quiet_ns <= target_ns else target_ns)
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


cdef inline bint worker_run(Worker *worker, int64_t until_ns, bint stop_on_event, int64_t host_limit_ns) noexcept nogil:
    """Handle all that is due by `until_ns`. False: stopped before, at an event's instant, for the wall clock or a full ring."""
    cdef bint finished = worker_work(worker, until_ns, stop_on_event, host_limit_ns)
    devices_write(worker, until_ns if finished else worker.instant_ns)
    return finished


cdef inline void worker_enter(Worker *worker, int64_t now_ns) noexcept nogil:
    """Make the worker's instant that of something from outside, which comes after all that was handled by then."""
    if now_ns > worker.instant_ns:
        worker.instant_ns = now_ns
        worker.round = 0
    elif next_event_ns(worker) > worker.instant_ns:
        worker.round = 0


cdef inline void mailbox_serve(Worker *worker) noexcept nogil:
    """Carry out what the control thread has asked for, after all that comes before it."""
    cdef Command *command
    cdef int64_t now_ns
    while worker.mailbox.head != atomic_load32(&worker.mailbox.tail):
        command = worker.mailbox.slots[worker.mailbox.head & 63]
        now_ns = clock_now(&worker.clock)
        if worker_run(worker, now_ns, False, host_clock_ns() + BUSY_NS):
            worker_enter(worker, now_ns)  # else it is done at the instant that was come to, before what is overdue
        command.run(worker, command.argument)
        atomic_store32(&worker.mailbox.head, worker.mailbox.head + 1)
        sem_post(&command.done)


cdef inline void device_read(Worker *worker, Node *node, int64_t time_ns) noexcept nogil:
    """Take in what a device has, until the next thing falls due."""
    cdef int64_t waited_ns = waits_begin(worker, node)
    cdef uint64_t before = worker.device_read_packets
    cdef int64_t next_ns
    cdef bint emptied
    if node.kind == KIND_TAP:
        next_ns = next_event_ns(worker)
        if next_ns != never():
            next_ns = clock_to_host(&worker.clock, next_ns)
        emptied = tap_read(worker, node, time_ns, next_ns)
    else:
        emptied = nic_read(worker, node, time_ns)
    waits_end(worker, node, waited_ns, <uint32_t>(worker.device_read_packets - before), emptied)
    if node.device_gone:
        unwatch_fd(worker.epoll_fd, node.device_fd)


# What the thread of a data path may take from others. Real-time priority makes what else runs on a CPU delay packets
# by microseconds; as the most urgent of ordinary threads it would wait for milliseconds until others have had their turn.
# The kernel lets real-time threads have 95 % of a second and then stops them for the other 50 ms: all of them before
# Linux 6.12, since then those that ordinary threads starve beside. So they are given their share here, a millisecond at a time:
# while asleep, and else as an ordinary thread, which with the highest urgency is seldom made to wait so soon.
# It has the priority as long as it keeps up.
cdef struct Priority:
    bint permitted
    bint first
    int64_t owed_ns                # to others, times OTHERS_SHARE
    int64_t seen_ns                # host clock: until when that is reckoned


cdef inline void priority_take(Priority *priority) noexcept nogil:
    priority.first = priority.permitted = come_first()


cdef inline void priority_reckon(Priority *priority, int64_t host_ns, bint awake) noexcept nogil:
    """Reckon with the time since it was done last, all of it spent awake or asleep."""
    cdef int64_t elapsed_ns = host_ns - priority.seen_ns
    priority.seen_ns = host_ns
    if awake and priority.first:
        priority.owed_ns += elapsed_ns
    else:
        priority.owed_ns -= elapsed_ns * OTHERS_SHARE
        if priority.owed_ns < 0:
            priority.owed_ns = 0


cdef inline void priority_review(Priority *priority, int64_t host_ns, bint behind) noexcept nogil:
    if not priority.permitted:
        return
    priority_reckon(priority, host_ns, True)
    if priority.first:
        if behind or priority.owed_ns > FIRST_NS:
            give_way()
            priority.first = False
            if behind:
                priority.owed_ns = <int64_t>FIRST_AFTER_BEHIND_NS * OTHERS_SHARE
    elif not behind and priority.owed_ns == 0:
        priority_take(priority)


cdef inline void worker_loop(Worker *worker) noexcept nogil:
    """Keep to the host's clock until told to stop: handle what is due, read the devices, sleep until the next event."""
    cdef uint64_t tags[READY_FDS]
    cdef int64_t now_ns, next_ns
    cdef int64_t armed_ns = -1
    cdef int64_t wake_host_ns, looking_host_ns
    cdef uint64_t posted = atomic_load32(&worker.posted_head) + worker.posted_lost
    cdef bint wait, slept, behind
    cdef int ready, i
    cdef Priority priority
    give_way()
    priority_take(&priority)
    priority.owed_ns = 0
    priority.seen_ns = host_clock_ns()
    if worker.looked_host_ns == 0:
        worker.looked_host_ns = host_clock_ns()
    while not atomic_load32(&worker.stop_flag):
        mailbox_serve(worker)
        now_ns = clock_now(&worker.clock)
        behind = not worker_run(worker, now_ns, False, host_clock_ns() + BUSY_NS)
        atomic_store64(<uint64_t *>&worker.recorded_ns, <uint64_t>(worker.instant_ns if behind else now_ns))
        priority_review(&priority, host_clock_ns(), behind)
        if is_unlikely(worker.failed_device is not NULL):
            device_lost(worker, worker.failed_device, worker.instant_ns)
            worker.failed_device = NULL
        if worker.posted_tail + worker.posted_lost != posted:  # who has just read all is to learn what was lost, too
            posted = worker.posted_tail + worker.posted_lost
            signal_fd(worker.event_fd)
        if is_unlikely(worker.event_ring.capacity and ring_wakes(&worker.event_ring)):
            signal_fd(worker.event_ring.event_fd)
        if is_unlikely(worker.capture_ring.capacity and ring_wakes(&worker.capture_ring)):
            signal_fd(worker.capture_ring.event_fd)
        next_ns = next_event_ns(worker)
        wait = True
        if next_ns != never():
            wake_host_ns = clock_to_host(&worker.clock, next_ns) - SPIN_NS
            wait = wake_host_ns > host_clock_ns()
            if wait and wake_host_ns != armed_ns:
                set_timer_fd(worker.timer_fd, wake_host_ns)
                armed_ns = wake_host_ns
        elif armed_ns != -1:
            set_timer_fd(worker.timer_fd, 0)
            armed_ns = -1
        looking_host_ns = host_clock_ns()
        ready = wait_fds(worker.epoll_fd, tags, READY_FDS, wait)
        slept = wait and host_clock_ns() - looking_host_ns > SLEEP_NS
        if slept:
            priority_reckon(&priority, looking_host_ns, True)
            looking_host_ns = worker.looked_host_ns = host_clock_ns()
            priority_reckon(&priority, looking_host_ns, False)
        for i in range(ready):
            if tags[i] == TAG_WAKE:
                drain_fd(worker.wake_fd)
            elif tags[i] == TAG_TIMER:
                drain_fd(worker.timer_fd)
                armed_ns = -1
            else:
                if not behind:
                    now_ns = clock_now(&worker.clock)
                    behind = not worker_run(worker, now_ns, False, host_clock_ns() + BUSY_NS)
                    if not behind:
                        worker_enter(worker, now_ns)
                # What comes in while the engine is behind waits in the device, whose queue has an end, once the pool holds much.
                if not behind or worker.pool.bytes < BEHIND_POOL_BYTES:
                    device_read(worker, &worker.nodes[tags[i]], worker.instant_ns)
        worker.looked_host_ns = looking_host_ns
