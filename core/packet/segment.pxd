# Super-frames: one packet that stands for many wire segments (TCP or UDP, over IPv4 or IPv6).
#
# A super-frame has a `segment_size` (bytes of payload in each segment but the last) and `header_length` bytes
# of headers that each segment repeats. Its checksum is partial: the field holds the sum over the pseudo
# header, and whoever needs the wire's bytes finishes it. On links that neither shape by packet nor lose any
# it travels whole, and so it does on some that lead to a device (whole.pxd); elsewhere packet_segment() cuts
# it, lazily, into new headers before views of the payload. Counters count wire segments either way.

from libc.stdint cimport uint16_t, uint32_t, uint8_t

from ..headers.checksum cimport ones_complement_sum
from ..headers.ip6 cimport IP6_HEADER
from ..headers.tcp cimport TCP_CHECKSUM, TCP_CWR, TCP_FIN, TCP_FLAGS, TCP_PSH
from ..headers.udp cimport UDP_CHECKSUM
from ..machine.platform cimport get16, get32, is_likely, put16, put32
from ..state.packets cimport CHECKSUM_PARTIAL, CHECKSUM_TCP_PARTIAL, CHECKSUM_UDP_PARTIAL, Packet, Pool
from .packet cimport (
    metadata_copy, packet_checksum, packet_copy_bytes, packet_new, packet_own_header, packet_release,
    packet_slice,
)


cdef inline uint32_t wire_segments(Packet *packet) noexcept nogil:
    """Frames that the packet is on the wire."""
    if is_likely(packet.segment_size == 0):
        return 1
    return (packet.total_length - packet.header_length + packet.segment_size - 1) // packet.segment_size


cdef inline uint32_t wire_bytes(Packet *packet) noexcept nogil:
    """Bytes of all of those frames."""
    if is_likely(packet.segment_size == 0):
        return packet.total_length
    return packet.total_length + (wire_segments(packet) - 1) * packet.header_length


cdef inline uint32_t wire_frame_bytes(Packet *packet) noexcept nogil:
    """Bytes of the longest of those frames."""
    if is_likely(packet.segment_size == 0):
        return packet.total_length
    return packet.header_length + packet.segment_size


cdef inline uint32_t segment_bytes(Packet *packet, uint32_t number) noexcept nogil:
    """Bytes of the frame that segment `number` of a super-frame is."""
    cdef uint32_t left = packet.total_length - packet.header_length - number * packet.segment_size
    return packet.header_length + (left if left < packet.segment_size else packet.segment_size)


cdef inline uint32_t checksum_offset(Packet *packet) noexcept nogil:
    """Where a partial checksum stands in the frame."""
    return (
        packet.transport_offset
        + (TCP_CHECKSUM if packet.header_state & CHECKSUM_TCP_PARTIAL else UDP_CHECKSUM)
    )


cdef inline void write_lengths(Packet *packet, uint32_t total_length) noexcept nogil:
    """Give a frame's headers, which are in one piece, the lengths and the partial checksum of `total_length`
    bytes.

    The pseudo header's sum changes by the length alone: its destination need not be the IP header's (RFC
    8200, section 8.1).
    """
    cdef uint8_t *ip = packet.data + packet.network_offset
    cdef uint8_t *field = packet.data + checksum_offset(packet)
    cdef uint32_t length = total_length - packet.network_offset
    cdef uint32_t old_length, total
    if ip[0] >> 4 == 4:
        old_length = get16(ip + 2)
        put16(ip + 2, <uint16_t>length)
        put16(ip + 10, 0)
        put16(ip + 10, <uint16_t>~ones_complement_sum(ip, (ip[0] & 15) * 4))
    else:
        old_length = get16(ip + 4) + <uint32_t>IP6_HEADER
        put16(ip + 4, <uint16_t>(length - IP6_HEADER))
    if packet.header_state & CHECKSUM_UDP_PARTIAL:
        put16(packet.data + packet.transport_offset + 4, <uint16_t>(total_length - packet.transport_offset))
    # One's complement: the sum less the old length, plus the new one; both count the network header, which
    # cancels out.
    total = get16(field) + (~old_length & 0xFFFF) + length
    total = (total & 0xFFFF) + (total >> 16)
    put16(field, <uint16_t>((total & 0xFFFF) + (total >> 16)))


cdef inline Packet *packet_segment(
    Pool *pool, Packet *packet, uint32_t number, uint32_t segments
) noexcept nogil:
    """Wire segment `number` of a super-frame, its payload by reference; NULL at the pool's limit.

    The frame stays the caller's.
    """
    cdef uint32_t offset = packet.header_length + number * packet.segment_size
    cdef uint32_t length = packet.total_length - offset
    cdef Packet *segment = packet_new(pool, packet.header_length)
    cdef uint8_t *ip
    cdef uint8_t *tcp
    if segment is NULL:
        return NULL
    if length > packet.segment_size:
        length = packet.segment_size
    segment.next = packet_slice(pool, packet, offset, length)
    if segment.next is NULL:
        packet_release(pool, segment)
        return NULL
    packet_copy_bytes(packet, 0, segment.data, packet.header_length)
    pool.copied_bytes += packet.header_length
    segment.length = packet.header_length
    segment.total_length = packet.header_length + length
    metadata_copy(segment, packet)
    segment.packet_id += number
    segment.segment_size = segment.header_length = 0  # it stands for itself alone
    ip = segment.data + segment.network_offset
    if ip[0] >> 4 == 4:
        put16(ip + 4, <uint16_t>(get16(ip + 4) + number))
    if segment.header_state & CHECKSUM_TCP_PARTIAL:
        tcp = segment.data + segment.transport_offset
        put32(tcp + 4, get32(tcp + 4) + number * packet.segment_size)
        if number + 1 < segments:
            tcp[TCP_FLAGS] &= ~(TCP_FIN | TCP_PSH) & 0xFF
        if number:
            tcp[TCP_FLAGS] &= ~TCP_CWR & 0xFF
    write_lengths(segment, segment.total_length)
    return segment


cdef inline uint16_t finished_checksum(Packet *packet) noexcept nogil:
    """What the wire would carry in place of a partial checksum."""
    cdef uint32_t length = packet.total_length - packet.transport_offset
    cdef uint16_t checksum = <uint16_t>~packet_checksum(packet, packet.transport_offset, length, 0)
    if checksum == 0 and packet.header_state & CHECKSUM_UDP_PARTIAL:
        return 0xFFFF  # RFC 768: zero on the wire means that there is none
    return checksum


cdef inline Packet *packet_finish_checksum(Pool *pool, Packet *packet) noexcept nogil:
    """The frame with the checksum that the wire would carry; NULL at the pool's limit, the caller's claim
    being given up.
    """
    cdef uint32_t place
    if not packet.header_state & CHECKSUM_PARTIAL:
        return packet
    place = checksum_offset(packet)
    packet = packet_own_header(pool, packet, place + 2)
    if packet is NULL:
        return NULL
    put16(packet.data + place, finished_checksum(packet))
    packet.header_state &= ~CHECKSUM_PARTIAL & 0xFF
    return packet
