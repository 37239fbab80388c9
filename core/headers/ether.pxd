# Ethernet II (IEEE 802.3) with up to two VLAN tags (IEEE 802.1Q, 802.1ad): the fields of a frame's header.

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from ..machine.platform cimport get16, load16, load32, load64, put16, store16, store32

cdef enum:
    ETHER_HEADER = 14              # bytes: destination, source, EtherType
    ETHER_TYPE_AT = 12             # the offset of the EtherType
    ETHER_TYPE_IP4 = 0x0800
    ETHER_TYPE_ARP = 0x0806
    ETHER_TYPE_IP6 = 0x86DD
    ETHER_TYPE_VLAN = 0x8100
    ETHER_TYPE_SERVICE_VLAN = 0x88A8  # the outer one of two tags
    ETHER_TYPE_IP4_RAW = 0x0008    # ETHER_TYPE_IP4 as a little-endian word of the frame
    VLAN_TAG = 4                   # bytes of one
    VLAN_TAGS = 2                  # that a frame has at most
    ETHER_LONGEST = 22             # a header with both
    MAC_GROUP_BIT = 0x01           # of the first byte on the wire, the lowest of our integer
    MAC_BROADCAST = 0xFFFFFFFFFFFFu


cdef inline uint64_t mac_load(const uint8_t *p) noexcept nogil:
    return load32(p) | <uint64_t>load16(p + 4) << 32


cdef inline uint64_t ether_destination(const uint8_t *frame) noexcept nogil:
    return load64(frame) & MAC_BROADCAST


cdef inline void mac_store(uint8_t *p, uint64_t mac) noexcept nogil:
    store32(p, <unsigned int>mac)
    store16(p + 4, <uint16_t>(mac >> 32))


cdef inline void ether_write(
    uint8_t *p, uint64_t destination, uint64_t source, uint16_t ether_type
) noexcept nogil:
    mac_store(p, destination)
    mac_store(p + 6, source)
    put16(p + ETHER_TYPE_AT, ether_type)


cdef inline uint32_t ether_payload(
    const uint8_t *frame, uint32_t length, uint32_t *ether_type
) noexcept nogil:
    """Where what the frame carries begins, behind its VLAN tags, and its EtherType.

    Of the frame, at least ETHER_HEADER bytes, the first `length` are looked at.
    """
    cdef uint32_t place = ETHER_TYPE_AT
    cdef uint32_t kind = get16(frame + place)
    while (
        (kind == ETHER_TYPE_VLAN or kind == ETHER_TYPE_SERVICE_VLAN)
        and place < ETHER_TYPE_AT + VLAN_TAGS * VLAN_TAG and length >= place + 2 + VLAN_TAG
    ):
        place += VLAN_TAG
        kind = get16(frame + place)
    ether_type[0] = kind
    return place + 2
