# Marking in place of dropping (RFC 3168): a packet whose transport says that it understands (ECT) is marked as having met
# congestion (CE), in the IPv4 or IPv6 header, behind up to two VLAN tags. What is marked already counts as marked.
# Used by every discipline that judges packets, and by a wire that marks in place of losing.

from libc.stdint cimport uint16_t, uint32_t, uint8_t

from ..layout cimport DROP_POOL_EMPTY, Packet, Pipe, Worker
from ..packet cimport packet_copy_bytes, packet_own_header
from ..platform cimport get16, put16
from ..schedule cimport count_drop
from .flow_queue cimport queue_drop_early

cdef enum:
    ECN_CE = 3
    ETHER_TYPE_PLACE = 12
    IP4_HEADER = 20                # bytes that must be there for a mark, of either version
    TYPE_IP4 = 0x0800
    TYPE_IP6 = 0x86DD
    TYPE_VLAN = 0x8100
    TYPE_VLAN_OUTER = 0x88A8
    LONGEST_TAGGED = 22            # bytes of an Ethernet header with two VLAN tags


cdef inline uint32_t ip_place(Packet *packet, uint32_t least, uint8_t *header) noexcept nogil:
    """Where the IP header of a frame begins, with its first `least` (at most 40) bytes in `header`; 0: there is none."""
    cdef uint8_t ether[LONGEST_TAGGED]
    cdef uint32_t length = packet.total_length
    cdef uint32_t place = ETHER_TYPE_PLACE
    cdef uint32_t ether_type
    if length < 14:
        return 0
    packet_copy_bytes(packet, 0, ether, length if length < LONGEST_TAGGED else <uint32_t>LONGEST_TAGGED)
    ether_type = get16(ether + place)
    while (ether_type == TYPE_VLAN or ether_type == TYPE_VLAN_OUTER) and place < 20 and length >= place + 6:
        place += 4
        ether_type = get16(ether + place)
    place += 2
    if length < place + least:
        return 0
    if ether_type == TYPE_IP4 or ether_type == TYPE_IP6:
        packet_copy_bytes(packet, place, header, least)
        if header[0] >> 4 == (4 if ether_type == TYPE_IP4 else 6):
            return place
    return 0


cdef inline uint32_t traffic_class(const uint8_t *ip) noexcept nogil:
    """The octet with DSCP and ECN of a header of either version."""
    return ip[1] if ip[0] >> 4 == 4 else (ip[0] & 15) << 4 | ip[1] >> 4


cdef inline bint packet_can_be_marked(Packet *packet) noexcept nogil:
    cdef uint8_t header[IP4_HEADER]
    return ip_place(packet, IP4_HEADER, header) != 0 and traffic_class(header) & ECN_CE != 0


cdef inline Packet *packet_mark(Worker *worker, Pipe *pipe, Packet *packet) noexcept nogil:
    """The packet, which can be marked, marked; NULL where there is no memory for that: it is dropped and counted."""
    cdef uint8_t header[2]
    cdef uint32_t place, old, total
    cdef uint8_t *ip
    header[0] = header[1] = 0
    place = ip_place(packet, 2, header)
    pipe.shaper.marked_packets += 1
    if traffic_class(header) & ECN_CE == ECN_CE:
        return packet
    packet = packet_own_header(&worker.pool, packet, place + (12 if header[0] >> 4 == 4 else 2))
    if packet is NULL:
        count_drop(pipe.sender.node, DROP_POOL_EMPTY)
        return NULL
    ip = packet.data + place
    if ip[0] >> 4 == 6:
        ip[1] |= ECN_CE << 4
        return packet
    old = get16(ip)
    ip[1] |= ECN_CE
    # RFC 1624, eqn. 3: HC' = ~(~HC + ~m + m')
    total = (~<uint32_t>get16(ip + 10) & 0xFFFF) + (~old & 0xFFFF) + get16(ip)
    total = (total & 0xFFFF) + (total >> 16)
    put16(ip + 10, <uint16_t>~((total & 0xFFFF) + (total >> 16)))
    return packet


cdef inline Packet *packet_punish(Worker *worker, Pipe *pipe, Packet *packet, bint may_mark) noexcept nogil:
    """Carry out a discipline's judgement: mark the packet where that may and can be done, and return it; else drop it: NULL."""
    if may_mark and packet_can_be_marked(packet):
        return packet_mark(worker, pipe, packet)
    queue_drop_early(worker, pipe, packet)
    return NULL
