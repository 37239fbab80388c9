# IPv4 for the node itself (RFC 1122, section 3.2.1): which protocol takes a packet.

from libc.stdint cimport uint32_t, uint8_t

from ..headers.ether cimport ETHER_HEADER
from ..headers.icmp cimport ICMP_UNREACHABLE, UNREACHABLE_PROTOCOL
from ..headers.ip cimport IP_PROTOCOL_ICMP, IP_PROTOCOL_UDP
from ..headers.ip4 cimport IP4_MORE_FRAGMENTS, IP4_OFFSET_MASK
from ..machine.platform cimport get16
from ..observe.drops cimport drop
from ..state.network cimport Interface, Node, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_IP4_FRAGMENT_NOT_REASSEMBLED, DROP_IP4_PROTOCOL_UNKNOWN
from .icmp_input cimport icmp_input
from .icmp_output cimport icmp_error
from .udp_input cimport udp_input


cdef inline void ip4_local(
    Worker *worker, Node *node, Interface *interface, Packet *packet, bint broadcast
) noexcept nogil:
    """Deliver a packet whose IP header is known to be good."""
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef uint32_t header_length = (ip[0] & 15) * 4
    if get16(ip + 6) & (IP4_MORE_FRAGMENTS | IP4_OFFSET_MASK):
        drop(worker, node, packet, DROP_IP4_FRAGMENT_NOT_REASSEMBLED)
    elif ip[9] == IP_PROTOCOL_ICMP:
        icmp_input(worker, node, interface, packet, header_length, broadcast)
    elif ip[9] == IP_PROTOCOL_UDP:
        udp_input(worker, node, packet, header_length, broadcast)
    else:
        if not broadcast:
            icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_PROTOCOL, 0, packet.time_ns)
        drop(worker, node, packet, DROP_IP4_PROTOCOL_UNKNOWN)
