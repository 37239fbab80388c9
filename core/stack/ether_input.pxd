# Frames into a node with a stack: for whom they are, and which protocol takes them.

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from ..headers.ether cimport (
    ETHER_HEADER, ETHER_TYPE_ARP, ETHER_TYPE_IP4, MAC_GROUP_BIT, VLAN_TAG, ether_destination,
)
from ..machine.platform cimport get16, is_unlikely
from ..observe.drops cimport count_drop, drop, read_header
from ..packet.packet cimport packet_release
from ..packet.segment cimport packet_segment, wire_frame_bytes, wire_segments
from ..state.network cimport Interface, Node, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport (
    DROP_ETHER_OTHER_HOST, DROP_ETHER_SOURCE_MULTICAST, DROP_ETHER_TOO_LONG, DROP_ETHER_TRUNCATED,
    DROP_ETHER_TYPE_UNKNOWN, DROP_POOL_EMPTY,
)
from .arp_input cimport arp_input
from .ip4_input cimport ip4_input


cdef inline void ether_input_segments(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    """Handle each wire segment of a super-frame by itself."""
    cdef uint32_t segments = wire_segments(packet)
    cdef uint32_t i
    cdef Packet *segment
    for i in range(segments):
        segment = packet_segment(&worker.pool, packet, i, segments)
        if segment is NULL:
            count_drop(interface.node, DROP_POOL_EMPTY)
        else:
            ether_input(worker, interface, segment)
    packet_release(&worker.pool, packet)


cdef inline void ether_input(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    """One frame from the link, at a node with a stack."""
    cdef Node *node = interface.node
    cdef uint64_t destination
    cdef uint32_t ether_type
    packet.input_port = <uint16_t>(interface.port + 1)
    if packet.total_length < ETHER_HEADER:
        drop(worker, node, packet, DROP_ETHER_TRUNCATED)
        return
    if wire_frame_bytes(packet) > interface.mtu + ETHER_HEADER + VLAN_TAG:
        if packet.segment_size:  # the last segment may be short enough
            ether_input_segments(worker, interface, packet)
        else:
            drop(worker, node, packet, DROP_ETHER_TOO_LONG)
        return
    packet = read_header(worker, node, packet, ETHER_HEADER)
    if packet is NULL:
        return
    if packet.data[6] & MAC_GROUP_BIT:
        drop(worker, node, packet, DROP_ETHER_SOURCE_MULTICAST)
        return
    destination = ether_destination(packet.data)
    if destination != interface.mac and not destination & MAC_GROUP_BIT:
        drop(worker, node, packet, DROP_ETHER_OTHER_HOST)
        return
    ether_type = get16(packet.data + 12)
    if ether_type == ETHER_TYPE_IP4:
        packet = ip4_input(worker, interface, packet)
        if is_unlikely(packet is not NULL):
            ether_input_segments(worker, interface, packet)
    elif ether_type == ETHER_TYPE_ARP:
        arp_input(worker, interface, packet)
    else:
        drop(worker, node, packet, DROP_ETHER_TYPE_UNKNOWN)


cdef inline void host_vector(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count
) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        ether_input(worker, interface, vector[i])
