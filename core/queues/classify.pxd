# Which flow a frame belongs to, and how urgent it says it is.
#
# A flow is what has the same IPv4 or IPv6 addresses, protocol and, for transports that have them, ports, under the
# pipe's mask: of each field only the bits that the mask has set count (dummynet's `mask`). VLAN tags, up to two, are passed
# over, and so are IPv6 extension headers, up to eight. Fragments have no ports, not even the first of a packet, so that they stay
# together. Whatever is no IP is told apart by its MAC addresses and its EtherType, whatever the mask says.
#
# Each word of the flow is mixed into a hash that begins with the pipe's `flow_seed`, by a step of SplitMix64:
# hash = splitmix64(hash ^ word). Flows share a queue where their hashes are the same modulo `flows`.
# The words of IPv4: (source << 32 | destination), (4 << 40 | protocol << 32 | source port << 16 | destination port), numbers in
# host order. Of IPv6: the halves of the source and of the destination as they stand, read as little-endian
# numbers, then as for IPv4 with 6 in place of 4. Of the rest: the first 14 bytes as two such numbers, 0 for what is missing.

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from ..layout cimport FlowQueue, Packet, Shaper
from ..packet cimport packet_copy_bytes
from ..platform cimport get16, get32, load64
from ..random cimport random_next
from .ecn cimport ip_place, traffic_class

cdef enum:
    ETHER_BYTES = 14
    IP4_BYTES = 20
    IP6_BYTES = 40
    IP4_FRAGMENT = 0x3FFF          # more fragments, and the offset
    IP6_FRAGMENT = 0xFFF9          # the same in the fragment header
    EXTENSION_LIMIT = 8            # headers that are looked through
    PROTOCOL_HOP_BY_HOP = 0
    PROTOCOL_TCP = 6
    PROTOCOL_UDP = 17
    PROTOCOL_DCCP = 33
    PROTOCOL_ROUTING = 43
    PROTOCOL_FRAGMENT = 44
    PROTOCOL_AUTHENTICATION = 51
    PROTOCOL_DESTINATION = 60
    PROTOCOL_SCTP = 132
    PROTOCOL_MOBILITY = 135
    PROTOCOL_UDP_LITE = 136
    NO_PORTS = 0                   # where a transport header cannot be


cdef inline uint64_t flow_mix(uint64_t hash_value, uint64_t word) noexcept nogil:
    hash_value ^= word
    return random_next(&hash_value)


cdef inline uint32_t ip6_transport(Packet *packet, uint32_t place, uint32_t *protocol) noexcept nogil:
    """Where the transport header of an IPv6 packet at `place` begins, and its protocol; NO_PORTS for a fragment, and where the
    extension headers leave the frame or are too many: the protocol is then the last that was found."""
    cdef uint8_t header[8]
    cdef uint32_t i
    place += IP6_BYTES
    for i in range(EXTENSION_LIMIT):
        if not (
            protocol[0] == PROTOCOL_HOP_BY_HOP or protocol[0] == PROTOCOL_ROUTING or protocol[0] == PROTOCOL_FRAGMENT
            or protocol[0] == PROTOCOL_AUTHENTICATION or protocol[0] == PROTOCOL_DESTINATION
            or protocol[0] == PROTOCOL_MOBILITY
        ):
            return place
        if packet.total_length < place + 8:
            return NO_PORTS
        packet_copy_bytes(packet, place, header, 8)
        if protocol[0] == PROTOCOL_FRAGMENT:
            protocol[0] = header[0]
            if get16(header + 2) & IP6_FRAGMENT:
                return NO_PORTS
            place += 8
        elif protocol[0] == PROTOCOL_AUTHENTICATION:  # RFC 4302: its length is in units of four bytes, less two
            protocol[0] = header[0]
            place += (header[1] + 2) * 4
        else:
            protocol[0] = header[0]
            place += (header[1] + 1) * 8
    return NO_PORTS


cdef inline uint32_t transport_ports(Packet *packet, uint32_t place, uint32_t protocol) noexcept nogil:
    """Source and destination port of the transport header at `place`; 0 where it has none."""
    cdef uint8_t ports[4]
    if place == NO_PORTS or packet.total_length < place + 4 or not (
        protocol == PROTOCOL_TCP or protocol == PROTOCOL_UDP or protocol == PROTOCOL_DCCP
        or protocol == PROTOCOL_SCTP or protocol == PROTOCOL_UDP_LITE
    ):
        return 0
    packet_copy_bytes(packet, place, ports, 4)
    return get32(ports)


cdef inline uint64_t flow_hash(Shaper *shaper, Packet *packet) noexcept nogil:
    cdef uint8_t header[IP6_BYTES]
    cdef uint32_t place = ip_place(packet, IP4_BYTES, header)
    cdef uint32_t transport = NO_PORTS
    cdef uint32_t version = header[0] >> 4 if place else 0
    cdef uint32_t mask_ports = <uint32_t>shaper.queue.mask.source_port << 16 | shaper.queue.mask.destination_port
    cdef uint32_t protocol, i
    cdef uint64_t value = shaper.flow_seed
    if version == 6:
        if packet.total_length < place + IP6_BYTES:
            version = 0
        else:
            packet_copy_bytes(packet, place, header, IP6_BYTES)
    if version == 0:
        memset(header, 0, 16)
        packet_copy_bytes(
            packet, 0, header, packet.total_length if packet.total_length < ETHER_BYTES else <uint32_t>ETHER_BYTES
        )
        return flow_mix(flow_mix(value, load64(header)), load64(header + 8))
    if version == 4:
        protocol = header[9]
        if not get16(header + 6) & IP4_FRAGMENT and (header[0] & 15) * 4 >= IP4_BYTES:
            transport = place + (header[0] & 15) * 4
        value = flow_mix(
            value,
            <uint64_t>(get32(header + 12) & shaper.queue.mask.source4) << 32
            | (get32(header + 16) & shaper.queue.mask.destination4),
        )
    else:
        protocol = header[6]
        transport = ip6_transport(packet, place, &protocol)
        for i in range(0, 16, 8):
            value = flow_mix(value, load64(header + 8 + i) & load64(shaper.queue.mask.source + i))
        for i in range(0, 16, 8):
            value = flow_mix(value, load64(header + 24 + i) & load64(shaper.queue.mask.destination + i))
    return flow_mix(
        value,
        <uint64_t>version << 40
        | <uint64_t>(protocol & shaper.queue.mask.protocol) << 32
        | (transport_ports(packet, transport, protocol) & mask_ports),
    )


cdef inline FlowQueue *flow_queue_of(Shaper *shaper, Packet *packet) noexcept nogil:
    """The queue that the frame's flow is hashed to."""
    if shaper.queue_count == 1:
        return shaper.queues
    return &shaper.queues[flow_hash(shaper, packet) % shaper.queue_count]


cdef inline uint32_t packet_precedence(Packet *packet) noexcept nogil:
    """The IP precedence (the upper three bits of the DSCP, RFC 2474, section 4.2.2), 0 to 7; 0 for what is no IP."""
    cdef uint8_t header[2]
    return traffic_class(header) >> 5 if ip_place(packet, 2, header) else 0
