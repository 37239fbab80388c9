# IPv4 through a router (RFC 1812, section 5.2.3 on): what it passes on, to whom, and what it says of the
# rest.

from libc.stdint cimport int64_t, uint32_t, uint8_t

from ..headers.ether cimport ETHER_HEADER
from ..headers.icmp cimport (
    ICMP_REDIRECT, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, REDIRECT_HOST, UNREACHABLE_FRAGMENTATION_NEEDED,
    UNREACHABLE_HOST, UNREACHABLE_NET,
)
from ..headers.ip4 cimport IP4_DONT_FRAGMENT, ip4_decrement_ttl
from ..machine.platform cimport get16, get32
from ..observe.drops cimport drop, own_header
from ..packet.segment cimport wire_frame_bytes
from ..state.network cimport (
    Interface, Neighbor, Node, ROUTE_CONNECTED, ROUTE_GATEWAY, ROUTE_UNREACHABLE, Route4, Worker,
)
from ..state.packets cimport Packet
from ..state.reasons cimport (
    DROP_IP4_FRAGMENTATION_NEEDED, DROP_IP4_NO_ROUTE, DROP_IP4_ROUTE_UNREACHABLE, DROP_IP4_TTL,
    DROP_NEIGHBOR_TABLE_FULL,
)
from .address cimport interface_reaches, is_one_host, route_is_broadcast
from .icmp_output cimport icmp_error
from .ip4_output cimport ip4_send, route_neighbor
from .neighbor cimport neighbor_find


cdef inline void ip4_forward(
    Worker *worker, Node *node, Interface *interface, Packet *packet, Route4 *route, uint32_t header_length
) noexcept nogil:
    """RFC 1812, section 5.2.3 on: the packet is good, and for somebody else."""
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef uint32_t destination = get32(ip + 16)
    cdef int64_t time_ns = packet.time_ns
    cdef Neighbor *neighbor
    if route is NULL:
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_NET, 0, time_ns)
        drop(worker, node, packet, DROP_IP4_NO_ROUTE)
        return
    if route.kind == ROUTE_UNREACHABLE:
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_HOST, 0, time_ns)
        drop(worker, node, packet, DROP_IP4_ROUTE_UNREACHABLE)
        return
    if ip[8] <= 1:
        icmp_error(worker, node, packet, ICMP_TIME_EXCEEDED, 0, 0, time_ns)
        drop(worker, node, packet, DROP_IP4_TTL)
        return
    neighbor = route_neighbor(node, route, destination, time_ns)
    if neighbor is NULL:
        drop(worker, node, packet, DROP_NEIGHBOR_TABLE_FULL)
        return
    if wire_frame_bytes(packet) - ETHER_HEADER > neighbor.interface.mtu and get16(ip + 6) & IP4_DONT_FRAGMENT:
        # RFC 1191, section 4: the next hop's MTU is in the low half of the word
        icmp_error(
            worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_FRAGMENTATION_NEEDED, neighbor.interface.mtu,
            time_ns
        )
        drop(worker, node, packet, DROP_IP4_FRAGMENTATION_NEEDED)
        return
    if neighbor.interface == interface and interface_reaches(interface, get32(ip + 12)):
        icmp_error(worker, node, packet, ICMP_REDIRECT, REDIRECT_HOST, neighbor.address, time_ns)  # 5.2.7.2
        # in a full table, the source may have taken its place
        neighbor = route_neighbor(node, route, destination, time_ns)
        if neighbor is NULL:
            drop(worker, node, packet, DROP_NEIGHBOR_TABLE_FULL)
            return
    packet = own_header(worker, node, packet, ETHER_HEADER + header_length)
    if packet is NULL:
        return
    ip4_decrement_ttl(packet.data + ETHER_HEADER)
    ip4_send(worker, node, neighbor, packet, time_ns)


cdef inline Neighbor *fast_neighbor(Node *node, Route4 *route, uint32_t destination) noexcept nogil:
    """The adjacency for a destination by its route, if it is known already and plainly forwarded to; else
    NULL.
    """
    if route is NULL or not is_one_host(destination):
        return NULL
    if route.kind == ROUTE_GATEWAY:
        return route.neighbor
    if route.kind == ROUTE_CONNECTED and not route_is_broadcast(route, destination):
        return neighbor_find(node, route.interface, destination)
    return NULL
