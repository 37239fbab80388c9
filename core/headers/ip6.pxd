# IPv6 (RFC 8200): the fields of its header and of its extension headers.

from libc.stdint cimport uint32_t, uint8_t

from .ip cimport (
    IP_PROTOCOL_AUTHENTICATION, IP_PROTOCOL_DESTINATION, IP_PROTOCOL_FRAGMENT, IP_PROTOCOL_HOP_BY_HOP,
    IP_PROTOCOL_MOBILITY, IP_PROTOCOL_ROUTING,
)

cdef enum:
    IP6_HEADER = 40                # bytes
    IP6_FRAGMENT = 0xFFF9          # of the word at 2 of a fragment header: an offset, or more fragments
    IP6_EXTENSIONS = 8             # extension headers that are looked through


cdef inline uint32_t ip6_extension_bytes(uint32_t protocol, const uint8_t *header) noexcept nogil:
    """How long an extension header is (section 4; RFC 4302, section 2.2); 0: it is none, but the
    transport.
    """
    if protocol == IP_PROTOCOL_FRAGMENT:
        return 8
    if protocol == IP_PROTOCOL_AUTHENTICATION:  # in units of four bytes, less two
        return (header[1] + 2) * 4
    if (
        protocol == IP_PROTOCOL_HOP_BY_HOP or protocol == IP_PROTOCOL_ROUTING
        or protocol == IP_PROTOCOL_DESTINATION or protocol == IP_PROTOCOL_MOBILITY
    ):
        return (header[1] + 1) * 8
    return 0
