# What every discipline is made of: queues of packets in one store of places, and the drops that are counted.
#
# A packet that waits has the time at which it was queued in `time_ns`. Places are linked both ways, so that
# packets leave at either end. Memory comes with the first packets and grows with what waits.

from libc.stdint cimport uint32_t

from ...machine.platform cimport with_room
from ...observe.capture cimport capture_link_drop
from ...packet.packet cimport packet_release
from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.reasons cimport LINK_EARLY_DROP, LINK_QUEUE_FULL
from ...state.shapers cimport ActiveList, FlowQueue, QueuedPacket, Shaper


cdef inline uint32_t place_take(Shaper *shaper) noexcept nogil:
    """An unused place: index + 1."""
    cdef uint32_t capacity = shaper.place_capacity
    cdef uint32_t i
    if shaper.free_place == 0:
        shaper.places = <QueuedPacket *>with_room(
            shaper.places, capacity, &shaper.place_capacity, 16, sizeof(QueuedPacket)
        )
        for i in range(capacity, shaper.place_capacity):
            shaper.places[i].next = i + 2 if i + 1 < shaper.place_capacity else 0
        shaper.free_place = capacity + 1
    i = shaper.free_place
    shaper.free_place = shaper.places[i - 1].next
    return i


cdef inline void queue_push(Shaper *shaper, FlowQueue *queue, Packet *packet) noexcept nogil:
    """Put a packet at the end of a queue. Its time_ns has been set to the time at which it was queued."""
    cdef uint32_t place = place_take(shaper)
    shaper.places[place - 1].packet = packet
    shaper.places[place - 1].next = 0
    shaper.places[place - 1].previous = queue.last
    if queue.last:
        shaper.places[queue.last - 1].next = place
    else:
        queue.first = place
    queue.last = place
    queue.packets += 1
    queue.bytes += packet.total_length
    shaper.packets += 1
    shaper.bytes += packet.total_length


cdef inline Packet *queue_head(Shaper *shaper, FlowQueue *queue) noexcept nogil:
    """The oldest packet, left where it is; NULL where there is none."""
    return shaper.places[queue.first - 1].packet if queue.first else NULL


cdef inline Packet *queue_remove(Shaper *shaper, FlowQueue *queue, uint32_t place) noexcept nogil:
    cdef QueuedPacket *entry = &shaper.places[place - 1]
    cdef Packet *packet = entry.packet
    if entry.previous:
        shaper.places[entry.previous - 1].next = entry.next
    else:
        queue.first = entry.next
    if entry.next:
        shaper.places[entry.next - 1].previous = entry.previous
    else:
        queue.last = entry.previous
    entry.next = shaper.free_place
    shaper.free_place = place
    queue.packets -= 1
    queue.bytes -= packet.total_length
    shaper.packets -= 1
    shaper.bytes -= packet.total_length
    return packet


cdef inline Packet *queue_pop(Shaper *shaper, FlowQueue *queue) noexcept nogil:
    """Take the oldest packet; NULL where there is none."""
    return queue_remove(shaper, queue, queue.first) if queue.first else NULL


cdef inline Packet *queue_pop_last(Shaper *shaper, FlowQueue *queue) noexcept nogil:
    """Take the youngest packet; NULL where there is none."""
    return queue_remove(shaper, queue, queue.last) if queue.last else NULL


cdef inline bint queue_is_full(Pipe *pipe, uint32_t length) noexcept nogil:
    """Whether one more packet of `length` bytes would be more than the pipe's limit."""
    return (
        pipe.shaper.packets >= pipe.queue_limit_packets or pipe.shaper.bytes + length > pipe.queue_limit_bytes
    )


cdef inline void queue_drop(Worker *worker, Pipe *pipe, Packet *packet) noexcept nogil:
    """Drop a packet for which there is no room."""
    pipe.queue_drop_packets += 1
    capture_link_drop(worker, pipe, packet, LINK_QUEUE_FULL, pipe.shaper.now_ns)
    packet_release(&worker.pool, packet)


cdef inline void queue_drop_early(Worker *worker, Pipe *pipe, Packet *packet) noexcept nogil:
    """Drop a packet by the discipline's judgement, with room left."""
    pipe.shaper.early_drop_packets += 1
    capture_link_drop(worker, pipe, packet, LINK_EARLY_DROP, pipe.shaper.now_ns)
    packet_release(&worker.pool, packet)


cdef inline FlowQueue *queue_longest(Shaper *shaper) noexcept nogil:
    """The queue with the most bytes, the first of those with equally many."""
    cdef FlowQueue *longest = shaper.queues
    cdef uint32_t i
    for i in range(1, shaper.queue_count):
        if shaper.queues[i].bytes > longest.bytes:
            longest = &shaper.queues[i]
    return longest


cdef inline bint queue_is_over(Pipe *pipe) noexcept nogil:
    """Whether more waits than the pipe's limit."""
    cdef Shaper *shaper = pipe.shaper
    return (
        shaper.packets
        and (shaper.packets > pipe.queue_limit_packets or shaper.bytes > pipe.queue_limit_bytes)
    )


cdef inline FlowQueue *queue_drop_longest(Worker *worker, Pipe *pipe) noexcept nogil:
    """Drop from the longest queue, which is returned: its oldest packet or its youngest, as the pipe is
    set.
    """
    cdef Shaper *shaper = pipe.shaper
    cdef FlowQueue *longest = queue_longest(shaper)
    if shaper.queue.drops_head:
        queue_drop(worker, pipe, queue_pop(shaper, longest))
    else:
        queue_drop(worker, pipe, queue_pop_last(shaper, longest))
    return longest


cdef inline void queue_make_room(Worker *worker, Pipe *pipe) noexcept nogil:
    """After a packet too many was queued."""
    while queue_is_over(pipe):
        queue_drop_longest(worker, pipe)


# Lists of the queues that take turns. A queue stands in one at most, and `list` says in which: 0 for none,
# else its number + 1. One that drops have emptied keeps its turn until it comes.
cdef inline void list_link(Shaper *shaper, ActiveList *active, FlowQueue *queue) noexcept nogil:
    """Put a queue at the end of a list."""
    cdef uint32_t index = <uint32_t>(queue - shaper.queues) + 1
    queue.next_active = 0
    if active.last:
        shaper.queues[active.last - 1].next_active = index
    else:
        active.first = index
    active.last = index


cdef inline FlowQueue *list_unlink(Shaper *shaper, ActiveList *active) noexcept nogil:
    """Take the first queue out of a list, which has one."""
    cdef FlowQueue *queue = &shaper.queues[active.first - 1]
    active.first = queue.next_active
    if active.first == 0:
        active.last = 0
    return queue


cdef inline void active_append(Shaper *shaper, uint32_t number, FlowQueue *queue) noexcept nogil:
    """Let a queue that stands in no list wait at the end of one."""
    queue.list = <unsigned char>(number + 1)
    list_link(shaper, &shaper.active[number], queue)


cdef inline FlowQueue *active_first(Shaper *shaper, uint32_t number) noexcept nogil:
    """The queue whose turn it is, left where it is; NULL where none waits."""
    return &shaper.queues[shaper.active[number].first - 1] if shaper.active[number].first else NULL


cdef inline FlowQueue *active_pop(Shaper *shaper, uint32_t number) noexcept nogil:
    """Take the queue whose turn it is out of its list; NULL where none waits."""
    cdef FlowQueue *queue
    if shaper.active[number].first == 0:
        return NULL
    queue = list_unlink(shaper, &shaper.active[number])
    queue.list = 0
    return queue
