# What Python may ask of a worker. Each operation runs on the worker's thread between two vectors (inline
# where there is none), reads and writes one Operation, and never touches Python; its time is the worker's
# instant (see worker_enter()). Lists come back as copies that the caller frees.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from ..link.changes cimport pipe_set_timing, pipe_set_up, pipe_shape_as
from ..link.interface cimport interface_send
from ..link.line cimport pipe_serve_until
from ..link.lookahead cimport node_find_events
from ..link.pipe cimport pipe_find_way, pipe_reverse
from ..link.queues.discipline cimport discipline_look
from ..link.shaper cimport shaper_settle
from ..link.whole cimport pipe_unfold
from ..machine.platform cimport must_resize, must_zero, store32, store64
from ..machine.ring cimport ring_open
from ..observe.drops cimport drop
from ..observe.lateness cimport (
    device_lateness, lateness_reach, lateness_second, pipe_find_lateness, stretch_absorb,
)
from ..observe.proof cimport pipe_proof
from ..packet.packet cimport list_release, packet_copy_bytes, packet_new
from ..packet.segment cimport wire_segments
from ..packet.vnet cimport vnet_parse
from ..run.ahead cimport worker_disquiet
from ..run.memory cimport node_bytes
from ..stack.arp_output cimport arp_announce
from ..stack.echo cimport echo_begin, echo_find, echo_open
from ..stack.flow cimport flow_start
from ..stack.loopback cimport node_loopback
from ..stack.route cimport route_find, route_lookup, route_remove, route_set
from ..state.network cimport (
    BridgeState, DropCounts, Echo, Flow, Interface, KIND_SWITCH, LateStretch, Lateness, MacEntry, Neighbor,
    Node, OBSERVE_CAPTURE, Pipe, Proof, ROUTE_CONNECTED, ROUTE_LOCAL, Route4, Stack, Tables, Worker,
)
from ..state.packets cimport Packet, PacketList
from ..state.reasons cimport DROP_REASON_COUNT, DROP_VNET_HEADER
from ..state.records cimport POSTED_LINK_CHANGED
from ..state.shapers cimport Shaper
from ..time.clock cimport clock_now
from ..time.events cimport never, post

cdef struct Operation:
    Node *node
    Interface *interface
    Pipe *pipe
    Flow *flow
    Echo *echo
    Tables *tables
    uint64_t bandwidth_bps
    int32_t overhead_bytes
    int64_t delay_ns
    uint64_t loss_threshold
    uint64_t queue_limit_packets
    uint64_t queue_limit_bytes
    Shaper shaper                  # settings with their tables, which the pipe takes over
    uint64_t drop_probability      # of its discipline, in 1/2^64
    uint64_t average_bytes
    bint shaped
    bint up
    uint32_t prefix
    uint32_t prefix_length
    uint32_t gateway
    uint32_t route_kind
    const uint8_t *frame
    const uint8_t *vnet_header     # NULL: a plain frame
    uint32_t frame_length
    uint32_t repeat
    uint32_t snap_bytes
    uint32_t destination
    uint32_t port
    int64_t since_ns
    # results
    bint found
    void *rows
    uint32_t row_count
    Pipe pipe_copy
    Lateness lateness_copy
    Proof proof_copy
    Interface interface_copy
    Interface sender_copy
    Flow flow_copy
    Worker *worker_copy
    uint32_t in_flight
    uint64_t memory_bytes
    Route4 route_copy


# A degraded stretch of a pipe, or of a device.
cdef struct LateRow:
    Lateness *lateness
    LateStretch stretch


cdef inline void do_set_pipe(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    cdef Pipe *pipe = operation.pipe
    if pipe.shaper is not NULL:
        shaper_settle(worker, pipe, worker.instant_ns)
    pipe_unfold(worker, pipe)
    pipe.loss_threshold = operation.loss_threshold
    pipe.queue_limit_packets = operation.queue_limit_packets
    pipe.queue_limit_bytes = operation.queue_limit_bytes
    if operation.shaped or pipe.shaper is not NULL:
        pipe_shape_as(
            worker, pipe, &operation.shaper, operation.bandwidth_bps, operation.overhead_bytes,
            operation.delay_ns,
            worker.instant_ns,
        )
    else:
        pipe_set_timing(
            worker, pipe, operation.bandwidth_bps, operation.overhead_bytes, operation.delay_ns,
            worker.instant_ns
        )
    pipe_find_lateness(worker, pipe)
    post(worker, worker.instant_ns, POSTED_LINK_CHANGED, pipe.index)


cdef inline void announce(Worker *worker, Interface *interface, int64_t now_ns) noexcept nogil:
    cdef uint32_t i
    for i in range(interface.address_count):
        arp_announce(worker, interface, interface.addresses[i].address, now_ns)


cdef inline void do_announce(Worker *worker, void *argument) noexcept nogil:
    announce(worker, (<Operation *>argument).interface, worker.instant_ns)


cdef inline void do_set_link_up(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    cdef int64_t now_ns = worker.instant_ns
    pipe_set_up(worker, operation.pipe, operation.up, now_ns)
    pipe_set_up(worker, pipe_reverse(operation.pipe), operation.up, now_ns)
    if operation.up:
        announce(worker, operation.pipe.sender, now_ns)
        announce(worker, operation.pipe.receiver, now_ns)
    post(worker, now_ns, POSTED_LINK_CHANGED, operation.pipe.index)


cdef inline bint is_own(Route4 *route) noexcept nogil:
    """Whether a route comes with the node's own addresses, and stays as long as they do."""
    return route.kind == ROUTE_LOCAL or route.kind == ROUTE_CONNECTED


cdef inline void do_add_route(Worker *worker, void *argument) noexcept nogil:
    """Not found: the prefix is one of the node's own (local or connected), which stays."""
    cdef Operation *operation = <Operation *>argument
    cdef int place = route_find(&operation.node.table, operation.prefix, operation.prefix_length)
    operation.found = place < 0 or not is_own(&operation.node.table.routes[place])
    if operation.found:
        route_set(
            &operation.node.table, operation.prefix, operation.prefix_length, operation.route_kind,
            operation.gateway,
            operation.interface,
        )


cdef inline void do_delete_route(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    cdef int place = route_find(&operation.node.table, operation.prefix, operation.prefix_length)
    operation.found = place >= 0 and not is_own(&operation.node.table.routes[place])
    if operation.found:
        route_remove(&operation.node.table, <uint32_t>place)


cdef inline void do_lookup(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    cdef Route4 *route = route_lookup(&operation.node.table, operation.prefix)
    operation.found = route is not NULL
    if route is not NULL:
        operation.route_copy = route[0]


cdef inline void do_copy_routes(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    operation.row_count = operation.node.table.count
    operation.rows = must_resize(NULL, (operation.row_count + 1) * sizeof(Route4))
    if operation.row_count:
        memcpy(operation.rows, operation.node.table.routes, operation.row_count * sizeof(Route4))


cdef inline void do_copy_neighbors(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    cdef Neighbor *rows = <Neighbor *>must_resize(
        NULL, (operation.node.neighbor_count + 1) * sizeof(Neighbor)
    )
    cdef uint32_t i
    operation.rows = rows
    operation.row_count = 0
    for i in range(operation.node.neighbor_capacity):
        if operation.node.neighbors[i] is not NULL:
            rows[operation.row_count] = operation.node.neighbors[i][0]
            operation.row_count += 1


cdef inline void do_copy_macs(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    cdef BridgeState *bridge = &operation.node.own.bridge
    cdef MacEntry *rows
    cdef uint32_t i
    operation.rows = NULL
    operation.row_count = 0
    if operation.node.kind != KIND_SWITCH:
        return
    rows = <MacEntry *>must_resize(NULL, (bridge.mac_count + 1) * sizeof(MacEntry))
    operation.rows = rows
    for i in range(bridge.mac_capacity):
        if bridge.macs[i].mac:
            rows[operation.row_count] = bridge.macs[i]
            operation.row_count += 1


cdef inline void do_copy_drops(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    cdef DropCounts *drops = operation.node.drops
    cdef uint32_t i
    operation.row_count = DROP_REASON_COUNT
    operation.rows = must_zero(DROP_REASON_COUNT * sizeof(uint64_t))
    if drops is not NULL:
        for i in range(drops.count):
            (<uint64_t *>operation.rows)[drops.counts[i].reason] = drops.counts[i].packets


cdef inline void do_copy_pipe(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    cdef Pipe *pipe = operation.pipe
    cdef uint32_t i = pipe.head
    cdef Packet *packet
    if pipe.shaper is not NULL:
        shaper_settle(worker, pipe, worker.instant_ns)
    elif pipe.bandwidth_bps:
        pipe_serve_until(pipe, worker.instant_ns)
    operation.in_flight = 0
    while i != pipe.tail:
        packet = pipe.ring[i & (pipe.capacity - 1)].packet
        if packet is not NULL:
            operation.in_flight += wire_segments(packet)
        i += 1
    operation.pipe_copy = pipe[0]
    if pipe.shaper is not NULL:
        operation.shaper = pipe.shaper[0]
        operation.in_flight += pipe.shaper.packets
        discipline_look(pipe.shaper, worker.instant_ns, &operation.drop_probability, &operation.average_bytes)
    operation.interface_copy = pipe.receiver[0]
    operation.sender_copy = pipe.sender[0]


cdef inline void do_copy_lateness(Worker *worker, void *argument) noexcept nogil:
    """Copy the lateness of a pipe that has had a packet, or of a node's device where the pipe is NULL."""
    cdef Operation *operation = <Operation *>argument
    cdef Lateness *lateness
    if operation.pipe is not NULL:
        lateness = operation.pipe.lateness
    else:
        lateness = device_lateness(operation.node)
    operation.found = lateness is not NULL
    if operation.found:
        operation.lateness_copy = lateness[0]


cdef inline void do_copy_late_stretches(Worker *worker, void *argument) noexcept nogil:
    """Copy the degraded stretches of all pipes and devices that end after `since_ns`; `found` asks for the
    second under way, as if it ended now.
    """
    cdef Operation *operation = <Operation *>argument
    cdef int64_t now_ns = clock_now(&worker.clock)
    cdef Lateness *lateness = worker.late
    cdef LateStretch last
    cdef LateRow *rows
    cdef uint32_t capacity = 0
    cdef uint32_t i
    while lateness is not NULL:
        lateness_reach(worker, lateness, now_ns)
        capacity += lateness.stretch_count + 1
        lateness = lateness.next
    rows = <LateRow *>must_resize(NULL, (capacity + 1) * sizeof(LateRow))
    operation.rows = rows
    operation.row_count = 0
    lateness = worker.late
    while lateness is not NULL:
        for i in range(lateness.stretch_count):
            if lateness.stretches[i].until_ns > operation.since_ns:
                rows[operation.row_count].lateness = lateness
                rows[operation.row_count].stretch = lateness.stretches[i]
                operation.row_count += 1
        if (
            operation.found and now_ns > operation.since_ns
            and lateness_second(worker, lateness, now_ns, &last)
        ):
            while operation.row_count and rows[operation.row_count - 1].lateness == lateness and (
                rows[operation.row_count - 1].stretch.until_ns >= last.from_ns
            ):
                operation.row_count -= 1
                stretch_absorb(&last, &rows[operation.row_count].stretch)
            rows[operation.row_count].lateness = lateness
            rows[operation.row_count].stretch = last
            operation.row_count += 1
        lateness = lateness.next


cdef inline void do_copy_proof(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    memset(&operation.proof_copy, 0, sizeof(Proof))
    if worker.proofs is not NULL:
        operation.proof_copy = pipe_proof(worker, operation.pipe)[0]


cdef inline void do_count_memory(Worker *worker, void *argument) noexcept nogil:
    (<Operation *>argument).memory_bytes = node_bytes((<Operation *>argument).node)


cdef inline void do_copy_interface(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    operation.interface_copy = operation.interface[0]


cdef inline void do_copy_worker(Worker *worker, void *argument) noexcept nogil:
    (<Operation *>argument).worker_copy[0] = worker[0]


cdef inline void observe_captures(Worker *worker, Pipe *pipe) noexcept nogil:
    if pipe_unfold(worker, pipe):
        node_find_events(worker, pipe.receiver.node)
    pipe.observed &= ~OBSERVE_CAPTURE & 0xFF
    if pipe.sender.snap_bytes or pipe.receiver.snap_bytes:
        pipe.observed |= OBSERVE_CAPTURE
    pipe_find_way(pipe)


cdef inline void do_capture(Worker *worker, void *argument) noexcept nogil:
    """Begin, change or (snap length 0) end an interface's capture. Not found: no memory for the ring."""
    cdef Operation *operation = <Operation *>argument
    operation.found = ring_open(&worker.capture_ring, worker.ring_bytes, worker.clock.dilation == 0)
    if operation.found:
        operation.interface.snap_bytes = operation.snap_bytes
        if operation.interface.output is not NULL:
            observe_captures(worker, operation.interface.output)
            observe_captures(worker, operation.interface.input)


cdef inline void do_tell_arrivals(Worker *worker, void *argument) noexcept nogil:
    """Begin to tell what arrives. Not found: no memory for the ring."""
    (<Operation *>argument).found = ring_open(
        &worker.event_ring, worker.ring_bytes, worker.clock.dilation == 0
    )


cdef inline void do_start_flow(Worker *worker, void *argument) noexcept nogil:
    cdef Flow *flow = (<Operation *>argument).flow
    worker_disquiet(worker)
    flow[0] = (<Operation *>argument).flow_copy
    flow.next = flow.node.flows
    flow.node.flows = flow
    if flow.sink is not NULL:
        flow.next_sink = flow.sink.sinks
        flow.sink.sinks = flow
        flow.node.flows_in_step += 1
        flow.sink.flows_in_step += 1
    flow_start(worker, flow, worker.instant_ns)


cdef inline void do_open_loopback(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    operation.interface = node_loopback(worker, operation.node)


cdef inline void do_list_loopbacks(Worker *worker, void *argument) noexcept nogil:
    """The indices of the loopback interfaces that have been made."""
    cdef Operation *operation = <Operation *>argument
    cdef uint32_t *rows = <uint32_t *>must_resize(NULL, (operation.tables.node_count + 1) * sizeof(uint32_t))
    cdef uint32_t i
    cdef Stack *stack
    operation.rows = rows
    operation.row_count = 0
    for i in range(operation.tables.node_count):
        stack = operation.tables.nodes[i].stack
        if stack is not NULL and stack.loopback.node is not NULL:
            rows[operation.row_count] = stack.loopback.index
            operation.row_count += 1


cdef inline void do_open_echo(Worker *worker, void *argument) noexcept nogil:
    """Not found: there is an endpoint at the port already."""
    cdef Operation *operation = <Operation *>argument
    operation.found = echo_find(operation.node, operation.port) is NULL
    if operation.found:
        echo_open(operation.node, operation.port, operation.queue_limit_packets)


cdef inline void do_begin_echo(Worker *worker, void *argument) noexcept nogil:
    """Not found: the endpoint has no way to the destination, or there is no memory."""
    cdef Operation *operation = <Operation *>argument
    operation.found = echo_begin(
        worker, operation.node, operation.echo, operation.destination, operation.port, operation.frame_length,
        worker.instant_ns,
    )


cdef inline void do_stop_flow(Worker *worker, void *argument) noexcept nogil:
    cdef Flow *flow = (<Operation *>argument).flow
    flow.done = 1
    flow.due_ns = never()


cdef inline void do_remove_flow(Worker *worker, void *argument) noexcept nogil:
    cdef Flow *flow = (<Operation *>argument).flow
    cdef Flow **link = &flow.node.flows
    while link[0] is not NULL and link[0] != flow:
        link = &link[0].next
    if link[0] is not NULL:
        link[0] = flow.next
    if flow.sink is not NULL:
        link = &flow.sink.sinks
        while link[0] is not NULL and link[0] != flow:
            link = &link[0].next_sink
        if link[0] is not NULL:
            link[0] = flow.next_sink
        flow.node.flows_in_step -= 1
        flow.sink.flows_in_step -= 1
    free(flow.samples)
    free(flow.replies)
    memset(flow, 0, sizeof(Flow))


cdef inline void do_copy_flow(Worker *worker, void *argument) noexcept nogil:
    """Copy a flow, with its samples where `found` asks for them."""
    cdef Operation *operation = <Operation *>argument
    operation.flow_copy = operation.flow[0]
    operation.row_count = operation.flow.sample_count if operation.found else 0
    operation.rows = must_resize(NULL, (operation.row_count + 1) * sizeof(int64_t))
    if operation.row_count:
        memcpy(operation.rows, operation.flow.samples, operation.row_count * sizeof(int64_t))


cdef inline void do_take_replies(Worker *worker, void *argument) noexcept nogil:
    cdef Operation *operation = <Operation *>argument
    operation.rows = operation.flow.replies
    operation.row_count = operation.flow.reply_count
    operation.flow.replies = NULL
    operation.flow.reply_count = operation.flow.reply_capacity = 0


cdef inline void do_inject(Worker *worker, void *argument) noexcept nogil:
    """Send copies of a frame from a PORT; row_count says how many there was memory for."""
    cdef Operation *operation = <Operation *>argument
    cdef Packet *packet
    cdef int64_t now_ns = worker.instant_ns
    operation.row_count = 0
    while operation.row_count < operation.repeat:
        packet = packet_new(&worker.pool, operation.frame_length)
        if packet is NULL:
            return
        memcpy(packet.data, operation.frame, operation.frame_length)
        packet.length = packet.total_length = operation.frame_length
        packet.time_ns = now_ns
        if operation.vnet_header is not NULL and not vnet_parse(&worker.pool, packet, operation.vnet_header):
            drop(worker, operation.node, packet, DROP_VNET_HEADER)
        else:
            interface_send(worker, operation.node.ports[0], packet, now_ns)
        operation.row_count += 1


cdef inline void do_take_frames(Worker *worker, void *argument) noexcept nogil:
    """Copy what arrived at a PORT out of its packets: for each, its time (8 bytes), its length (4) and its
    bytes.
    """
    cdef Operation *operation = <Operation *>argument
    cdef PacketList *frames = &operation.node.own.port.frames
    cdef uint64_t size = 1
    cdef uint32_t i
    cdef Packet *packet
    cdef uint8_t *target
    for i in range(frames.count):
        size += 12 + frames.packets[i].total_length
    target = <uint8_t *>must_resize(NULL, size)
    operation.rows = target
    operation.row_count = frames.count
    for i in range(frames.count):
        packet = frames.packets[i]
        store64(target, <uint64_t>packet.time_ns)
        store32(target + 8, packet.total_length)
        packet_copy_bytes(packet, 0, target + 12, packet.total_length)
        target += 12 + packet.total_length
    list_release(&worker.pool, frames)
