# qfq: quick fair queueing (Checconi, Rizzo, Valente, "QFQ: Efficient packet scheduling with tight
# guarantees", IEEE/ACM Transactions on Networking 21(3), 2013): what wfq does, nearly as evenly, with work
# that does not depend on the number of flows. Flows are put into groups by their weights, and in a group into
# slots of virtual time, so that whom to serve is told by a few bits. A flow that always waits gets its share
# of what is sent, less at most 3 slots of its group times its weight (3 to 6 of the longest packets) and 2
# times its share of the longest packet. A flow's weight is that of the packet that finds it to take no part:
# `weights` of the packet's IP precedence. Reads: flows, mask, weights; the pipe's limits, drops_head (a full
# queue drops from the flow with the most bytes waiting). Bytes are those of the frames, without the link's
# overhead.
#
# Virtual time, starts and finishes are those of wfq. A slot of group i is 2^i bytes for a weight of one; a
# flow is in the first group whose slot is no shorter than longest packet / weight. Its start is rounded down
# to the slot; a group starts with its first slot, and finishes two slots later. Served is, of the groups that
# V has reached, the one that finishes first, of equals the lowest, and in it the flow that stands first in
# the first slot. The longest packet is taken to be 1,514 bytes until a longer one comes: then all are put
# into their groups anew.
#
# A flow that has nothing left takes part until V has reached its last finish and it is looked at: before each
# packet, the two that have been idle longest are. One that drops have emptied keeps its place until its turn.
#
# The sets of groups are the paper's: a higher group that is ready and finishes before a lower one blocks it,
# so that of those that are ready the lowest finishes first. Virtual times wrap rightly, as in wfq: those in
# slots lie within a few slots (2^49) of V. An idle flow may fall back further while it is not looked at, by
# 2^15 packets of 2^47 at most: 2^62.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from ...machine.platform cimport debug_assert, highest_bit, lowest_bit, must_zero
from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport (
    ActiveList, FAIR_IDLE, FAIR_IN_SLOT, FAIR_NONE, FairClock, FlowQueue, QFQ_BLOCKED, QFQ_EARLY,
    QFQ_EARLY_BLOCKED, QFQ_GROUPS, QFQ_READY, QFQ_SETS, QFQ_SLOTS, QfqGroup, Shaper,
)
from .classify cimport flow_queue_of, packet_precedence
from .fair_clock cimport VIRTUAL_SHIFT, fair_begin, virtual_before, virtual_cost
from .flow_queue cimport list_link, list_unlink, queue_make_room, queue_pop, queue_push

cdef enum:
    USUAL_BYTES = 1514
    IDLE_LOOKS = 2


cdef inline void qfq_begin(Shaper *shaper) noexcept nogil:
    fair_begin(shaper)
    shaper.fair.groups = <QfqGroup *>must_zero(QFQ_GROUPS * sizeof(QfqGroup))
    shaper.fair.longest_bytes = USUAL_BYTES


cdef inline uint32_t qfq_group_of(FairClock *fair, uint32_t weight) noexcept nogil:
    cdef uint32_t ratio = (fair.longest_bytes - 1) // weight
    return highest_bit(ratio) + 1 if ratio else 0


cdef inline uint64_t slot_size(uint32_t group) noexcept nogil:
    return <uint64_t>1 << (VIRTUAL_SHIFT + group)


cdef inline uint64_t qfq_finish(FairClock *fair, uint32_t group) noexcept nogil:
    return fair.groups[group].start + 2 * slot_size(group)


# Lists of queues: those in one slot are linked by next_active, those that are idle by heap_place.
cdef inline void slot_append(Shaper *shaper, ActiveList *slot, FlowQueue *queue) noexcept nogil:
    queue.list |= FAIR_IN_SLOT
    list_link(shaper, slot, queue)


cdef inline FlowQueue *slot_pop(Shaper *shaper, QfqGroup *group) noexcept nogil:
    """Take the first queue of a group's first slot."""
    cdef ActiveList *slot = &group.slots[group.first]
    cdef FlowQueue *queue = list_unlink(shaper, slot)
    if slot.first == 0:
        group.taken &= ~<uint32_t>1
    queue.list &= ~FAIR_IN_SLOT
    return queue


cdef inline void idle_append(Shaper *shaper, FlowQueue *queue) noexcept nogil:
    cdef ActiveList *idle = &shaper.fair.idle
    cdef uint32_t index = <uint32_t>(queue - shaper.queues) + 1
    queue.list |= FAIR_IDLE
    queue.heap_place = 0
    if idle.last:
        shaper.queues[idle.last - 1].heap_place = index
    else:
        idle.first = index
    idle.last = index


cdef inline FlowQueue *idle_pop(Shaper *shaper) noexcept nogil:
    cdef ActiveList *idle = &shaper.fair.idle
    cdef FlowQueue *queue = &shaper.queues[idle.first - 1]
    idle.first = queue.heap_place
    if idle.first == 0:
        idle.last = 0
    queue.list &= ~FAIR_IDLE
    return queue


cdef inline void qfq_look_at_idle(Shaper *shaper) noexcept nogil:
    """Let those that have been idle long enough no longer take part."""
    cdef FairClock *fair = shaper.fair
    cdef FlowQueue *queue
    cdef uint32_t i
    for i in range(IDLE_LOOKS):
        if fair.idle.first == 0:
            break
        queue = idle_pop(shaper)
        if queue.list & FAIR_IN_SLOT:
            continue
        if virtual_before(fair.now, queue.virtual_start):
            idle_append(shaper, queue)
        else:
            fair.weights -= queue.weight


# Groups: where a queue stands in them, and which set they are in.
cdef inline void group_advance(QfqGroup *group, uint32_t number) noexcept nogil:
    """Let the first slot be one that is taken."""
    cdef uint32_t steps = lowest_bit(group.taken)
    group.taken >>= steps
    group.first = (group.first + steps) % QFQ_SLOTS
    group.start += steps * slot_size(number)


cdef inline bint group_insert(Shaper *shaper, FlowQueue *queue, uint32_t number) noexcept nogil:
    """Let a queue stand in its slot; whether its group's start has changed."""
    cdef QfqGroup *group = &shaper.fair.groups[number]
    cdef uint64_t start = queue.virtual_start & ~(slot_size(number) - 1)
    cdef bint changes = group.taken == 0 or virtual_before(start, group.start)
    cdef uint32_t steps = 0
    if group.taken == 0:
        group.start = start
    elif changes:
        steps = <uint32_t>((group.start - start) >> (VIRTUAL_SHIFT + number))
        debug_assert(steps < QFQ_SLOTS and group.taken >> (QFQ_SLOTS - steps) == 0)
        group.taken <<= steps
        group.first = (group.first - steps) % QFQ_SLOTS
        group.start = start
    steps = <uint32_t>((start - group.start) >> (VIRTUAL_SHIFT + number))
    debug_assert(steps < QFQ_SLOTS)
    group.taken |= <uint32_t>1 << steps
    slot_append(shaper, &group.slots[(group.first + steps) % QFQ_SLOTS], queue)
    return changes


cdef inline void group_leave_sets(FairClock *fair, uint32_t number) noexcept nogil:
    cdef uint32_t i
    for i in range(QFQ_SETS):
        fair.sets[i] &= ~(<uint32_t>1 << number)


cdef inline void group_enter_set(FairClock *fair, uint32_t number) noexcept nogil:
    """Let a group with queues, which is in no set, be in the one where it belongs."""
    cdef uint32_t higher = fair.sets[QFQ_READY] >> number
    cdef uint32_t belongs = QFQ_READY
    if virtual_before(fair.now, fair.groups[number].start):
        belongs = QFQ_EARLY
    if higher and virtual_before(qfq_finish(fair, number + lowest_bit(higher)), qfq_finish(fair, number)):
        belongs += QFQ_BLOCKED
    fair.sets[belongs] |= <uint32_t>1 << number


cdef inline void set_move(FairClock *fair, uint32_t source, uint32_t target, uint32_t groups) noexcept nogil:
    fair.sets[target] |= fair.sets[source] & groups
    fair.sets[source] &= ~groups


cdef inline void qfq_unblock(FairClock *fair, uint32_t number, uint64_t finish) noexcept nogil:
    """After a group that was ready and had this finish has changed: free those that it blocked, unless
    another does.
    """
    cdef uint32_t higher = fair.sets[QFQ_READY] >> number >> 1
    cdef uint32_t lower = (<uint32_t>1 << number) - 1
    if higher and not virtual_before(finish, qfq_finish(fair, number + 1 + lowest_bit(higher))):
        return
    set_move(fair, QFQ_BLOCKED, QFQ_READY, lower)
    set_move(fair, QFQ_EARLY_BLOCKED, QFQ_EARLY, lower)


cdef inline void qfq_reach(FairClock *fair, uint64_t before) noexcept nogil:
    """After V has moved on: let the groups that it has reached be eligible. A start is the edge of a slot."""
    cdef uint64_t crossed = (before ^ fair.now) >> VIRTUAL_SHIFT
    cdef uint32_t early = fair.sets[QFQ_EARLY] | fair.sets[QFQ_EARLY_BLOCKED]
    cdef uint32_t number
    while early:
        number = lowest_bit(early)
        early &= early - 1
        if crossed >> number == 0:
            break
        if not virtual_before(fair.now, fair.groups[number].start):
            set_move(fair, QFQ_EARLY, QFQ_READY, <uint32_t>1 << number)
            set_move(fair, QFQ_EARLY_BLOCKED, QFQ_BLOCKED, <uint32_t>1 << number)


cdef inline void qfq_jump(FairClock *fair) noexcept nogil:
    """Where no group is eligible: move V on to the first start. None is blocked then."""
    cdef uint64_t before = fair.now
    cdef uint32_t early = fair.sets[QFQ_EARLY]
    cdef uint64_t start = fair.groups[lowest_bit(early)].start
    while early:
        if virtual_before(fair.groups[lowest_bit(early)].start, start):
            start = fair.groups[lowest_bit(early)].start
        early &= early - 1
    fair.now = start
    qfq_reach(fair, before)


cdef inline uint32_t qfq_take_all(Shaper *shaper) noexcept nogil:
    """Take all queues out of their groups, and link them by next_active: index + 1 of the first."""
    cdef FairClock *fair = shaper.fair
    cdef FlowQueue *queue
    cdef uint32_t first = 0
    cdef uint32_t *link = &first
    cdef uint32_t number
    for number in range(QFQ_GROUPS):
        while fair.groups[number].taken:
            group_advance(&fair.groups[number], number)
            queue = slot_pop(shaper, &fair.groups[number])
            link[0] = <uint32_t>(queue - shaper.queues) + 1
            link = &queue.next_active
            link[0] = 0
    memset(fair.sets, 0, sizeof(fair.sets))
    return first


cdef inline void qfq_regroup(Shaper *shaper, uint32_t longest_bytes) noexcept nogil:
    """Put all queues into the groups that belong to another longest packet."""
    cdef FairClock *fair = shaper.fair
    cdef uint32_t index = qfq_take_all(shaper)
    cdef FlowQueue *queue
    cdef uint32_t number
    fair.longest_bytes = longest_bytes
    while index:
        queue = &shaper.queues[index - 1]
        index = queue.next_active
        group_insert(shaper, queue, qfq_group_of(fair, queue.weight))
    number = QFQ_GROUPS
    while number:
        number -= 1
        if fair.groups[number].taken:
            group_enter_set(fair, number)


cdef inline void qfq_rest(Shaper *shaper) noexcept nogil:
    """The link has been idle: none takes part."""
    cdef FairClock *fair = shaper.fair
    qfq_take_all(shaper)
    while fair.idle.first:
        idle_pop(shaper)
    fair.weights = 0
    fair.served_bytes = 0


cdef inline void qfq_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FairClock *fair = shaper.fair
    cdef FlowQueue *queue = flow_queue_of(shaper, packet)
    cdef uint32_t number
    if shaper.packets == 0 and not waits:
        qfq_rest(shaper)
    if packet.total_length > fair.longest_bytes:
        qfq_regroup(shaper, packet.total_length)
    queue_push(shaper, queue, packet)
    if queue.list == FAIR_NONE:
        queue.weight = <uint16_t>shaper.queue.weights[packet_precedence(packet)]
        queue.virtual_start = fair.now
        fair.weights += queue.weight
    if not queue.list & FAIR_IN_SLOT:
        if virtual_before(queue.virtual_start, fair.now):
            queue.virtual_start = fair.now
        number = qfq_group_of(fair, queue.weight)
        if group_insert(shaper, queue, number):
            group_leave_sets(fair, number)
            group_enter_set(fair, number)
    if waits:
        queue_make_room(worker, pipe)


cdef inline Packet *qfq_serve(Shaper *shaper, uint32_t number) noexcept nogil:
    """The next packet of a group that is ready; NULL where drops have emptied the queue that stood first."""
    cdef FairClock *fair = shaper.fair
    cdef QfqGroup *group = &fair.groups[number]
    cdef uint64_t start = group.start
    cdef uint64_t finish = qfq_finish(fair, number)
    cdef FlowQueue *queue = slot_pop(shaper, group)
    cdef Packet *packet = queue_pop(shaper, queue)
    if packet is not NULL:
        queue.virtual_start += virtual_cost(packet.total_length, queue.weight)
        fair.served_bytes = packet.total_length
    if queue.packets:
        group_insert(shaper, queue, number)
    elif not queue.list & FAIR_IDLE:
        idle_append(shaper, queue)
    if group.taken:
        group_advance(group, number)
    if group.taken == 0 or group.start != start:
        group_leave_sets(fair, number)
        if group.taken:
            group_enter_set(fair, number)
        qfq_unblock(fair, number, finish)
    return packet


cdef inline Packet *qfq_dequeue(Pipe *pipe) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef FairClock *fair = shaper.fair
    cdef uint64_t before = fair.now
    cdef Packet *packet = NULL
    fair.now += virtual_cost(fair.served_bytes, fair.weights)
    qfq_reach(fair, before)
    qfq_look_at_idle(shaper)
    while packet is NULL:
        if fair.sets[QFQ_READY] == 0:
            qfq_jump(fair)
        packet = qfq_serve(shaper, lowest_bit(fair.sets[QFQ_READY]))
    return packet
