# Packets: making them, references to them, and views of them.
#
# A packet is written once, where it enters the engine. After that it is passed on by pointer. Whoever holds
# it may hand it on or call packet_release() once. packet_slice() makes further holders of the same bytes:
# indirect segments with metadata of their own. Before changing bytes that others may see, packet_own_header()
# gives a private copy of just those.

from libc.stdint cimport uint32_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from ..headers.checksum cimport ones_complement_sum
from ..machine.platform cimport debug_assert, is_likely, is_unlikely, with_room
from ..state.packets cimport PACKET_HEADROOM, PACKET_METADATA, Packet, PacketList, Pool
from .pool cimport ROOM_LARGE, pool_return, pool_take


cdef inline uint32_t packet_id_new(Pool *pool) noexcept nogil:
    pool.packet_ids += 1
    return pool.packet_ids


cdef inline Packet *packet_new(Pool *pool, uint32_t room) noexcept nogil:
    """An empty packet with 128 bytes of headroom and `room` bytes behind it, held once; NULL at the limit.

    Without room it is the metadata of a view, whose maker points it to its bytes.
    """
    cdef Packet *packet
    if room > ROOM_LARGE:
        pool.failed += 1
        return NULL
    packet = pool_take(pool, room)
    if is_unlikely(packet is NULL):
        pool.failed += 1
        return NULL
    pool.in_use += 1
    packet.data = <uint8_t *>packet + PACKET_METADATA + PACKET_HEADROOM
    packet.next = NULL
    packet.parent = NULL
    packet.length = 0
    packet.total_length = 0
    packet.references = 1
    packet.packet_id = packet_id_new(pool)
    packet.input_port = 0
    packet.network_offset = 0
    packet.transport_offset = 0
    packet.segment_size = 0
    packet.crossings = 0
    packet.turns = 0
    packet.header_state = 0
    packet.header_length = 0
    return packet


cdef inline uint32_t packet_headroom(Packet *packet) noexcept nogil:
    """Bytes before a packet's first one that are its own; not to be asked of a view."""
    return <uint32_t>(packet.data - <uint8_t *>packet) - PACKET_METADATA


cdef inline void segment_release(Pool *pool, Packet *segment) noexcept nogil:
    cdef Packet *parent
    debug_assert(segment.references > 0)
    segment.references -= 1
    if segment.references:
        return
    parent = segment.parent
    pool_return(pool, segment)
    if parent is not NULL:
        # A parent holds its bytes itself (packet_slice() sees to that), so this goes one level deep.
        debug_assert(parent.references > 0)
        parent.references -= 1
        if parent.references == 0:
            pool_return(pool, parent)


cdef inline void packet_release(Pool *pool, Packet *packet) noexcept nogil:
    """Give up one holder's claim to a packet with all its segments."""
    cdef Packet *following
    if is_likely(packet.next is NULL):
        segment_release(pool, packet)
        return
    while packet is not NULL:
        following = packet.next
        segment_release(pool, packet)
        packet = following


cdef inline void metadata_copy(Packet *target, Packet *source) noexcept nogil:
    """What is known of a packet beside its bytes and their lengths."""
    target.time_ns = source.time_ns
    target.packet_id = source.packet_id
    target.turns = source.turns
    target.crossings = source.crossings
    target.input_port = source.input_port
    target.segment_size = source.segment_size
    target.header_length = source.header_length
    target.header_state = source.header_state
    target.network_offset = source.network_offset
    target.transport_offset = source.transport_offset


cdef inline Packet *packet_slice(Pool *pool, Packet *packet, uint32_t offset, uint32_t length) noexcept nogil:
    """A further holder of `length` bytes of a packet from `offset`: a chain of indirect segments, no byte
    copied.
    """
    cdef Packet *first = NULL
    cdef Packet *last = NULL
    cdef Packet *view
    cdef Packet *owner
    cdef Packet *segment = packet
    cdef uint32_t left = length
    cdef uint32_t here
    debug_assert(offset + length <= packet.total_length)
    while segment is not NULL and offset >= segment.length and offset:
        offset -= segment.length
        segment = segment.next
    while left or first is NULL:
        view = packet_new(pool, 0)
        if view is NULL:
            if first is not NULL:
                packet_release(pool, first)
            return NULL
        if first is NULL:
            first = view
        else:
            last.next = view
        last = view
        if segment is not NULL:
            owner = segment.parent if segment.parent is not NULL else segment
            owner.references += 1
            view.parent = owner
            here = segment.length - offset
            if here > left:
                here = left
            view.data = segment.data + offset
            view.length = here
            left -= here
            offset = 0
            segment = segment.next
    first.total_length = length
    metadata_copy(first, packet)
    return first


cdef inline void packet_copy_bytes(
    Packet *packet, uint32_t offset, uint8_t *target, uint32_t length
) noexcept nogil:
    """Read `length` bytes from `offset` of a chain that has them."""
    cdef uint32_t here
    while length:
        while offset >= packet.length:
            offset -= packet.length
            packet = packet.next
        here = packet.length - offset
        if here > length:
            here = length
        memcpy(target, packet.data + offset, here)
        target += here
        length -= here
        offset += here


cdef inline Packet *packet_own_header(Pool *pool, Packet *packet, uint32_t length) noexcept nogil:
    """The packet with its first `length` bytes in one piece that nobody else sees; what had to be copied is
    counted.

    Returns the packet itself where that holds already. Otherwise the caller's claim moves to the packet that
    is returned, or is given up where NULL is returned (pool at its limit). The packet must have that many
    bytes.
    """
    cdef Packet *owner = packet.parent if packet.parent is not NULL else packet
    cdef Packet *head
    cdef Packet *rest = NULL
    debug_assert(length <= packet.total_length)
    if is_likely(owner.references == 1 and packet.references == 1 and packet.length >= length):
        return packet
    head = packet_new(pool, length)
    if head is NULL:
        packet_release(pool, packet)
        return NULL
    if packet.total_length > length:
        rest = packet_slice(pool, packet, length, packet.total_length - length)
        if rest is NULL:
            packet_release(pool, head)
            packet_release(pool, packet)
            return NULL
    packet_copy_bytes(packet, 0, head.data, length)
    pool.copied_bytes += length
    head.length = length
    head.total_length = packet.total_length
    head.next = rest
    metadata_copy(head, packet)
    packet_release(pool, packet)
    return head


cdef inline Packet *packet_contiguous(Pool *pool, Packet *packet, uint32_t length) noexcept nogil:
    """As packet_own_header(), for who only reads: the bytes are in one piece, and may be seen by others."""
    if is_likely(packet.length >= length):
        return packet
    return packet_own_header(pool, packet, length)


cdef inline void packet_trim(Pool *pool, Packet *packet, uint32_t total_length) noexcept nogil:
    """Cut a packet's end, so that `total_length` bytes are left."""
    cdef uint32_t left = total_length
    cdef Packet *segment = packet
    while segment.next is not NULL and left > segment.length:
        left -= segment.length
        segment = segment.next
    segment.length = left
    if segment.next is not NULL:
        packet_release(pool, segment.next)
        segment.next = NULL
    packet.total_length = total_length


cdef inline void list_append(PacketList *list, Packet *packet) noexcept nogil:
    list.packets = <Packet **>with_room(list.packets, list.count, &list.capacity, 16, sizeof(void *))
    list.packets[list.count] = packet
    list.count += 1


cdef inline void list_release(Pool *pool, PacketList *list) noexcept nogil:
    """Release every packet of a list, and the list's own memory."""
    cdef uint32_t i
    for i in range(list.count):
        packet_release(pool, list.packets[i])
    free(list.packets)
    list.packets = NULL
    list.count = list.capacity = 0


cdef inline uint32_t packet_checksum(
    Packet *packet, uint32_t offset, uint32_t length, uint32_t total
) noexcept nogil:
    """One's complement sum of `length` bytes of a chain from `offset`, added to `total`."""
    cdef uint32_t here
    cdef bint odd = False
    cdef uint32_t part
    while length:
        while offset >= packet.length:
            offset -= packet.length
            packet = packet.next
        here = packet.length - offset
        if here > length:
            here = length
        part = ones_complement_sum(packet.data + offset, here)
        if odd:  # RFC 1071, section 2 (B): a sum over swapped bytes is the swapped sum
            part = (part & 0xFF) << 8 | part >> 8
        total += part
        odd = odd != ((here & 1) == 1)
        length -= here
        offset += here
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
