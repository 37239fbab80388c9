# ARP into a node (RFC 826): what it learns, and what it answers.

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from ..headers.arp cimport ARP_LENGTH, ARP_REPLY, ARP_REQUEST
from ..headers.ether cimport ETHER_HEADER, ETHER_TYPE_IP4, MAC_GROUP_BIT, mac_load
from ..machine.platform cimport get16, get32
from ..observe.drops cimport drop, read_header
from ..packet.packet cimport packet_release
from ..state.network cimport Interface, Neighbor, Node, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_ARP_MALFORMED, DROP_ARP_NOT_FOR_US, DROP_ARP_TRUNCATED
from .address cimport interface_has, interface_reaches
from .arp_output cimport arp_send
from .neighbor cimport neighbor_confirm, neighbor_find, neighbor_get


cdef inline void arp_input(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    """RFC 826, "Packet Reception": merge what the sender says of itself, then answer if it asks for us."""
    cdef Node *node = interface.node
    cdef int64_t time_ns = packet.time_ns
    cdef uint8_t *arp
    cdef uint64_t sender_mac
    cdef uint32_t sender, target, operation
    cdef Neighbor *neighbor
    if packet.total_length < ETHER_HEADER + ARP_LENGTH:
        drop(worker, node, packet, DROP_ARP_TRUNCATED)
        return
    packet = read_header(worker, node, packet, ETHER_HEADER + ARP_LENGTH)
    if packet is NULL:
        return
    arp = packet.data + ETHER_HEADER
    operation = get16(arp + 6)
    sender_mac = mac_load(arp + 8)
    sender = get32(arp + 14)
    target = get32(arp + 24)
    if (
        get16(arp) != 1 or get16(arp + 2) != ETHER_TYPE_IP4 or arp[4] != 6 or arp[5] != 4
        or (operation != ARP_REQUEST and operation != ARP_REPLY) or sender_mac & MAC_GROUP_BIT
        or sender_mac == 0
    ):
        drop(worker, node, packet, DROP_ARP_MALFORMED)
        return
    neighbor = NULL
    if sender and not interface_has(interface, sender):
        neighbor = neighbor_find(node, interface, sender)
        if neighbor is not NULL:
            neighbor_confirm(worker, node, neighbor, sender_mac, time_ns)
    if not interface_has(interface, target) or sender_mac == interface.mac:
        if neighbor is NULL and sender != target:
            drop(worker, node, packet, DROP_ARP_NOT_FOR_US)
        else:
            packet_release(&worker.pool, packet)
        return
    if (
        neighbor is NULL and sender and interface_reaches(interface, sender)
        and not interface_has(interface, sender)
    ):
        neighbor = neighbor_get(node, interface, sender, time_ns)
        if neighbor is not NULL:
            neighbor_confirm(worker, node, neighbor, sender_mac, time_ns)
    if operation == ARP_REQUEST:
        arp_send(worker, interface, ARP_REPLY, sender_mac, sender_mac, target, sender, time_ns)
    packet_release(&worker.pool, packet)
