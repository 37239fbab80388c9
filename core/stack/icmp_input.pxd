# ICMP into a node (RFC 792; RFC 1122, section 3.2.2): echoes are answered, errors go to the flow that they
# are about, redirects into the route table.

from libc.stdint cimport uint32_t, uint8_t

from ..headers.ether cimport ETHER_HEADER
from ..headers.icmp cimport (
    ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_HEADER, ICMP_PARAMETER_PROBLEM, ICMP_REDIRECT, ICMP_TIME_EXCEEDED,
    ICMP_UNREACHABLE,
)
from ..headers.ip4 cimport IP4_HEADER
from ..machine.platform cimport get16, get32
from ..observe.drops cimport drop, read_header
from ..packet.packet cimport packet_checksum, packet_release
from ..state.network cimport Interface, KIND_ROUTER, Node, ROUTE_GATEWAY, Route4, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport (
    DROP_ICMP_CHECKSUM, DROP_ICMP_TRUNCATED, DROP_ICMP_TYPE_UNKNOWN, DROP_IP4_BROADCAST,
)
from .address cimport interface_has, interface_reaches
from .flow cimport flow_echo_reply, flow_icmp_error
from .icmp_output cimport icmp_echo_reply
from .route cimport route_lookup, route_set

cdef enum:
    REDIRECTED_ROUTES = 1024


cdef inline void icmp_redirect_input(
    Node *node, Interface *interface, uint8_t *ip, uint8_t *icmp
) noexcept nogil:
    """A host believes the gateway that it uses about a better one on the same link (RFC 1122, section
    3.2.2.2).
    """
    cdef uint32_t gateway = get32(icmp + 4)
    cdef uint32_t destination = get32(icmp + ICMP_HEADER + 16)
    cdef Route4 *route = route_lookup(&node.table, destination)
    if (
        node.kind == KIND_ROUTER or route is NULL or route.kind != ROUTE_GATEWAY
        or route.interface != interface or route.gateway != get32(ip + 12)
        or not interface_reaches(interface, gateway)
        or interface_has(interface, gateway) or node.table.count >= REDIRECTED_ROUTES
    ):
        return
    route_set(&node.table, destination, 32, ROUTE_GATEWAY, gateway, interface)


cdef inline void icmp_input(
    Worker *worker, Node *node, Interface *interface, Packet *packet, uint32_t header_length, bint broadcast
) noexcept nogil:
    cdef uint32_t length = get16(packet.data + ETHER_HEADER + 2) - header_length
    cdef uint32_t quoted_length
    cdef uint32_t wanted
    cdef uint8_t icmp_type
    cdef uint8_t *icmp
    if length < ICMP_HEADER:
        drop(worker, node, packet, DROP_ICMP_TRUNCATED)
        return
    # Enough for the longest that is read: an error's header, and the quoted IP header with 8 bytes.
    wanted = length if length < ICMP_HEADER + 60 + 8 else ICMP_HEADER + 60 + 8
    packet = read_header(worker, node, packet, ETHER_HEADER + header_length + wanted)
    if packet is NULL:
        return
    icmp = packet.data + ETHER_HEADER + header_length
    if packet_checksum(packet, ETHER_HEADER + header_length, length, 0) != 0xFFFF:
        drop(worker, node, packet, DROP_ICMP_CHECKSUM)
        return
    icmp_type = icmp[0]
    if icmp_type == ICMP_ECHO:
        if broadcast:  # RFC 1122, section 3.2.2.6 leaves the choice; silence does not amplify
            drop(worker, node, packet, DROP_IP4_BROADCAST)
        else:
            icmp_echo_reply(worker, node, packet, header_length)
    elif icmp_type == ICMP_ECHO_REPLY:
        flow_echo_reply(worker, node, packet, header_length)
    elif (
        icmp_type == ICMP_UNREACHABLE or icmp_type == ICMP_TIME_EXCEEDED
        or icmp_type == ICMP_PARAMETER_PROBLEM or icmp_type == ICMP_REDIRECT
    ):
        quoted_length = 0
        if length >= ICMP_HEADER + IP4_HEADER:
            quoted_length = (icmp[ICMP_HEADER] & 15) * 4
        if quoted_length < IP4_HEADER or length < ICMP_HEADER + quoted_length + 8:
            drop(worker, node, packet, DROP_ICMP_TRUNCATED)
        elif icmp_type == ICMP_REDIRECT:
            icmp_redirect_input(node, interface, packet.data + ETHER_HEADER, icmp)
            packet_release(&worker.pool, packet)
        else:
            flow_icmp_error(worker, node, packet, icmp, icmp + ICMP_HEADER)
    else:
        drop(worker, node, packet, DROP_ICMP_TYPE_UNKNOWN)
