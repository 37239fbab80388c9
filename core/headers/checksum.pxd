# The Internet checksum (RFC 1071).

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from ..machine.platform cimport load16, load32


cdef inline uint32_t ones_complement_sum(const uint8_t *data, uint32_t length) noexcept nogil:
    """Of big-endian 16-bit words; an odd last byte counts as a high byte.

    0 where all are zero, else 1 to 0xFFFF.

    They are read in the machine's (little-endian) order, two at a time: the sum of swapped words is the
    swapped sum (section 2 (B), (C)).
    """
    cdef uint64_t swapped = 0
    while length >= 4:
        swapped += load32(data)
        data += 4
        length -= 4
    if length >= 2:
        swapped += load16(data)
        data += 2
        length -= 2
    if length:
        swapped += data[0]
    while swapped >> 16:
        swapped = (swapped & 0xFFFF) + (swapped >> 16)
    return <uint32_t>((swapped & 0xFF) << 8 | swapped >> 8)
