# Queues in the order of their virtual times: a binary heap that knows each queue's place, so that one can
# leave from the middle.

from libc.stdint cimport uint32_t, uint64_t

from ...machine.platform cimport with_room
from ...state.shapers cimport FAIR_ELIGIBLE, FAIR_NONE, FlowHeap, FlowQueue, Shaper
from .fair_clock cimport virtual_before


cdef inline uint64_t heap_key(FlowHeap *heap, FlowQueue *queue) noexcept nogil:
    return queue.virtual_finish if heap.list == FAIR_ELIGIBLE else queue.virtual_start


cdef inline bint flow_before(Shaper *shaper, FlowHeap *heap, uint32_t a, uint32_t b) noexcept nogil:
    cdef uint64_t key_a = heap_key(heap, &shaper.queues[a])
    cdef uint64_t key_b = heap_key(heap, &shaper.queues[b])
    return virtual_before(key_a, key_b) or (key_a == key_b and a < b)


cdef inline void flow_heap_put(Shaper *shaper, FlowHeap *heap, uint32_t place, uint32_t index) noexcept nogil:
    heap.queues[place] = index
    shaper.queues[index].heap_place = place


cdef inline void flow_heap_settle(
    Shaper *shaper, FlowHeap *heap, uint32_t place, uint32_t index
) noexcept nogil:
    """Put a queue into the free place, or as far above or below it as it belongs."""
    cdef uint32_t other
    while place and flow_before(shaper, heap, index, heap.queues[(place - 1) >> 1]):
        flow_heap_put(shaper, heap, place, heap.queues[(place - 1) >> 1])
        place = (place - 1) >> 1
    while 2 * place + 1 < heap.count:
        other = 2 * place + 1
        if other + 1 < heap.count and flow_before(shaper, heap, heap.queues[other + 1], heap.queues[other]):
            other += 1
        if not flow_before(shaper, heap, heap.queues[other], index):
            break
        flow_heap_put(shaper, heap, place, heap.queues[other])
        place = other
    flow_heap_put(shaper, heap, place, index)


cdef inline void flow_heap_insert(Shaper *shaper, FlowHeap *heap, FlowQueue *queue) noexcept nogil:
    heap.queues = <uint32_t *>with_room(heap.queues, heap.count, &heap.capacity, 16, sizeof(uint32_t))
    queue.list = heap.list
    heap.count += 1
    flow_heap_settle(shaper, heap, heap.count - 1, <uint32_t>(queue - shaper.queues))


cdef inline FlowQueue *flow_heap_first(Shaper *shaper, FlowHeap *heap) noexcept nogil:
    """The queue that comes first, left where it is. There must be one."""
    return &shaper.queues[heap.queues[0]]


cdef inline void flow_heap_remove(Shaper *shaper, FlowHeap *heap, FlowQueue *queue) noexcept nogil:
    cdef uint32_t place = queue.heap_place
    queue.list = FAIR_NONE
    heap.count -= 1
    if place < heap.count:
        flow_heap_settle(shaper, heap, place, heap.queues[heap.count])
