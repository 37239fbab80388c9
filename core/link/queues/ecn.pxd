# Marking in place of dropping (RFC 3168): a packet whose transport says that it understands (ECT) is marked
# as having met congestion (CE), in the IPv4 or IPv6 header, behind up to two VLAN tags. What is marked
# already counts as marked. Used by every discipline that judges packets, and by a wire that marks in place of
# losing.

from libc.stdint cimport uint16_t, uint32_t, uint8_t

from ...headers.ip4 cimport IP4_HEADER
from ...machine.platform cimport get16, put16
from ...observe.drops cimport count_drop
from ...packet.layers cimport packet_network, traffic_class
from ...packet.packet cimport packet_own_header
from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.reasons cimport DROP_POOL_EMPTY
from .flow_queue cimport queue_drop_early

cdef enum:
    ECN_CE = 3


cdef inline bint packet_can_be_marked(Packet *packet) noexcept nogil:
    cdef uint8_t header[IP4_HEADER]
    return packet_network(packet, IP4_HEADER, header) != 0 and traffic_class(header) & ECN_CE != 0


cdef inline Packet *packet_mark(Worker *worker, Pipe *pipe, Packet *packet) noexcept nogil:
    """The packet, which can be marked, marked; NULL where there is no memory for that: it is dropped and
    counted.
    """
    cdef uint8_t header[2]
    cdef uint32_t place, old, total
    cdef uint8_t *ip
    header[0] = header[1] = 0
    place = packet_network(packet, 2, header)
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
    """Carry out a discipline's judgement: mark the packet where that may and can be done, and return it;
    else drop it: NULL.
    """
    if may_mark and packet_can_be_marked(packet):
        return packet_mark(worker, pipe, packet)
    queue_drop_early(worker, pipe, packet)
    return NULL
