# IPv4 (RFC 791): the fields of its header, its options, its checksum.

from libc.stdint cimport uint16_t, uint32_t, uint8_t

from ..machine.platform cimport load32, put16, store32
from .checksum cimport ones_complement_sum

cdef enum:
    IP4_HEADER = 20                # bytes, without options
    IP4_LONGEST_HEADER = 60
    IP4_LONGEST = 65535            # bytes of a packet
    IP4_DONT_FRAGMENT = 0x4000     # of the word at 6: flags, and the fragment's offset in units of 8 bytes
    IP4_MORE_FRAGMENTS = 0x2000
    IP4_OFFSET_MASK = 0x1FFF
    IP4_FRAGMENT = 0x3FFF          # more fragments, or an offset
    IP4_DEFAULT_TTL = 64
    IP4_BROADCAST = 0xFFFFFFFFu
    IP4_OPTION_END = 0
    IP4_OPTION_NOP = 1
    IP4_OPTION_LOOSE_ROUTE = 131
    IP4_OPTION_STRICT_ROUTE = 137
    IP4_OPTION_COPY = 0x80         # of an option that each fragment has


cdef inline void ip4_write_checksum(uint8_t *ip, uint32_t header_length) noexcept nogil:
    put16(ip + 10, 0)
    put16(ip + 10, <uint16_t>~ones_complement_sum(ip, header_length))


cdef inline void ip4_decrement_ttl(uint8_t *ip) noexcept nogil:
    """TTL - 1, and the checksum with it: RFC 1624, eqn. 3.

    HC' = ~(~HC + ~m + m'), where m' = m - 0x0100, so HC' = HC + 0x0100. The four bytes from TTL on are read
    in the machine's (little-endian) order: the low one is TTL, the high two are the checksum, + 0x0001 there,
    and once more where that comes to 0xFFFF or carries.
    """
    cdef uint32_t old = load32(ip + 8)
    store32(ip + 8, old + 0xFFFF + (<uint32_t>(old >= 0xFFFE0000u) << 16))


cdef inline bint ip4_has_source_route(uint8_t *ip, uint32_t header_length) noexcept nogil:
    cdef uint32_t i = IP4_HEADER
    while i < header_length and ip[i] != IP4_OPTION_END:
        if ip[i] == IP4_OPTION_LOOSE_ROUTE or ip[i] == IP4_OPTION_STRICT_ROUTE:
            return True
        if ip[i] == IP4_OPTION_NOP:
            i += 1
        elif i + 1 < header_length and ip[i + 1] >= 2:
            i += ip[i + 1]
        else:
            return False
    return False
