# The pool that packets come from: slabs of buffers of four sizes.
#
# The pool grows by slabs with what is in flight and gives empty slabs back. Strides are odd numbers of cache
# lines, so that headers do not crowd into the same cache sets. In the debug build every packet is an
# allocation of its exact size instead, so that the address sanitizer sees each overrun.

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ..machine.platform cimport (
    DEBUG_BUILD, is_unlikely, load32, prefetch, release_table, reserve_table, store32, with_room,
)
from ..state.packets cimport PACKET_HEADROOM, PACKET_METADATA, Packet, Pool, SIZE_CLASSES, Slab

cdef enum:
    ROOM_SMALL = 256
    ROOM_MTU = 1664
    ROOM_LARGE = 65664
    SLAB_BYTES = 1 << 18
    VIEWS_IN_SLAB = 512
    SLAB_LIMIT = 1 << 16           # that a packet can name
    DEBUG_PREFIX = 16              # bytes before a packet of the debug build; its size is there
    # empty slabs of a class that are kept at hand, and half as many as there are in use
    SPARE_SLABS = 16


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
    """Put a slab into a list: of its class's slabs with free packets (pool.usable), or of those with
    nothing else (pool.empty).
    """
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
        if pool.slab_count == SLAB_LIMIT:
            release_table(memory, bytes)
            return False
        pool.slabs = <Slab *>with_room(pool.slabs, pool.slab_count, &pool.slab_capacity, 16, sizeof(Slab))
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
        packet.slab = <uint16_t>index
        packet.next = slab.free
        slab.free = packet
    pool.bytes += bytes
    pool.slabs_in_class[size_class] += 1
    slab_push(pool, &pool.usable[size_class], index)
    return True


cdef inline Packet *pool_take(Pool *pool, uint32_t room) noexcept nogil:
    """A packet of the class that has `room` bytes after the headroom (0: a view), or NULL at the pool's
    limit.
    """
    cdef Packet *packet
    cdef Slab *slab
    cdef uint32_t size_class, index
    if DEBUG_BUILD:
        room += PACKET_METADATA + (PACKET_HEADROOM if room else 0)
        if pool.bytes + room > pool.limit_bytes:
            return NULL
        packet = <Packet *>malloc(room + DEBUG_PREFIX)
        if packet is NULL:
            return NULL
        store32(packet, room)
        pool.bytes += room
        return <Packet *>(<uint8_t *>packet + DEBUG_PREFIX)
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
        pool.bytes -= load32(<uint8_t *>packet - DEBUG_PREFIX)
        free(<uint8_t *>packet - DEBUG_PREFIX)
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


cdef inline void pool_close(Pool *pool) noexcept nogil:
    cdef uint32_t i
    for i in range(pool.slab_count):
        if pool.slabs[i].memory is not NULL:
            release_table(
                pool.slabs[i].memory, <uint64_t>pool.slabs[i].packets * class_stride(pool.slabs[i].size_class)
            )
    free(pool.slabs)
    pool.slabs = NULL
    pool.slab_count = 0
