# Neighbours: who on the link has an IPv4 address. ARP (RFC 826), with the rules for hosts of RFC 1122,
# section 2.3.2.
#
# An entry is an adjacency: the Ethernet header to send with, good until `usable_until_ns`. What waits for an
# answer is queued, the latest 64 packets of each neighbour. Requests are repeated once a second, three times.
# A confirmed entry is asked again, unicast, when it is used more than 60 s after it was confirmed, and stays
# usable while it is asked (RFC 1122, 2.3.2.1 (2)); three requests without an answer remove it. A gratuitous
# announcement updates an entry and makes none.

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memmove

from ..headers.arp cimport ARP_REQUEST
from ..headers.ether cimport ETHER_TYPE_IP4, MAC_BROADCAST, ether_write, mac_load
from ..link.interface cimport interface_send
from ..machine.platform cimport (
    debug_assert, first_place, load16, load32, load64, must_resize, must_zero, store16, store32, store64,
)
from ..observe.drops cimport count_drop, drop
from ..packet.packet cimport list_append, packet_release
from ..packet.segment cimport packet_segment, wire_segments
from ..state.network cimport (
    Interface, NEIGHBOR_INCOMPLETE, NEIGHBOR_PROBE, NEIGHBOR_REACHABLE, Neighbor, Node, Worker,
)
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_NEIGHBOR_QUEUE_FULL, DROP_POOL_EMPTY
from ..state.records cimport POSTED_NEIGHBOR_FAILED
from ..time.events cimport TIMER_NEIGHBORS, never, node_timer, post
from .address cimport interface_source
from .arp_output cimport arp_send
from .route cimport forget_recent

cdef enum:
    NEIGHBOR_LIMIT = 4096          # entries of one node
    NEIGHBOR_QUEUE = 64            # packets that wait for one neighbour
    NEIGHBOR_REQUESTS = 3


cdef inline int64_t request_interval_ns() noexcept nogil:
    return 1000000000


cdef inline int64_t confirmed_for_ns() noexcept nogil:
    return 60 * <int64_t>1000000000


cdef inline uint32_t neighbor_slot(Node *node, Interface *interface, uint32_t address) noexcept nogil:
    return first_place(<uint64_t>interface.port << 32 | address, node.neighbor_capacity)


cdef inline Neighbor *neighbor_find(Node *node, Interface *interface, uint32_t address) noexcept nogil:
    cdef uint32_t slot
    cdef Neighbor *neighbor
    if node.neighbor_capacity == 0:
        return NULL
    slot = neighbor_slot(node, interface, address)
    while True:
        neighbor = node.neighbors[slot]
        if neighbor is NULL or (neighbor.address == address and neighbor.interface == interface):
            return neighbor
        slot = (slot + 1) & (node.neighbor_capacity - 1)


cdef inline void neighbor_place(Node *node, Neighbor *neighbor) noexcept nogil:
    cdef uint32_t slot = neighbor_slot(node, neighbor.interface, neighbor.address)
    while node.neighbors[slot] is not NULL:
        slot = (slot + 1) & (node.neighbor_capacity - 1)
    node.neighbors[slot] = neighbor


cdef inline void neighbor_rehash(Node *node, uint32_t capacity) noexcept nogil:
    cdef Neighbor **old = node.neighbors
    cdef uint32_t old_capacity = node.neighbor_capacity
    cdef uint32_t i
    node.neighbors = <Neighbor **>must_zero(capacity * sizeof(void *))
    node.neighbor_capacity = capacity
    for i in range(old_capacity):
        if old[i] is not NULL:
            neighbor_place(node, old[i])
    free(old)


cdef inline void neighbor_remove(Node *node, Neighbor *neighbor) noexcept nogil:
    cdef uint32_t i
    forget_recent(&node.table)
    for i in range(node.table.count):
        if node.table.routes[i].neighbor == neighbor:
            node.table.routes[i].neighbor = NULL
    for i in range(node.neighbor_capacity):
        if node.neighbors[i] == neighbor:
            node.neighbors[i] = NULL
            break
    free(neighbor.queue)
    free(neighbor)
    node.neighbor_count -= 1
    neighbor_rehash(node, node.neighbor_capacity)


cdef inline bint neighbor_evict(Node *node, int64_t time_ns) noexcept nogil:
    """Forget the one that was confirmed longest ago, if that is so long ago that it would be asked again."""
    cdef Neighbor *oldest = NULL
    cdef Neighbor *neighbor
    cdef uint32_t i
    for i in range(node.neighbor_capacity):
        neighbor = node.neighbors[i]
        if neighbor is NULL or neighbor.state != NEIGHBOR_REACHABLE or neighbor.usable_until_ns >= time_ns:
            continue
        if oldest is NULL or neighbor.confirmed_ns < oldest.confirmed_ns:
            oldest = neighbor
    if oldest is NULL:
        return False
    neighbor_remove(node, oldest)
    return True


cdef inline Neighbor *neighbor_get(
    Node *node, Interface *interface, uint32_t address, int64_t time_ns
) noexcept nogil:
    """The entry for an address, a new incomplete one where there is none; NULL where the node has too
    many.
    """
    cdef Neighbor *neighbor = neighbor_find(node, interface, address)
    if neighbor is not NULL:
        return neighbor
    if node.neighbor_count >= NEIGHBOR_LIMIT and not neighbor_evict(node, time_ns):
        return NULL
    if (node.neighbor_count + 1) * 2 > node.neighbor_capacity:
        neighbor_rehash(node, node.neighbor_capacity * 2 if node.neighbor_capacity else 4)
    neighbor = <Neighbor *>must_zero(sizeof(Neighbor))
    neighbor.interface = interface
    neighbor.address = address
    neighbor.state = NEIGHBOR_INCOMPLETE
    neighbor.usable_until_ns = -1
    neighbor.retry_ns = never()
    neighbor_place(node, neighbor)
    node.neighbor_count += 1
    return neighbor


cdef inline void neighbor_ask(Worker *worker, Node *node, Neighbor *neighbor, int64_t time_ns) noexcept nogil:
    """Send one request, broadcast unless a header is known, and see to the next."""
    cdef uint64_t destination = MAC_BROADCAST
    if neighbor.state == NEIGHBOR_PROBE:
        destination = mac_load(neighbor.header)
    neighbor.probes_sent += 1
    neighbor.retry_ns = time_ns + request_interval_ns()
    if neighbor.retry_ns < node.neighbor_due_ns:
        node.neighbor_due_ns = neighbor.retry_ns
        node_timer(worker, node, neighbor.retry_ns, TIMER_NEIGHBORS)
    arp_send(
        worker, neighbor.interface, ARP_REQUEST, destination, 0,
        interface_source(neighbor.interface, neighbor.address), neighbor.address, time_ns,
    )


cdef inline void header_write(uint8_t *frame, Neighbor *neighbor) noexcept nogil:
    store64(frame, load64(neighbor.header))
    store32(frame + 8, load32(neighbor.header + 8))
    store16(frame + 12, load16(neighbor.header + 12))


cdef inline void neighbor_send_segments(
    Worker *worker, Node *node, Neighbor *neighbor, Packet *packet, int64_t time_ns
) noexcept nogil:
    """The queue for an answer counts wire segments."""
    cdef uint32_t segments = wire_segments(packet)
    cdef uint32_t i
    cdef Packet *segment
    for i in range(segments):
        segment = packet_segment(&worker.pool, packet, i, segments)
        if segment is NULL:
            count_drop(node, DROP_POOL_EMPTY)
        else:
            neighbor_send(worker, node, neighbor, segment, time_ns)
    packet_release(&worker.pool, packet)


cdef inline void neighbor_send(
    Worker *worker, Node *node, Neighbor *neighbor, Packet *packet, int64_t time_ns
) noexcept nogil:
    """Send an IP packet to a neighbour: now, or when it has answered.

    The first 14 bytes of the packet take the header.
    """
    if neighbor.state == NEIGHBOR_INCOMPLETE:
        if packet.segment_size:
            neighbor_send_segments(worker, node, neighbor, packet, time_ns)
            return
        if neighbor.queue is NULL:
            neighbor.queue = <Packet **>must_resize(NULL, NEIGHBOR_QUEUE * sizeof(void *))
        if neighbor.queued == NEIGHBOR_QUEUE:  # RFC 1122, 2.3.2.2: the latest one is worth keeping
            neighbor.queue[0].time_ns = time_ns
            drop(worker, node, neighbor.queue[0], DROP_NEIGHBOR_QUEUE_FULL)
            memmove(neighbor.queue, neighbor.queue + 1, (NEIGHBOR_QUEUE - 1) * sizeof(void *))
            neighbor.queued -= 1
        neighbor.queue[neighbor.queued] = packet
        neighbor.queued += 1
        if neighbor.retry_ns == never():
            neighbor.probes_sent = 0
            neighbor_ask(worker, node, neighbor, time_ns)
        return
    if time_ns > neighbor.usable_until_ns:
        neighbor.state = NEIGHBOR_PROBE
        neighbor.usable_until_ns = never()
        neighbor.probes_sent = 0
        neighbor_ask(worker, node, neighbor, time_ns)
    header_write(packet.data, neighbor)
    interface_send(worker, neighbor.interface, packet, time_ns)


cdef inline void neighbor_confirm(
    Worker *worker, Node *node, Neighbor *neighbor, uint64_t mac, int64_t time_ns
) noexcept nogil:
    """The neighbour has spoken: its address is known, and what waited for it goes out."""
    cdef uint32_t i
    cdef uint32_t queued = neighbor.queued
    cdef Packet **queue = neighbor.queue
    ether_write(neighbor.header, mac, neighbor.interface.mac, ETHER_TYPE_IP4)
    neighbor.state = NEIGHBOR_REACHABLE
    neighbor.confirmed_ns = time_ns
    neighbor.usable_until_ns = time_ns + confirmed_for_ns()
    neighbor.retry_ns = never()
    neighbor.queue = NULL
    neighbor.queued = 0
    for i in range(queued):
        header_write(queue[i].data, neighbor)
        interface_send(worker, neighbor.interface, queue[i], time_ns)
    free(queue)


cdef inline void neighbor_timer(Worker *worker, Node *node, int64_t time_ns) noexcept nogil:
    """Repeat requests that are due, and give up on those repeated enough: their packets become
    undeliverable.
    """
    cdef uint32_t i = 0
    cdef uint32_t k
    cdef int64_t next_ns = never()
    cdef Neighbor *neighbor
    if time_ns < node.neighbor_due_ns:
        return
    node.neighbor_due_ns = never()
    while i < node.neighbor_capacity:
        neighbor = node.neighbors[i]
        if neighbor is not NULL and neighbor.retry_ns <= time_ns:
            if neighbor.probes_sent < NEIGHBOR_REQUESTS:
                neighbor_ask(worker, node, neighbor, time_ns)
            else:
                for k in range(neighbor.queued):
                    list_append(&worker.undeliverable, neighbor.queue[k])
                neighbor_remove(node, neighbor)
                debug_assert(time_ns >= worker.quiet_ns)
                post(worker, time_ns, POSTED_NEIGHBOR_FAILED, node.index)
                i = 0  # removal moves entries
                continue
        i += 1
    for i in range(node.neighbor_capacity):
        neighbor = node.neighbors[i]
        if neighbor is not NULL and neighbor.retry_ns < next_ns:
            next_ns = neighbor.retry_ns
    if next_ns < node.neighbor_due_ns:
        node.neighbor_due_ns = next_ns
        node_timer(worker, node, next_ns, TIMER_NEIGHBORS)
