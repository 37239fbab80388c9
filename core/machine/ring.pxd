# What the data path tells Python: a ring of bytes with one writer, the worker, and one reader, in any thread.
#
# A record is its payload's length (4 bytes), its kind (4 bytes) and the payload, padded to a multiple of 8.
# It is written in parts and seen by the reader once it is published. Head and tail count bytes since the ring
# was opened and are taken modulo the capacity, a power of two; memory is used as it is written to.
#
# In real time a full ring loses the record and counts it: the reader may be slow, packets may not. In virtual
# time nothing is lost: once a ring is half full the run makes a pause for Python to read (Switch.drain), and
# what a single turn writes beyond the rest makes the ring grow, which it can because nobody reads meanwhile.

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from ..state.network cimport Worker
from ..state.records cimport Ring
from .platform cimport (
    atomic_load32, atomic_load64, atomic_store32, atomic_store64, full_fence, is_likely, is_unlikely,
    release_table, reserve_table, store32,
)

cdef enum:
    RECORD_HEADER = 8


cdef inline bint ring_open(Ring *ring, uint64_t capacity, bint grows) noexcept nogil:
    """Have memory for a ring that is to be written to; harmless where it has. False: there is none."""
    if ring.memory is not NULL:
        return True
    ring.memory = <uint8_t *>reserve_table(capacity)
    if ring.memory is NULL:
        return False
    ring.capacity = capacity
    ring.grows = grows
    return True


cdef inline void ring_close(Ring *ring) noexcept nogil:
    release_table(ring.memory, ring.capacity)
    ring.memory = NULL


cdef inline void ring_copy(Ring *ring, uint64_t from_byte, uint8_t *target, uint64_t length) noexcept nogil:
    """Read `length` bytes from a place that has them."""
    cdef uint64_t place = from_byte & (ring.capacity - 1)
    cdef uint64_t here = ring.capacity - place
    if here > length:
        here = length
    memcpy(target, ring.memory + place, here)
    memcpy(target + here, ring.memory, length - here)


cdef inline bint ring_grow(Ring *ring, uint64_t room) noexcept nogil:
    """Enlarge a ring that has no other reader than this thread, so that it has room for that many more
    bytes.
    """
    cdef uint64_t used = ring.writing - ring.head
    cdef uint64_t capacity = ring.capacity
    cdef uint64_t place, here
    cdef uint8_t *memory
    while capacity - used < room:
        capacity *= 2
    memory = <uint8_t *>reserve_table(capacity)
    if memory is NULL:
        return False
    place = ring.head & (capacity - 1)
    here = capacity - place if capacity - place < used else used
    ring_copy(ring, ring.head, memory + place, here)
    ring_copy(ring, ring.head + here, memory, used - here)
    release_table(ring.memory, ring.capacity)
    ring.memory = memory
    ring.capacity = capacity
    return True


cdef inline bint ring_begin(Ring *ring, uint32_t kind, uint32_t length) noexcept nogil:
    """Begin a record with a payload of `length` bytes, which must be less than 4 GiB.

    False: lost for want of room, and counted.
    """
    cdef uint64_t room = RECORD_HEADER + (<uint64_t>length + 7 & ~<uint64_t>7)
    cdef uint8_t *place
    if is_unlikely(ring.capacity - (ring.writing - atomic_load64(&ring.head)) < room):
        if not ring.grows or not ring_grow(ring, room):
            ring.lost_records += 1
            return False
    place = ring.memory + (ring.writing & (ring.capacity - 1))
    store32(place, length)
    store32(place + 4, kind)
    ring.writing += RECORD_HEADER
    return True


cdef inline void ring_write(Ring *ring, const void *part, uint32_t length) noexcept nogil:
    """Write a part of the payload that was announced."""
    cdef uint64_t place = ring.writing & (ring.capacity - 1)
    cdef uint64_t here = ring.capacity - place
    if is_likely(here >= length):
        memcpy(ring.memory + place, part, length)
    else:
        memcpy(ring.memory + place, part, here)
        memcpy(ring.memory, <const uint8_t *>part + here, length - here)
    ring.writing += length


cdef inline void ring_patch(Ring *ring, uint64_t place, uint8_t byte) noexcept nogil:
    """Change a byte of what has not been published."""
    ring.memory[place & (ring.capacity - 1)] = byte


cdef inline void ring_end(Ring *ring) noexcept nogil:
    """End a record, all of whose payload has been written."""
    while ring.writing & 7:
        ring.memory[ring.writing & (ring.capacity - 1)] = 0
        ring.writing += 1


cdef inline void ring_publish(Worker *worker, Ring *ring) noexcept nogil:
    """End the record that was begun, and let the reader see all that have been ended."""
    ring_end(ring)
    atomic_store64(&ring.tail, ring.writing)
    if ring.grows and ring.writing - ring.head > ring.capacity >> 1:
        worker.drain_due = 1


cdef inline uint64_t ring_readable(Ring *ring) noexcept nogil:
    """Bytes of whole records that can be read.

    Where there are none, the writer will wake the reader for the next.
    """
    cdef uint64_t bytes = atomic_load64(&ring.tail) - ring.head
    if bytes == 0:
        atomic_store32(&ring.reader_waits, 1)
        full_fence()  # the writer publishes, then looks at reader_waits; one of the two sees the other
        bytes = atomic_load64(&ring.tail) - ring.head
    return bytes


cdef inline bint ring_wakes(Ring *ring) noexcept nogil:
    """Whether the reader waits for what has been published: the writer has to wake it, once."""
    full_fence()
    if ring.tail == atomic_load64(&ring.head) or not atomic_load32(&ring.reader_waits):
        return False
    atomic_store32(&ring.reader_waits, 0)
    return True
