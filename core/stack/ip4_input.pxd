# IPv4 into a node (RFC 791, RFC 1122, RFC 1812): the checks at the door, and where a packet goes from there.
#
# ip4_input() is the whole path of one packet, in the order of RFC 1812, section 5.2; ip4_local.pxd delivers
# and ip4_forward.pxd passes on. router.pxd is the same path for what routers see most.

from libc.stdint cimport uint16_t, uint32_t, uint8_t

from ..headers.checksum cimport ones_complement_sum
from ..headers.ether cimport ETHER_HEADER, MAC_GROUP_BIT
from ..headers.icmp cimport ICMP_UNREACHABLE, UNREACHABLE_SOURCE_ROUTE
from ..headers.ip4 cimport IP4_BROADCAST, IP4_HEADER, ip4_has_source_route
from ..machine.platform cimport get16, get32, is_unlikely
from ..observe.drops cimport drop, read_header
from ..packet.packet cimport packet_trim
from ..packet.segment cimport wire_frame_bytes
from ..state.network cimport (
    Interface, KIND_ROUTER, LOOPBACK_PORT, Neighbor, Node, ROUTE_LOCAL, Route4, Worker,
)
from ..state.packets cimport CHECKSUM_IP4_VALID, Packet
from ..state.reasons cimport (
    DROP_IP4_BROADCAST, DROP_IP4_CHECKSUM, DROP_IP4_DESTINATION_MARTIAN, DROP_IP4_HEADER_LENGTH,
    DROP_IP4_MULTICAST, DROP_IP4_NOT_FORWARDING, DROP_IP4_SOURCE_MARTIAN, DROP_IP4_SOURCE_ROUTE,
    DROP_IP4_TOTAL_LENGTH, DROP_IP4_TRUNCATED, DROP_IP4_VERSION,
)
from .address cimport is_one_host, route_is_broadcast
from .icmp_output cimport icmp_error
from .ip4_forward cimport fast_neighbor, ip4_forward
from .ip4_local cimport ip4_local
from .route cimport route_lookup


cdef inline bint passes_whole(
    Node *node, Interface *interface, Packet *packet, uint32_t header_length, bint link_broadcast
) noexcept nogil:
    """Whether a super-frame is plainly forwarded, so that its segments need not be looked at one by one."""
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef Neighbor *neighbor
    if node.kind != KIND_ROUTER or link_broadcast or ip[8] <= 1:
        return False
    neighbor = fast_neighbor(node, route_lookup(&node.table, get32(ip + 16)), get32(ip + 16))
    return (
        neighbor is not NULL and neighbor.interface != interface
        and wire_frame_bytes(packet) - ETHER_HEADER <= neighbor.interface.mtu
        and (header_length == IP4_HEADER or not ip4_has_source_route(ip, header_length))
    )


cdef inline Packet *ip4_input(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    """One IPv4 packet from the link, through every check. RFC 1812, section 5.2.2 for those of the header.

    NULL: it has been dealt with. A super-frame whose segments have to be looked at one by one is returned.
    """
    cdef Node *node = interface.node
    cdef uint8_t *ip
    cdef uint32_t header_length, total_length, destination
    cdef bint link_broadcast = (packet.data[0] & MAC_GROUP_BIT) != 0
    cdef Route4 *route
    if packet.total_length < ETHER_HEADER + IP4_HEADER:
        drop(worker, node, packet, DROP_IP4_TRUNCATED)
        return NULL
    packet = read_header(worker, node, packet, ETHER_HEADER + IP4_HEADER)
    if packet is NULL:
        return NULL
    ip = packet.data + ETHER_HEADER
    if ip[0] >> 4 != 4:
        drop(worker, node, packet, DROP_IP4_VERSION)
        return NULL
    header_length = (ip[0] & 15) * 4
    if header_length < IP4_HEADER or ETHER_HEADER + header_length > packet.total_length:
        drop(worker, node, packet, DROP_IP4_HEADER_LENGTH)
        return NULL
    packet = read_header(worker, node, packet, ETHER_HEADER + header_length)
    if packet is NULL:
        return NULL
    ip = packet.data + ETHER_HEADER
    total_length = get16(ip + 2)
    if total_length < header_length or total_length > packet.total_length - ETHER_HEADER:
        drop(worker, node, packet, DROP_IP4_TOTAL_LENGTH)
        return NULL
    if not packet.header_state & CHECKSUM_IP4_VALID:
        if ones_complement_sum(ip, header_length) != 0xFFFF:
            drop(worker, node, packet, DROP_IP4_CHECKSUM)
            return NULL
        packet.header_state |= CHECKSUM_IP4_VALID
    if packet.total_length > ETHER_HEADER + total_length:  # the link's padding
        packet_trim(&worker.pool, packet, ETHER_HEADER + total_length)
    packet.network_offset = <uint8_t>ETHER_HEADER
    packet.transport_offset = <uint16_t>(ETHER_HEADER + header_length)
    if (
        is_unlikely(packet.segment_size)
        and not passes_whole(node, interface, packet, header_length, link_broadcast)
    ):
        return packet
    if interface.port == LOOPBACK_PORT:  # only the node itself can have sent it
        ip4_local(worker, node, interface, packet, False)
        return NULL
    destination = get32(ip + 16)
    if not is_one_host(get32(ip + 12)):
        drop(worker, node, packet, DROP_IP4_SOURCE_MARTIAN)
        return NULL
    if destination == IP4_BROADCAST:
        ip4_local(worker, node, interface, packet, True)
        return NULL
    if not is_one_host(destination):
        if destination >> 28 == 14:
            drop(worker, node, packet, DROP_IP4_MULTICAST)
        else:
            drop(worker, node, packet, DROP_IP4_DESTINATION_MARTIAN)
        return NULL
    # RFC 7126, sections 4.3 and 4.4
    if header_length > IP4_HEADER and ip4_has_source_route(ip, header_length):
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_SOURCE_ROUTE, 0, packet.time_ns)
        drop(worker, node, packet, DROP_IP4_SOURCE_ROUTE)
        return NULL
    route = route_lookup(&node.table, destination)
    if route is not NULL and route.kind == ROUTE_LOCAL:
        ip4_local(worker, node, interface, packet, link_broadcast)
    elif route is not NULL and route_is_broadcast(route, destination):
        if route.interface == interface:
            ip4_local(worker, node, interface, packet, True)
        else:  # RFC 2644: directed broadcasts are not forwarded
            drop(worker, node, packet, DROP_IP4_BROADCAST)
    elif link_broadcast:  # RFC 1812, section 5.3.4
        drop(worker, node, packet, DROP_IP4_BROADCAST)
    elif node.kind != KIND_ROUTER:
        drop(worker, node, packet, DROP_IP4_NOT_FORWARDING)
    else:
        ip4_forward(worker, node, interface, packet, route, header_length)
    return NULL
