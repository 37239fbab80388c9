# ARP out of a node (RFC 826): requests, replies, announcements.

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from ..headers.arp cimport ARP_LENGTH, ARP_REQUEST
from ..headers.ether cimport (
    ETHER_HEADER, ETHER_TYPE_ARP, ETHER_TYPE_IP4, MAC_BROADCAST, ether_write, mac_store,
)
from ..link.interface cimport interface_send
from ..machine.platform cimport put16, put32
from ..observe.drops cimport count_drop
from ..packet.packet cimport packet_new
from ..state.network cimport Interface, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_POOL_EMPTY


cdef inline void arp_send(
    Worker *worker, Interface *interface, uint32_t operation, uint64_t destination_mac, uint64_t target_mac,
    uint32_t source, uint32_t target, int64_t time_ns,
) noexcept nogil:
    cdef Packet *packet = packet_new(&worker.pool, ETHER_HEADER + ARP_LENGTH)
    cdef uint8_t *arp
    if packet is NULL:
        count_drop(interface.node, DROP_POOL_EMPTY)
        return
    packet.length = packet.total_length = ETHER_HEADER + ARP_LENGTH
    packet.time_ns = time_ns
    ether_write(packet.data, destination_mac, interface.mac, ETHER_TYPE_ARP)
    arp = packet.data + ETHER_HEADER
    put16(arp, 1)
    put16(arp + 2, ETHER_TYPE_IP4)
    arp[4] = 6
    arp[5] = 4
    put16(arp + 6, <unsigned short>operation)
    mac_store(arp + 8, interface.mac)
    put32(arp + 14, source)
    mac_store(arp + 18, target_mac)
    put32(arp + 24, target)
    interface_send(worker, interface, packet, time_ns)


cdef inline void arp_announce(
    Worker *worker, Interface *interface, uint32_t address, int64_t time_ns
) noexcept nogil:
    """Tell the link that an address is here (RFC 5227, section 2.3: a request for itself)."""
    arp_send(worker, interface, ARP_REQUEST, MAC_BROADCAST, 0, address, address, time_ns)
