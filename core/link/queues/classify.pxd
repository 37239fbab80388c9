# Which flow a frame belongs to, and how urgent it says it is.
#
# A flow is what has the same IPv4 or IPv6 addresses, protocol and, for transports that have them, ports,
# under the pipe's mask: of each field only the bits that the mask has set count (dummynet's `mask`). VLAN
# tags, up to two, are passed over, and so are IPv6 extension headers, up to eight. Fragments have no ports,
# not even the first of a packet, so that they stay together. Whatever is no IP is told apart by its MAC
# addresses and its EtherType, whatever the mask says.
#
# Each word of the flow is mixed into a hash that begins with the pipe's `flow_seed`, by a step of SplitMix64:
# hash = splitmix64(hash ^ word). Flows share a queue where their hashes are the same modulo `flows`. The
# words of IPv4: (source << 32 | destination), (4 << 40 | protocol << 32 | source port << 16 | destination
# port), numbers in host order. Of IPv6: the halves of the source and of the destination as they stand, read
# as little-endian numbers, then as for IPv4 with 6 in place of 4. Of the rest: the first 14 bytes as two such
# numbers, 0 for what is missing.

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from ...headers.ether cimport ETHER_HEADER
from ...headers.ip cimport (
    IP_PROTOCOL_DCCP, IP_PROTOCOL_SCTP, IP_PROTOCOL_TCP, IP_PROTOCOL_UDP, IP_PROTOCOL_UDP_LITE,
)
from ...headers.ip4 cimport IP4_FRAGMENT, IP4_HEADER
from ...headers.ip6 cimport IP6_HEADER
from ...machine.platform cimport get16, get32, load64
from ...machine.random cimport random_next
from ...packet.layers cimport ip6_transport, packet_network, traffic_class
from ...packet.packet cimport packet_copy_bytes
from ...state.packets cimport Packet
from ...state.shapers cimport FlowMask, FlowQueue, Shaper


cdef inline uint64_t flow_mix(uint64_t hash_value, uint64_t word) noexcept nogil:
    hash_value ^= word
    return random_next(&hash_value)


cdef inline uint32_t transport_ports(Packet *packet, uint32_t place, uint32_t protocol) noexcept nogil:
    """Source and destination port of the transport header at `place`; 0 where there is none, or it has
    none.
    """
    cdef uint8_t ports[4]
    if place == 0 or packet.total_length < place + 4 or not (
        protocol == IP_PROTOCOL_TCP or protocol == IP_PROTOCOL_UDP or protocol == IP_PROTOCOL_DCCP
        or protocol == IP_PROTOCOL_SCTP or protocol == IP_PROTOCOL_UDP_LITE
    ):
        return 0
    packet_copy_bytes(packet, place, ports, 4)
    return get32(ports)


cdef inline uint64_t flow_hash(Shaper *shaper, Packet *packet) noexcept nogil:
    cdef uint8_t header[IP6_HEADER]
    cdef uint32_t place = packet_network(packet, IP4_HEADER, header)
    cdef uint32_t transport = 0
    cdef uint32_t version = header[0] >> 4 if place else 0
    cdef FlowMask *mask = &shaper.queue.mask
    cdef uint32_t mask_ports = <uint32_t>mask.source_port << 16 | mask.destination_port
    cdef uint32_t protocol, i
    cdef uint64_t value = shaper.flow_seed
    if version == 6:
        if packet.total_length < place + IP6_HEADER:
            version = 0
        else:
            packet_copy_bytes(packet, place, header, IP6_HEADER)
    if version == 0:
        memset(header, 0, 16)
        packet_copy_bytes(
            packet, 0, header,
            packet.total_length if packet.total_length < ETHER_HEADER else <uint32_t>ETHER_HEADER,
        )
        return flow_mix(flow_mix(value, load64(header)), load64(header + 8))
    if version == 4:
        protocol = header[9]
        if not get16(header + 6) & IP4_FRAGMENT and (header[0] & 15) * 4 >= IP4_HEADER:
            transport = place + (header[0] & 15) * 4
        value = flow_mix(
            value,
            <uint64_t>(get32(header + 12) & shaper.queue.mask.source4) << 32
            | (get32(header + 16) & shaper.queue.mask.destination4),
        )
    else:
        protocol = header[6]
        transport = ip6_transport(packet, place, &protocol, False)
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
    """The IP precedence (the upper three bits of the DSCP, RFC 2474, section 4.2.2), 0 to 7; 0 for what is
    no IP.
    """
    cdef uint8_t header[2]
    return traffic_class(header) >> 5 if packet_network(packet, 2, header) else 0
