# The engine's flat tables: a new node, interface and pipe, and the end of them all. Entries never move and
# are never removed.

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

from ..link.line cimport pipe_first
from ..link.lookahead cimport node_find_lookahead
from ..link.pipe cimport pipe_init
from ..link.shaper cimport shaper_free
from ..machine.platform cimport must_zero, release_table, reserve_table, with_room
from ..machine.random cimport random_next
from ..machine.ring cimport ring_close
from ..observe.lateness cimport is_device, lateness_free, waits_free
from ..packet.packet cimport list_release, packet_release
from ..packet.pool cimport pool_close
from ..stack.icmp_output cimport ICMP_BURST
from ..state.network cimport (
    Echo, Flow, Interface, KIND_PORT, KIND_SWITCH, Neighbor, Node, PROOF_KEYS, Pipe, Proof, READING_BATCH,
    Stack, Tables, Worker,
)
from ..state.records cimport Posted
from ..time.events cimport POSTED_CAPACITY, never

cdef enum:
    NODE_LIMIT = 1 << 18
    INTERFACE_LIMIT = 1 << 20
    PIPE_LIMIT = 1 << 20
    FLOW_LIMIT = 1 << 14


cdef inline bint tables_open(Tables *tables, bint proof) noexcept nogil:
    """Reserve address space for all that an engine may hold; False where the process is not allowed that
    much.
    """
    tables.nodes = <Node *>reserve_table(NODE_LIMIT * sizeof(Node))
    tables.interfaces = <Interface *>reserve_table(INTERFACE_LIMIT * sizeof(Interface))
    tables.pipes = <Pipe *>reserve_table(PIPE_LIMIT * sizeof(Pipe))
    tables.flows = <Flow *>reserve_table(FLOW_LIMIT * sizeof(Flow))
    if proof:
        tables.proofs = <Proof *>reserve_table(PIPE_LIMIT * sizeof(Proof))
        if tables.proofs is NULL:
            return False
    return (
        tables.nodes is not NULL and tables.interfaces is not NULL and tables.pipes is not NULL
        and tables.flows is not NULL
    )


cdef inline Worker *worker_new(Tables *tables) noexcept nogil:
    cdef Worker *worker = <Worker *>must_zero(sizeof(Worker))
    cdef uint64_t state = 0
    cdef uint32_t i
    worker.nodes = tables.nodes
    worker.flows = tables.flows
    worker.proofs = tables.proofs
    worker.posted = <Posted *>must_zero(POSTED_CAPACITY * sizeof(Posted))
    worker.posted_capacity = POSTED_CAPACITY
    worker.event_fd = worker.wake_fd = worker.epoll_fd = worker.timer_fd = -1
    worker.event_ring.event_fd = worker.capture_ring.event_fd = -1
    worker.clock.epoch_ns = -1
    worker.instant_ns = -1
    worker.stride_ns = never()
    for i in range(PROOF_KEYS):
        worker.proof_keys[i] = random_next(&state)
    return worker


cdef inline Node *node_new(Tables *tables, uint8_t kind) noexcept nogil:
    cdef Node *node = &tables.nodes[tables.node_count]
    memset(node, 0, sizeof(Node))
    node.index = tables.node_count
    node.kind = kind
    node.wake_ns = never()
    node.lookahead_ns = never()
    node.neighbor_due_ns = never()
    node.icmp_tokens = ICMP_BURST
    if is_device(node):
        node.own.device.fd = -1
    node.table.dirty = 1
    tables.node_count += 1
    return node


cdef inline Interface *interface_new(Tables *tables, Node *node, uint64_t mac, uint32_t mtu) noexcept nogil:
    cdef Interface *interface = &tables.interfaces[tables.interface_count]
    memset(interface, 0, sizeof(Interface))
    interface.mac = mac
    interface.node = node
    interface.mtu = mtu
    interface.port = node.port_count
    interface.index = tables.interface_count
    node.ports = <Interface **>with_room(
        node.ports, node.port_count, &node.port_capacity, 1, sizeof(void *)
    )
    node.ports[node.port_count] = interface
    node.port_count += 1
    tables.interface_count += 1
    return interface


cdef inline Pipe *link_new(
    Tables *tables, Interface *a, Interface *b, uint64_t seed_ab, uint64_t seed_ba
) noexcept nogil:
    """Join two interfaces by a pair of ideal pipes; returns the one from a to b, the other comes next."""
    cdef Pipe *ab = &tables.pipes[tables.pipe_count]
    cdef Pipe *ba = ab + 1
    pipe_init(ab, tables.pipe_count, a, b, seed_ab)
    pipe_init(ba, tables.pipe_count + 1, b, a, seed_ba)
    tables.pipe_count += 2
    node_find_lookahead(a.node)
    node_find_lookahead(b.node)
    return ab


cdef inline void neighbor_free(Worker *worker, Neighbor *neighbor) noexcept nogil:
    cdef uint32_t i
    for i in range(neighbor.queued):
        packet_release(&worker.pool, neighbor.queue[i])
    free(neighbor.queue)
    free(neighbor)


cdef inline void pipe_free(Worker *worker, Pipe *pipe) noexcept nogil:
    while pipe_first(pipe) is not NULL:
        packet_release(&worker.pool, pipe_first(pipe))
        pipe.head += 1
    if pipe.shaper is not NULL:
        shaper_free(worker, pipe)
    free(pipe.ring)
    free(pipe.waiting)
    lateness_free(pipe)


cdef inline void stack_free(Worker *worker, Stack *stack) noexcept nogil:
    cdef Echo *echo = stack.echoes
    while echo is not NULL:
        stack.echoes = echo.next
        list_release(&worker.pool, &echo.waiting)
        free(echo)
        echo = stack.echoes
    if stack.loopback.node is not NULL:
        pipe_free(worker, &stack.loopback_pipe)
        free(stack.loopback.addresses)
    free(stack)


cdef inline void node_free(Worker *worker, Node *node) noexcept nogil:
    cdef uint32_t i
    for i in range(node.neighbor_capacity):
        if node.neighbors[i] is not NULL:
            neighbor_free(worker, node.neighbors[i])
    if node.kind == KIND_PORT:
        list_release(&worker.pool, &node.own.port.frames)
    elif node.kind == KIND_SWITCH:
        free(node.own.bridge.macs)
    if node.stack is not NULL:
        stack_free(worker, node.stack)
    free(node.neighbors)
    free(node.events.events)
    free(node.ports)
    free(node.table.routes)
    free(node.table.fib)
    free(node.drops)
    waits_free(node)


cdef inline uint64_t tables_close(Tables *tables, Worker *worker) noexcept nogil:
    """Free all that the engine has, its descriptors excepted.

    Returns the packets that nobody holds, which is 0.
    """
    cdef uint32_t i
    cdef uint64_t lost
    for i in range(tables.node_count):
        node_free(worker, &tables.nodes[i])
    for i in range(tables.pipe_count):
        pipe_free(worker, &tables.pipes[i])
    for i in range(tables.interface_count):
        free(tables.interfaces[i].addresses)
    for i in range(worker.flow_high):
        free(worker.flows[i].samples)
        free(worker.flows[i].replies)
    list_release(&worker.pool, &worker.undeliverable)
    for i in range(READING_BATCH):
        if worker.readings[i].buffer is not NULL:
            packet_release(&worker.pool, worker.readings[i].buffer)
        if worker.readings[i].spill is not NULL:
            packet_release(&worker.pool, worker.readings[i].spill)
    lost = worker.pool.in_use
    pool_close(&worker.pool)
    ring_close(&worker.event_ring)
    ring_close(&worker.capture_ring)
    release_table(tables.nodes, NODE_LIMIT * sizeof(Node))
    release_table(tables.interfaces, INTERFACE_LIMIT * sizeof(Interface))
    release_table(tables.pipes, PIPE_LIMIT * sizeof(Pipe))
    release_table(tables.flows, FLOW_LIMIT * sizeof(Flow))
    release_table(tables.proofs, PIPE_LIMIT * sizeof(Proof))
    free(worker.events.events)
    free(worker.ready)
    free(worker.current)
    free(worker.unwritten)
    free(worker.posted)
    free(worker)
    return lost
