# UDP out of a node (RFC 768): the checksum over datagram and pseudo header.

from libc.stdint cimport uint32_t, uint8_t

from ..headers.ether cimport ETHER_HEADER
from ..headers.ip cimport IP_PROTOCOL_UDP
from ..machine.platform cimport get16
from ..packet.packet cimport packet_checksum
from ..state.packets cimport Packet


cdef inline uint32_t udp_checksum(Packet *packet, uint32_t offset, uint32_t length) noexcept nogil:
    """The sum over a UDP datagram and its pseudo header (RFC 768); the IP header stands before it."""
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef uint32_t total = IP_PROTOCOL_UDP + length
    total += get16(ip + 12) + get16(ip + 14) + get16(ip + 16) + get16(ip + 18)
    return packet_checksum(packet, offset, length, total)
