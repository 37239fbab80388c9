# Switches and hubs: frames from port to port, by their addresses or to all.
#
# A switch learns which port a station is behind from the source of its frames and forgets it after 300 s
# (IEEE 802.1D, 7.9.2). Frames for groups and for unknown stations go to all other ports; frames to the
# reserved group addresses 01:80:C2:00:00:00 to 0F stay on their link (7.12.6). A frame passes by reference;
# further ports get views of the same bytes.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from ..headers.ether cimport ETHER_HEADER, MAC_GROUP_BIT, ether_destination, mac_load
from ..link.interface cimport interface_send
from ..machine.platform cimport first_place, must_zero, prefetch
from ..observe.drops cimport count_drop, input_drop, read_header
from ..packet.packet cimport packet_slice
from ..state.network cimport Interface, MacEntry, Node, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport (
    DROP_BRIDGE_SAME_PORT, DROP_ETHER_RESERVED_GROUP, DROP_ETHER_SOURCE_MULTICAST, DROP_ETHER_TRUNCATED,
    DROP_NO_LINK, DROP_POOL_EMPTY,
)

cdef enum:
    MAC_TABLE_LIMIT = 1 << 16      # slots; half of them are used at most
    RESERVED_GROUP = 0x0000C28001u # 01:80:C2:00:00, the sixth byte being 00 to 0F


cdef inline int64_t mac_age_ns() noexcept nogil:
    return 300 * <int64_t>1000000000


cdef inline int64_t mac_renew_interval_ns() noexcept nogil:
    return 1000000000


cdef inline MacEntry *mac_slot(Node *node, uint64_t mac) noexcept nogil:
    """The station's entry, or the free slot where it belongs."""
    cdef uint32_t slot = first_place(mac, node.own.bridge.mac_capacity)
    while node.own.bridge.macs[slot].mac != 0 and node.own.bridge.macs[slot].mac != mac:
        slot = (slot + 1) & (node.own.bridge.mac_capacity - 1)
    return &node.own.bridge.macs[slot]


cdef inline void mac_table_renew(Node *node, int64_t time_ns) noexcept nogil:
    """Forget who has aged, and make room where that was not enough."""
    cdef MacEntry *old = node.own.bridge.macs
    cdef uint32_t old_capacity = node.own.bridge.mac_capacity
    cdef uint32_t fresh = 0
    cdef uint32_t i
    for i in range(old_capacity):
        if old[i].mac and time_ns - old[i].seen_ns <= mac_age_ns():
            fresh += 1
    node.own.bridge.mac_capacity = old_capacity if old_capacity else 16
    if fresh * 4 > node.own.bridge.mac_capacity and node.own.bridge.mac_capacity < MAC_TABLE_LIMIT:
        node.own.bridge.mac_capacity *= 2
    node.own.bridge.macs = <MacEntry *>must_zero(node.own.bridge.mac_capacity * sizeof(MacEntry))
    for i in range(old_capacity):
        if old[i].mac and time_ns - old[i].seen_ns <= mac_age_ns():
            mac_slot(node, old[i].mac)[0] = old[i]
    node.own.bridge.mac_count = fresh
    node.own.bridge.mac_renew_ns = time_ns + mac_renew_interval_ns()
    free(old)


cdef inline void mac_learn(Node *node, uint64_t mac, uint32_t port, int64_t time_ns) noexcept nogil:
    cdef MacEntry *entry = mac_slot(node, mac) if node.own.bridge.mac_capacity else NULL
    if entry is NULL or entry.mac == 0:
        if (node.own.bridge.mac_count + 1) * 2 > node.own.bridge.mac_capacity:
            if node.own.bridge.mac_capacity < MAC_TABLE_LIMIT or time_ns >= node.own.bridge.mac_renew_ns:
                mac_table_renew(node, time_ns)
            if (node.own.bridge.mac_count + 1) * 2 > node.own.bridge.mac_capacity:
                return  # full of fresh stations: frames for this one are flooded
            entry = mac_slot(node, mac)
        entry.mac = mac
        node.own.bridge.mac_count += 1
    entry.port = port
    entry.seen_ns = time_ns


cdef inline void bridge_flood(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    """Send a frame out of every port but the one it came by: the last takes the frame itself, the others
    views of it.
    """
    cdef Node *node = interface.node
    cdef int64_t time_ns = packet.time_ns
    cdef Interface *last = NULL
    cdef Interface *port
    cdef Packet *view
    cdef uint32_t i
    for i in range(node.port_count):
        port = node.ports[i]
        if port == interface or port.output is NULL:
            continue
        if last is not NULL:
            view = packet_slice(&worker.pool, packet, 0, packet.total_length)
            if view is NULL:
                count_drop(node, DROP_POOL_EMPTY)
            else:
                interface_send(worker, last, view, time_ns)
        last = port
    if last is NULL:
        input_drop(worker, interface, packet, DROP_NO_LINK)
    else:
        interface_send(worker, last, packet, time_ns)


cdef inline void hub_vector(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count
) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        bridge_flood(worker, interface, vector[i])


cdef inline void switch_frame(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    cdef Node *node = interface.node
    cdef uint64_t destination
    cdef MacEntry *entry
    if packet.total_length < ETHER_HEADER:
        input_drop(worker, interface, packet, DROP_ETHER_TRUNCATED)
        return
    packet = read_header(worker, node, packet, ETHER_HEADER)
    if packet is NULL:
        return
    if packet.data[6] & MAC_GROUP_BIT:
        input_drop(worker, interface, packet, DROP_ETHER_SOURCE_MULTICAST)
        return
    destination = ether_destination(packet.data)
    if mac_load(packet.data + 6):
        mac_learn(node, mac_load(packet.data + 6), interface.port, packet.time_ns)
    if destination & MAC_GROUP_BIT:
        if destination & 0xF0FFFFFFFFFFu == RESERVED_GROUP:
            input_drop(worker, interface, packet, DROP_ETHER_RESERVED_GROUP)
        else:
            bridge_flood(worker, interface, packet)
        return
    entry = mac_slot(node, destination) if node.own.bridge.mac_capacity else NULL
    if entry is NULL or entry.mac == 0 or packet.time_ns - entry.seen_ns > mac_age_ns():
        bridge_flood(worker, interface, packet)
    elif entry.port == interface.port:
        input_drop(worker, interface, packet, DROP_BRIDGE_SAME_PORT)
    else:
        interface_send(worker, node.ports[entry.port], packet, packet.time_ns)


cdef inline void switch_vector(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count
) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if i + 4 < count:
            prefetch(vector[i + 4].data)
        switch_frame(worker, interface, vector[i])
