# Where the layers of a frame begin, whatever pieces its bytes lie in. VLAN tags, up to two, are passed over,
# and so are IPv6 extension headers, up to eight.

from libc.stdint cimport uint32_t, uint8_t
from libc.string cimport memset

from ..headers.ether cimport ETHER_HEADER, ETHER_LONGEST, ETHER_TYPE_IP4, ETHER_TYPE_IP6, ether_payload
from ..headers.ip cimport IP_PROTOCOL_AUTHENTICATION, IP_PROTOCOL_FRAGMENT
from ..headers.ip6 cimport IP6_EXTENSIONS, IP6_FRAGMENT, IP6_HEADER, ip6_extension_bytes
from ..machine.platform cimport get16
from ..state.packets cimport Packet
from .packet cimport packet_copy_bytes


cdef inline uint32_t packet_network(Packet *packet, uint32_t least, uint8_t *header) noexcept nogil:
    """Where the IP header of a frame begins, with its first `least` (at most 40) bytes in `header`.

    0: there is none.
    """
    cdef uint8_t ether[ETHER_LONGEST]
    cdef uint32_t length = packet.total_length
    cdef uint32_t ether_type = 0
    cdef uint32_t place
    if length < ETHER_HEADER:
        return 0
    if length > ETHER_LONGEST:
        length = ETHER_LONGEST
    packet_copy_bytes(packet, 0, ether, length)
    place = ether_payload(ether, length, &ether_type)
    if packet.total_length < place + least:
        return 0
    if ether_type == ETHER_TYPE_IP4 or ether_type == ETHER_TYPE_IP6:
        packet_copy_bytes(packet, place, header, least)
        if header[0] >> 4 == (4 if ether_type == ETHER_TYPE_IP4 else 6):
            return place
    return 0


cdef inline uint32_t traffic_class(const uint8_t *ip) noexcept nogil:
    """The octet with DSCP and ECN of a header of either version."""
    return ip[1] if ip[0] >> 4 == 4 else (ip[0] & 15) << 4 | ip[1] >> 4


cdef inline uint32_t ip6_transport(
    Packet *packet, uint32_t network, uint32_t *protocol, bint repeatable
) noexcept nogil:
    """Where the transport header of an IPv6 packet begins; `protocol` is its IPv6 header's, and becomes that.

    0 for a fragment, and where the extension headers leave the frame or are too many: the protocol is then
    the last that was found. `repeatable`: and where one of them could not stand before each segment of the
    payload, as it is about the whole of it.
    """
    cdef uint8_t header[8]
    cdef uint32_t place = network + IP6_HEADER
    cdef uint32_t this_one = protocol[0]
    cdef uint32_t i, length
    memset(header, 0, 8)
    for i in range(IP6_EXTENSIONS):
        if ip6_extension_bytes(this_one, header) == 0:
            return place
        if packet.total_length < place + 8:
            return 0
        if repeatable and (
            this_one == IP_PROTOCOL_FRAGMENT or this_one == IP_PROTOCOL_AUTHENTICATION
        ):
            return 0
        packet_copy_bytes(packet, place, header, 8)
        length = ip6_extension_bytes(this_one, header)
        protocol[0] = header[0]
        if this_one == IP_PROTOCOL_FRAGMENT and get16(header + 2) & IP6_FRAGMENT:
            return 0
        this_one = protocol[0]
        place += length
    return 0
