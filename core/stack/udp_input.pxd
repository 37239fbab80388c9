# UDP into a node (RFC 768; RFC 1122, section 4.1.3): to the sink of a flow, or a port unreachable goes back.

from libc.stdint cimport uint32_t, uint8_t

from ..headers.ether cimport ETHER_HEADER
from ..headers.icmp cimport ICMP_UNREACHABLE, UNREACHABLE_PORT
from ..headers.udp cimport UDP_HEADER
from ..machine.platform cimport get16, load16
from ..observe.drops cimport drop, read_header
from ..state.network cimport Echo, Flow, Node, Worker
from ..state.packets cimport CHECKSUM_UDP_PARTIAL, Packet
from ..state.reasons cimport DROP_UDP_CHECKSUM, DROP_UDP_LENGTH, DROP_UDP_PORT_UNREACHABLE, DROP_UDP_TRUNCATED
from .echo cimport echo_find, echo_input
from .flow cimport UDP_STAMP, flow_datagram, flow_of_datagram
from .icmp_output cimport icmp_error
from .udp_output cimport udp_checksum


cdef inline void udp_input(
    Worker *worker, Node *node, Packet *packet, uint32_t header_length, bint broadcast
) noexcept nogil:
    cdef uint32_t length = get16(packet.data + ETHER_HEADER + 2) - header_length
    cdef uint32_t wanted
    cdef uint32_t datagram
    cdef uint8_t *udp
    cdef Flow *flow
    cdef Echo *echo
    if length < UDP_HEADER:
        drop(worker, node, packet, DROP_UDP_TRUNCATED)
        return
    wanted = length if length < UDP_HEADER + UDP_STAMP else UDP_HEADER + UDP_STAMP
    packet = read_header(worker, node, packet, ETHER_HEADER + header_length + wanted)
    if packet is NULL:
        return
    udp = packet.data + ETHER_HEADER + header_length
    datagram = get16(udp + 4)
    if datagram < UDP_HEADER or datagram > length:
        drop(worker, node, packet, DROP_UDP_LENGTH)
        return
    if (
        load16(udp + 6) and not packet.header_state & CHECKSUM_UDP_PARTIAL
        and udp_checksum(packet, ETHER_HEADER + header_length, datagram) != 0xFFFF
    ):
        drop(worker, node, packet, DROP_UDP_CHECKSUM)
        return
    flow = flow_of_datagram(node, udp)
    if flow is not NULL and datagram >= UDP_HEADER + UDP_STAMP:
        flow_datagram(worker, flow, packet, udp)
        return
    if node.stack is not NULL:
        echo = echo_find(node, get16(udp + 2))
        if echo is not NULL:
            echo_input(worker, node, echo, packet, header_length)
            return
    if not broadcast:
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_PORT, 0, packet.time_ns)
    drop(worker, node, packet, DROP_UDP_PORT_UNREACHABLE)
