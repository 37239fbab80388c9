# Packets: the pool they come from, references to them, and views of them.
#
# A packet is written once, where it enters the engine. After that it is passed on by pointer. Whoever holds it
# may hand it on or call packet_release() once. packet_slice() makes further holders of the same bytes: indirect
# segments with metadata of their own. Before changing bytes that others may see, packet_own_header() gives a
# private copy of just those.
#
# The pool grows by slabs with what is in flight and gives empty slabs back. Strides are odd numbers of cache
# lines, so that headers do not crowd into the same cache sets. In the debug build every packet is an allocation of
# its exact size instead, so that the address sanitizer sees each overrun.

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from .layout cimport PACKET_HEADROOM, PACKET_METADATA, SIZE_CLASSES, Packet, PacketList, Pool, Slab
from .platform cimport (
    DEBUG_BUILD, debug_assert, is_likely, is_unlikely, load16, load32, must_resize, prefetch, release_table, reserve_table, with_room,
)

cdef enum:
    ROOM_SMALL = 256
    ROOM_MTU = 1664
    ROOM_LARGE = 65664
    SLAB_BYTES = 1 << 18
    VIEWS_IN_SLAB = 512
    SPARE_SLABS = 16               # empty slabs of a class that are kept at hand, and half as many as there are in use


cdef inline uint32_t class_of(uint32_t room) noexcept nogil:
    if room <= ROOM_SMALL:
        return room != 0
    return 2 if room <= ROOM_MTU else 3


cdef inline uint32_t class_stride(uint32_t size_class) noexcept nogil:
    if size_class == 0:  # a view's bytes lie elsewhere
        return PACKET_METADATA
    if size_class == 1:
        return PACKET_METADATA + PACKET_HEADROOM + ROOM_SMALL
    return PACKET_METADATA + PACKET_HEADROOM + (ROOM_MTU if size_class == 2 else ROOM_LARGE)


cdef inline uint32_t class_packets(uint32_t size_class) noexcept nogil:
    cdef uint32_t packets = SLAB_BYTES // class_stride(size_class)
    if size_class == 0:
        return VIEWS_IN_SLAB
    return packets if packets >= 8 else 8


cdef inline void slab_push(Pool *pool, uint32_t *first, uint32_t index) noexcept nogil:
    """Put a slab into a list: of its class's slabs with free packets (pool.usable), or of those with nothing else (pool.empty)."""
    cdef Slab *slab = &pool.slabs[index]
    slab.next_usable = first[0]
    slab.previous_usable = 0
    slab.listed = 1
    if first[0]:
        pool.slabs[first[0] - 1].previous_usable = index + 1
    first[0] = index + 1


cdef inline void slab_remove(Pool *pool, uint32_t *first, uint32_t index) noexcept nogil:
    cdef Slab *slab = &pool.slabs[index]
    if slab.next_usable:
        pool.slabs[slab.next_usable - 1].previous_usable = slab.previous_usable
    if slab.previous_usable:
        pool.slabs[slab.previous_usable - 1].next_usable = slab.next_usable
    else:
        first[0] = slab.next_usable
    slab.listed = 0


cdef inline void slab_give_back(Pool *pool, uint32_t index) noexcept nogil:
    cdef Slab *slab = &pool.slabs[index]
    cdef uint32_t size_class = slab.size_class
    cdef uint64_t bytes = <uint64_t>slab.packets * class_stride(size_class)
    slab_remove(pool, &pool.empty[size_class], index)
    release_table(slab.memory, bytes)
    slab.memory = NULL
    slab.next_usable = pool.unused_slab
    pool.unused_slab = index + 1
    pool.bytes -= bytes
    pool.slabs_in_class[size_class] -= 1
    pool.empty_slabs[size_class] -= 1


cdef inline bint pool_grow(Pool *pool, uint32_t size_class) noexcept nogil:
    cdef uint32_t packets = class_packets(size_class)
    cdef uint32_t stride = class_stride(size_class)
    cdef uint64_t bytes = <uint64_t>packets * stride
    cdef uint32_t index, i
    cdef Slab *slab
    cdef Packet *packet
    cdef void *memory
    for i in range(SIZE_CLASSES):  # what other classes keep at hand must not starve this one
        while pool.bytes + bytes > pool.limit_bytes and pool.empty[i]:
            slab_give_back(pool, pool.empty[i] - 1)
    if pool.bytes + bytes > pool.limit_bytes:
        return False
    memory = reserve_table(bytes)
    if memory is NULL:
        return False
    if pool.unused_slab:
        index = pool.unused_slab - 1
        pool.unused_slab = pool.slabs[index].next_usable
    else:
        if pool.slab_count == pool.slab_capacity:
            pool.slab_capacity = pool.slab_capacity * 2 if pool.slab_capacity else 16
            pool.slabs = <Slab *>must_resize(pool.slabs, pool.slab_capacity * sizeof(Slab))
        index = pool.slab_count
        pool.slab_count += 1
    slab = &pool.slabs[index]
    memset(slab, 0, sizeof(Slab))
    slab.memory = <uint8_t *>memory
    slab.size_class = <uint8_t>size_class
    slab.packets = <unsigned short>packets
    slab.free_count = packets
    for i in range(packets):
        packet = <Packet *>(slab.memory + <uint64_t>(packets - 1 - i) * stride)
        packet.slab = index
        packet.next = slab.free
        slab.free = packet
    pool.bytes += bytes
    pool.slabs_in_class[size_class] += 1
    slab_push(pool, &pool.usable[size_class], index)
    return True


cdef inline Packet *pool_take(Pool *pool, uint32_t room) noexcept nogil:
    """A packet of the class that has `room` bytes after the headroom (0: a view), or NULL at the pool's limit."""
    cdef Packet *packet
    cdef Slab *slab
    cdef uint32_t size_class, index
    if DEBUG_BUILD:
        room += PACKET_METADATA + (PACKET_HEADROOM if room else 0)
        if pool.bytes + room > pool.limit_bytes:
            return NULL
        packet = <Packet *>malloc(room)
        if packet is not NULL:
            packet.slab = room
            pool.bytes += room
        return packet
    size_class = class_of(room)
    if is_unlikely(pool.usable[size_class] == 0):
        if pool.empty[size_class]:
            pool.empty_slabs[size_class] -= 1
            index = pool.empty[size_class] - 1
            slab_remove(pool, &pool.empty[size_class], index)
            slab_push(pool, &pool.usable[size_class], index)
        elif not pool_grow(pool, size_class):
            return NULL
    slab = &pool.slabs[pool.usable[size_class] - 1]
    packet = slab.free
    slab.free = packet.next
    prefetch(slab.free)
    slab.free_count -= 1
    if slab.free_count == 0:
        slab_remove(pool, &pool.usable[size_class], pool.usable[size_class] - 1)
    return packet


cdef inline void pool_return(Pool *pool, Packet *packet) noexcept nogil:
    cdef Slab *slab
    cdef uint32_t size_class, index
    pool.in_use -= 1
    if DEBUG_BUILD:
        pool.bytes -= packet.slab
        free(packet)
        return
    index = packet.slab
    slab = &pool.slabs[index]
    size_class = slab.size_class
    packet.next = slab.free
    slab.free = packet
    slab.free_count += 1
    if not slab.listed:
        slab_push(pool, &pool.usable[size_class], index)
    if slab.free_count == slab.packets:
        slab_remove(pool, &pool.usable[size_class], index)
        slab_push(pool, &pool.empty[size_class], index)
        pool.empty_slabs[size_class] += 1
        # Hysteresis: a queue that fills and drains must not map and unmap memory each time.
        while pool.empty_slabs[size_class] > (
            SPARE_SLABS + (pool.slabs_in_class[size_class] - pool.empty_slabs[size_class]) // 2
        ):
            slab_give_back(pool, pool.empty[size_class] - 1)


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
    target.input_port = source.input_port
    target.segment_size = source.segment_size
    target.header_length = source.header_length
    target.header_state = source.header_state
    target.network_offset = source.network_offset
    target.transport_offset = source.transport_offset


cdef inline Packet *packet_slice(Pool *pool, Packet *packet, uint32_t offset, uint32_t length) noexcept nogil:
    """A further holder of `length` bytes of a packet from `offset`: a chain of indirect segments, no byte copied."""
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


cdef inline void packet_copy_bytes(Packet *packet, uint32_t offset, uint8_t *target, uint32_t length) noexcept nogil:
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
    """The packet with its first `length` bytes in one piece that nobody else sees; what had to be copied is counted.

    Returns the packet itself where that holds already. Otherwise the caller's claim moves to the packet that is returned, or
    is given up where NULL is returned (pool at its limit). The packet must have that many bytes.
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
    list.packets = <Packet **>with_room(list.packets, list.count, &list.capacity, 16)
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


cdef inline uint32_t ones_complement_sum(const uint8_t *data, uint32_t length) noexcept nogil:
    """Of big-endian 16-bit words (RFC 1071); an odd last byte counts as a high byte. 0 where all are zero, else 1 to 0xFFFF.

    They are read in the machine's (little-endian) order, two at a time: the sum of swapped words is the swapped sum (section 2 (B), (C)).
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


cdef inline uint32_t packet_checksum(Packet *packet, uint32_t offset, uint32_t length, uint32_t total) noexcept nogil:
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


cdef inline void pool_close(Pool *pool) noexcept nogil:
    cdef uint32_t i
    for i in range(pool.slab_count):
        if pool.slabs[i].memory is not NULL:
            release_table(pool.slabs[i].memory, <uint64_t>pool.slabs[i].packets * class_stride(pool.slabs[i].size_class))
    free(pool.slabs)
    pool.slabs = NULL
    pool.slab_count = 0
