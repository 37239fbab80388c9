# ICMP (RFC 792): errors about packets that could not go on, and echo replies.
#
# An error is made by the rules of RFC 1812, section 4.3.2: never about another error, a later fragment, a
# group address or a source that is not one host; as much of the packet as fits 576 bytes, by reference; sent
# from the address of the interface that it leaves by; and no more than 1,000 a second of one node, with
# bursts of 100 (4.3.2.8).

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint8_t

from ..headers.ether cimport ETHER_HEADER, MAC_GROUP_BIT
from ..headers.icmp cimport ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_HEADER, icmp_is_error
from ..headers.ip cimport IP_PROTOCOL_ICMP
from ..headers.ip4 cimport IP4_HEADER, IP4_OFFSET_MASK, ip4_write_checksum
from ..machine.platform cimport get16, get32, put16, put32
from ..observe.drops cimport count_drop, own_header
from ..packet.packet cimport (
    packet_checksum, packet_copy_bytes, packet_id_new, packet_new, packet_own_header, packet_release,
    packet_slice,
)
from ..packet.segment cimport checksum_offset, finished_checksum
from ..state.network cimport Node, Worker
from ..state.packets cimport CHECKSUM_PARTIAL, Packet
from ..state.reasons cimport DROP_ICMP_RATE_LIMITED, DROP_POOL_EMPTY
from .address cimport is_one_host
from .ip4_output cimport ip4_output, ip4_source, ip4_write_header
from .loopback cimport packet_is_own

cdef enum:
    ICMP_TTL = 255                 # of what answers somebody: the way back may be longer than the way there
    ICMP_QUOTE = 576 - 20 - 8
    ICMP_BURST = 100
    ICMP_REFILL_NS = 1000000       # one more error each millisecond


cdef inline bint icmp_allowed(Node *node, int64_t time_ns) noexcept nogil:
    cdef int64_t refill = (time_ns - node.icmp_refill_ns) // ICMP_REFILL_NS
    if refill > 0:
        node.icmp_refill_ns += refill * ICMP_REFILL_NS
        refill += node.icmp_tokens
        node.icmp_tokens = <uint32_t>refill if refill < ICMP_BURST else ICMP_BURST
    if node.icmp_tokens == 0:
        return False
    node.icmp_tokens -= 1
    return True


cdef inline bint icmp_may_answer(Packet *packet) noexcept nogil:
    """RFC 1812, section 4.3.2.7; the packet's IP header is known to be good."""
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef uint32_t header_length = (ip[0] & 15) * 4
    cdef uint8_t icmp_type
    if packet.input_port and packet.data[0] & MAC_GROUP_BIT:
        return False
    if not is_one_host(get32(ip + 12)) or not is_one_host(get32(ip + 16)) or get16(ip + 6) & IP4_OFFSET_MASK:
        return False
    if ip[9] != IP_PROTOCOL_ICMP:
        return True
    if packet.total_length <= ETHER_HEADER + header_length:
        return False
    # a fragment has it in a further segment
    packet_copy_bytes(packet, ETHER_HEADER + header_length, &icmp_type, 1)
    return not icmp_is_error(icmp_type)


cdef inline void icmp_error(
    Worker *worker, Node *node, Packet *packet, uint8_t icmp_type, uint8_t code, uint32_t rest,
    int64_t time_ns
) noexcept nogil:
    """Tell a packet's source what became of it.

    The packet stays the caller's; `rest` is the header's second word.
    """
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef uint32_t quoted = get16(ip + 2)
    cdef uint32_t source = ip4_source(node, get32(ip + 12))
    cdef Packet *error
    cdef uint8_t *icmp
    if source == 0 or not icmp_may_answer(packet):
        return
    if source == get32(ip + 12) and not packet_is_own(packet):  # nobody has sent that: see ip4_output()
        return
    if not icmp_allowed(node, time_ns):
        count_drop(node, DROP_ICMP_RATE_LIMITED)
        return
    if quoted > ICMP_QUOTE:
        quoted = ICMP_QUOTE
    error = packet_new(&worker.pool, ETHER_HEADER + IP4_HEADER + ICMP_HEADER)
    if error is NULL:
        count_drop(node, DROP_POOL_EMPTY)
        return
    error.next = packet_slice(&worker.pool, packet, ETHER_HEADER, quoted)
    if error.next is NULL:
        packet_release(&worker.pool, error)
        count_drop(node, DROP_POOL_EMPTY)
        return
    if packet.header_state & CHECKSUM_PARTIAL:  # the source knows the packet as the wire has it
        error.next = packet_own_header(&worker.pool, error.next, checksum_offset(packet) + 2 - ETHER_HEADER)
        if error.next is NULL:
            packet_release(&worker.pool, error)
            count_drop(node, DROP_POOL_EMPTY)
            return
        put16(error.next.data + checksum_offset(packet) - ETHER_HEADER, finished_checksum(packet))
    error.length = ETHER_HEADER + IP4_HEADER + ICMP_HEADER
    error.total_length = error.length + quoted
    icmp = error.data + ETHER_HEADER + IP4_HEADER
    icmp[0] = icmp_type
    icmp[1] = code
    put16(icmp + 2, 0)
    put32(icmp + 4, rest)
    put16(icmp + 2, <uint16_t>~packet_checksum(error, ETHER_HEADER + IP4_HEADER, ICMP_HEADER + quoted, 0))
    ip4_write_header(
        node, error.data + ETHER_HEADER, IP4_HEADER + ICMP_HEADER + quoted, IP_PROTOCOL_ICMP, ICMP_TTL,
        source, get32(ip + 12)
    )
    ip4_output(worker, node, error, time_ns)


cdef inline void icmp_echo_reply(
    Worker *worker, Node *node, Packet *packet, uint32_t header_length
) noexcept nogil:
    """Turn an echo request around, in place; its checksum has been verified."""
    cdef uint32_t destination
    cdef uint32_t checksum
    cdef uint8_t *ip
    cdef uint8_t *icmp
    packet = own_header(worker, node, packet, ETHER_HEADER + header_length + ICMP_HEADER)
    if packet is NULL:
        return
    ip = packet.data + ETHER_HEADER
    icmp = ip + header_length
    icmp[0] = ICMP_ECHO_REPLY
    checksum = get16(icmp + 2) + (<uint32_t>ICMP_ECHO << 8)  # RFC 1624: the type's word fell by this much
    put16(icmp + 2, <uint16_t>((checksum & 0xFFFF) + (checksum >> 16)))
    destination = get32(ip + 12)
    put32(ip + 12, get32(ip + 16))
    put32(ip + 16, destination)
    ip[8] = ICMP_TTL
    put16(ip + 4, node.ip_identification)
    node.ip_identification += 1
    put16(ip + 6, 0)
    ip4_write_checksum(ip, header_length)
    packet.packet_id = packet_id_new(&worker.pool)
    ip4_output(worker, node, packet, packet.time_ns)
