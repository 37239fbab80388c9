# What a kernel says of a frame beside its bytes: the virtio header (virtio 1.2, section 5.1.6; Linux,
# include/uapi/linux/virtio_net.h) in front of each frame of a TAP opened with IFF_VNET_HDR, and the joining
# of segments on the way out.
#
# A header is believed only as far as the frame bears it out; lengths are derived from the frame, not from
# `hdr_len`.

from libc.stdint cimport uint16_t, uint32_t, uint8_t
from libc.string cimport memcmp, memset

from ..headers.checksum cimport ones_complement_sum
from ..headers.ether cimport ETHER_HEADER, ETHER_TYPE_IP4, ETHER_TYPE_IP6, ether_payload
from ..headers.ip cimport IP_PROTOCOL_TCP, IP_PROTOCOL_UDP
from ..headers.ip4 cimport IP4_FRAGMENT, IP4_HEADER, IP4_LONGEST
from ..headers.ip6 cimport IP6_HEADER
from ..headers.tcp cimport TCP_ACK, TCP_CHECKSUM, TCP_DATA_OFFSET, TCP_FIN, TCP_FLAGS, TCP_HEADER, TCP_PSH
from ..headers.udp cimport UDP_CHECKSUM, UDP_HEADER
from ..machine.platform cimport get16, get32, load16, put16, store16
from ..state.packets cimport (
    CHECKSUM_IP4_VALID, CHECKSUM_PARTIAL, CHECKSUM_TCP_PARTIAL, CHECKSUM_UDP_PARTIAL, Packet, Pool,
)
from .layers cimport ip6_transport
from .packet cimport packet_checksum, packet_own_header, segment_release
from .segment cimport wire_segments, write_lengths

cdef enum:
    VNET_HEADER = 12
    VNET_NEEDS_CHECKSUM = 1
    VNET_NONE = 0
    VNET_TCP4 = 1
    VNET_TCP6 = 4
    VNET_UDP = 5
    VNET_ECN = 0x80
    JOINED_SEGMENTS = 64


cdef inline bint vnet_parse(Pool *pool, Packet *packet, const uint8_t *header) noexcept nogil:
    """Mark a frame by the virtio header that came with it. False: the two do not fit together.

    A frame's first segment holds all of its headers, or all of the frame. What is marked partial is sound:
    one TCP segment or UDP datagram in one IP packet, with lengths that are the frame's and a good header
    checksum.
    """
    cdef uint32_t gso = header[1] & ~VNET_ECN & 0xFF
    cdef uint32_t segment_size = load16(header + 4)
    cdef uint32_t start = load16(header + 6)
    cdef uint32_t place = load16(header + 8)
    cdef uint32_t protocol = 0
    cdef uint32_t header_length = 0
    cdef uint32_t ether_type = 0
    cdef uint32_t network, total
    cdef uint8_t *ip
    cdef uint8_t *transport
    if not header[0] & VNET_NEEDS_CHECKSUM:
        return gso == VNET_NONE
    if start + place + 2 > packet.length or start < ETHER_HEADER + IP4_HEADER:
        return False
    network = ether_payload(packet.data, packet.length, &ether_type)
    ip = packet.data + network
    transport = packet.data + start
    if ether_type == ETHER_TYPE_IP4 and ip[0] >> 4 == 4 and start >= network + IP4_HEADER:
        if (
            start == network + (ip[0] & 15) * 4 and network + get16(ip + 2) == packet.total_length
            and get16(ip + 6) & IP4_FRAGMENT == 0 and ones_complement_sum(ip, start - network) == 0xFFFF
        ):
            protocol = ip[9]
            packet.header_state = CHECKSUM_IP4_VALID
    elif ether_type == ETHER_TYPE_IP6 and ip[0] >> 4 == 6 and start >= network + IP6_HEADER:
        if network + IP6_HEADER + get16(ip + 4) == packet.total_length:
            protocol = ip[6]
            if ip6_transport(packet, network, &protocol, True) != start:
                protocol = 0
    if protocol == IP_PROTOCOL_TCP and place == TCP_CHECKSUM and start + TCP_HEADER <= packet.length:
        header_length = start + (transport[TCP_DATA_OFFSET] >> 4) * 4
        if header_length < start + TCP_HEADER or header_length > packet.length:
            header_length = 0
        else:
            packet.header_state |= CHECKSUM_TCP_PARTIAL
    elif (
        protocol == IP_PROTOCOL_UDP and place == UDP_CHECKSUM and start
        + get16(transport + 4) == packet.total_length
    ):
        header_length = start + UDP_HEADER
        packet.header_state |= CHECKSUM_UDP_PARTIAL
    if header_length == 0:
        if gso != VNET_NONE:
            return False
        total = ~packet_checksum(packet, start, packet.total_length - start, 0) & 0xFFFF
        if total == 0 and place == UDP_CHECKSUM:
            total = 0xFFFF
        put16(transport + place, <uint16_t>total)  # what is not carried partial is finished here
        return True
    packet.network_offset = <uint8_t>network
    packet.transport_offset = <uint16_t>start
    if gso == VNET_NONE:
        return True
    if (
        (gso == VNET_TCP4 and (ether_type != ETHER_TYPE_IP4 or protocol != IP_PROTOCOL_TCP))
        or (gso == VNET_TCP6 and (ether_type != ETHER_TYPE_IP6 or protocol != IP_PROTOCOL_TCP))
        or (gso == VNET_UDP and protocol != IP_PROTOCOL_UDP)
        or (gso != VNET_TCP4 and gso != VNET_TCP6 and gso != VNET_UDP)
        or segment_size == 0 or header_length >= packet.total_length or header_length > packet.length
    ):
        return False
    if packet.total_length - header_length > segment_size:
        packet.segment_size = <uint16_t>segment_size
        packet.header_length = <uint16_t>header_length
        pool.packet_ids += wire_segments(packet) - 1
    return True


cdef inline void vnet_build(Packet *packet, uint8_t *header, uint32_t header_bytes) noexcept nogil:
    """The virtio header for a frame that leaves."""
    memset(header, 0, header_bytes)
    if not packet.header_state & CHECKSUM_PARTIAL:
        return
    header[0] = VNET_NEEDS_CHECKSUM
    store16(header + 6, packet.transport_offset)
    store16(header + 8, TCP_CHECKSUM if packet.header_state & CHECKSUM_TCP_PARTIAL else UDP_CHECKSUM)
    if packet.segment_size:
        header[1] = VNET_UDP
        if packet.header_state & CHECKSUM_TCP_PARTIAL:
            header[1] = VNET_TCP4 if packet.data[packet.network_offset] >> 4 == 4 else VNET_TCP6
        store16(header + 2, packet.header_length)
        store16(header + 4, packet.segment_size)


# Segments of one flow that are being joined into a super-frame.
cdef struct Join:
    Packet *packet
    Packet *last                   # its last segment of bytes
    uint32_t header_length
    uint32_t payload               # of each part but the last
    uint32_t total_length
    uint32_t parts
    bint closed                    # the last part was short, or ends what TCP pushes


cdef inline uint32_t join_header_length(Packet *packet) noexcept nogil:
    """The headers' length of a frame that may be joined with others, else 0."""
    cdef uint32_t length
    if not packet.header_state & CHECKSUM_PARTIAL or packet.segment_size:
        return 0
    length = packet.transport_offset + UDP_HEADER
    if packet.header_state & CHECKSUM_TCP_PARTIAL:
        if packet.length < packet.transport_offset + TCP_HEADER:
            return 0
        length = packet.transport_offset + (packet.data[packet.transport_offset + TCP_DATA_OFFSET] >> 4) * 4
        if packet.data[packet.transport_offset + TCP_FLAGS] & ~(TCP_PSH | TCP_FIN | TCP_ACK) & 0xFF:
            return 0  # only plain data is joined: no SYN, RST, URG or congestion flags
    if packet.length < length or packet.total_length <= length:
        return 0
    return length


cdef inline void join_begin(Join *join, Packet *packet, bint takes_udp) noexcept nogil:
    join.packet = packet
    join.last = NULL               # until there is a second part
    join.header_length = join_header_length(packet)
    join.payload = packet.total_length - join.header_length
    join.total_length = packet.total_length
    join.parts = 1
    join.closed = join.header_length == 0 or (packet.header_state & CHECKSUM_UDP_PARTIAL and not takes_udp)
    if not join.closed and packet.header_state & CHECKSUM_TCP_PARTIAL:
        join.closed = (packet.data[packet.transport_offset + TCP_FLAGS] & (TCP_PSH | TCP_FIN)) != 0


cdef inline bint join_fits(Join *join, Packet *packet) noexcept nogil:
    """Whether a frame is the very next segment of what is being joined."""
    cdef uint8_t *a = join.packet.data
    cdef uint8_t *b = packet.data
    cdef uint32_t network = join.packet.network_offset
    cdef uint32_t transport = join.packet.transport_offset
    cdef uint32_t payload
    if (
        join.closed or (packet.header_state ^ join.packet.header_state) & CHECKSUM_PARTIAL
        or packet.network_offset != network
        or packet.transport_offset != transport or join_header_length(packet) != join.header_length
        or join.parts == JOINED_SEGMENTS
    ):
        return False
    payload = packet.total_length - join.header_length
    if (
        payload > join.payload or join.total_length + payload - network > IP4_LONGEST
        or memcmp(a, b, network) != 0
    ):
        return False
    if a[network] >> 4 == 4:
        # All but length, identification (one more each) and checksum.
        if (
            load16(a + network) != load16(b + network) or memcmp(a + network + 6, b + network + 6, 4) != 0
            or memcmp(a + network + 12, b + network + 12, transport - network - 12) != 0
            or get16(b + network + 4) != <uint16_t>(get16(a + network + 4) + join.parts)
        ):
            return False
    elif (
        memcmp(a + network, b + network, 4) != 0
        or memcmp(a + network + 6, b + network + 6, transport - network - 6) != 0
    ):
        return False
    a += transport
    b += transport
    if packet.header_state & CHECKSUM_UDP_PARTIAL:
        return memcmp(a, b, 4) == 0
    return (
        memcmp(a, b, 4) == 0 and (a[TCP_FLAGS] ^ b[TCP_FLAGS]) & ~(TCP_PSH | TCP_FIN) & 0xFF == 0
        and get32(b + 4) == <uint32_t>(get32(a + 4) + join.total_length - join.header_length)
        and memcmp(a + 8, b + 8, TCP_FLAGS - 8) == 0
        and memcmp(a + 14, b + 14, 2) == 0
        and memcmp(a + 18, b + 18, join.header_length - transport - 18) == 0
    )


cdef inline bint join_append(Pool *pool, Join *join, Packet *packet) noexcept nogil:
    """Put a frame that fits behind the others; its claim goes with it.

    False: no memory, the frame stays the caller's.
    """
    cdef Packet *last
    cdef Packet *rest
    cdef uint32_t payload = packet.total_length - join.header_length
    cdef uint8_t flags = 0
    if join.parts == 1:
        # A private header can be changed; nothing is copied where packet_segment() has made one.
        join.packet = packet_own_header(pool, join.packet, join.header_length)
        if join.packet is NULL:
            return False
        last = join.packet
        while last.next is not NULL:
            last = last.next
        join.last = last
    if packet.header_state & CHECKSUM_TCP_PARTIAL:
        flags = packet.data[packet.transport_offset + TCP_FLAGS] & (TCP_PSH | TCP_FIN)
        join.packet.data[join.packet.transport_offset + TCP_FLAGS] |= flags
    join.closed = payload < join.payload or flags != 0
    if packet.length == join.header_length:  # only the header is in the first piece: it has done its work
        rest = packet.next
        segment_release(pool, packet)
    else:
        packet.data += join.header_length
        packet.length -= join.header_length
        rest = packet
    join.last.next = rest
    while rest.next is not NULL:
        rest = rest.next
    join.last = rest
    join.total_length += payload
    join.parts += 1
    return True


cdef inline void join_finish(Join *join) noexcept nogil:
    """Give what was joined its lengths."""
    if join.parts == 1:
        return
    join.packet.total_length = join.total_length
    join.packet.segment_size = <uint16_t>join.payload
    join.packet.header_length = <uint16_t>join.header_length
    write_lengths(join.packet, join.total_length)
