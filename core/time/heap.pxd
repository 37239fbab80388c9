# Events in exact order: a 4-ary heap of (time, order), first by time, then by order. Entries of equal time
# and order are interchangeable. There is no way to remove an entry: whoever owns it tells stale ones from the
# live one when they come up, which costs less than tracking places.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..machine.platform cimport with_room
from ..state.records cimport Event, Heap


cdef inline bint event_before(Event *a, Event *b) noexcept nogil:
    return a.time_ns < b.time_ns or (a.time_ns == b.time_ns and a.order < b.order)


cdef inline void heap_rise(Heap *heap, uint32_t i, Event event) noexcept nogil:
    """Put an event into the free place i, or as far above it as it belongs."""
    cdef uint32_t above
    while i:
        above = (i - 1) >> 2
        if not event_before(&event, &heap.events[above]):
            break
        heap.events[i] = heap.events[above]
        i = above
    heap.events[i] = event


cdef inline void heap_push(Heap *heap, int64_t time_ns, uint64_t order) noexcept nogil:
    cdef uint32_t i = heap.count
    cdef Event event
    heap.events = <Event *>with_room(heap.events, heap.count, &heap.capacity, 4, sizeof(Event))
    event.time_ns = time_ns
    event.order = order
    heap.count += 1
    heap_rise(heap, i, event)


cdef inline void heap_replace_first(Heap *heap, int64_t time_ns, uint64_t order) noexcept nogil:
    """Put another event in the place of the first one."""
    cdef uint32_t i = 0
    cdef uint32_t child, last, best
    cdef Event event
    event.time_ns = time_ns
    event.order = order
    while True:
        child = 4 * i + 1
        if child >= heap.count:
            break
        last = child + 4 if child + 4 < heap.count else heap.count
        best = child
        child += 1
        while child < last:
            if event_before(&heap.events[child], &heap.events[best]):
                best = child
            child += 1
        if not event_before(&heap.events[best], &event):
            break
        heap.events[i] = heap.events[best]
        i = best
    heap.events[i] = event


cdef inline void heap_pop(Heap *heap) noexcept nogil:
    cdef Event last
    heap.count -= 1
    if heap.count:
        last = heap.events[heap.count]
        heap_replace_first(heap, last.time_ns, last.order)


cdef inline Event *heap_second(Heap *heap) noexcept nogil:
    """The event that would come first without the first one; NULL where there is none."""
    cdef uint32_t last = 5 if heap.count > 5 else heap.count
    cdef uint32_t best = 1
    cdef uint32_t i
    if heap.count < 2:
        return NULL
    for i in range(2, last):
        if event_before(&heap.events[i], &heap.events[best]):
            best = i
    return &heap.events[best]


cdef inline void heap_hasten(Heap *heap, int64_t time_ns, uint64_t order) noexcept nogil:
    """Let the entry of the source in `order`, which is there, come earlier than it stood.

    Looks through the heap.
    """
    cdef uint32_t i = 0
    cdef Event event
    while <uint32_t>heap.events[i].order != <uint32_t>order:
        i += 1
    event.time_ns = time_ns
    event.order = order
    heap_rise(heap, i, event)
