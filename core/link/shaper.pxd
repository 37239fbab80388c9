# A pipe that does more than a plain one: any queue discipline, any rate, anything that a wire can do to a
# packet.
#
# The queue holds what waits. A timer of the sending node starts the next service at start = max(last
# departure, arrival), when the discipline picks the packet; its departure, its fate and its arrival are
# computed there, and it joins the delay line. Packets that arrive in the very nanosecond of the start are in
# the queue by then. A node that runs ahead in a vector may come here before its timer: what should have
# started before is started first (shaper_serve()), so the times are the same. A live change counts from the
# next packet that starts service.
#
# After the transmitter, in this order: loss by airtime, loss (or a mark), bit errors, corruption,
# duplication, then for each copy reordering, delay and jitter, slots.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

from ..machine.platform cimport is_unlikely, must_resize, must_zero
from ..machine.random cimport choice_happens, random_stream
from ..machine.shared cimport shared_release
from ..observe.capture cimport capture_link_drop
from ..observe.drops cimport count_drop
from ..packet.packet cimport packet_release, packet_slice
from ..state.network cimport Pipe, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_POOL_EMPTY, LINK_DOWN, LINK_LOOP, LINK_LOSS
from ..state.shapers cimport (
    Choice, FATE_OPEN, FATE_SPARED, FlowQueue, Loss, QueueSettings, RateTable, RateTrace, Shaper, Slots,
)
from ..time.events cimport TIMER_PIPES, never, node_timer
from .crossing cimport ROUND_MASK, packet_crosses
from .impairments.bit_error cimport bit_error_happens
from .impairments.corrupt cimport packet_corrupt
from .impairments.jitter cimport jitter_delay
from .impairments.loss cimport loss_happens
from .impairments.reorder cimport reorder_happens
from .impairments.slots cimport slots_begin, slots_release
from .line cimport pipe_insert
from .queues.discipline cimport (
    discipline_begin, discipline_change, discipline_dequeue, discipline_end, discipline_enqueue,
    discipline_set, discipline_settle, discipline_stays,
)
from .queues.ecn cimport packet_can_be_marked, packet_mark
from .queues.flow_queue cimport queue_head, queue_pop
from .rate_trace cimport rates_are_same, trace_rewind
from .shared_tables cimport release_tables
from .transmitter cimport frame_wire_bytes, shaper_transmit, transmitter_is_busy, transmitter_round_up

cdef enum StreamPurpose:           # never renumbered: a run's bytes depend on them
    STREAM_BIT_ERRORS = 1
    STREAM_DUPLICATE = 2
    STREAM_CORRUPT = 3
    STREAM_CORRUPT_BIT = 4
    STREAM_REORDER = 5
    STREAM_JITTER = 6
    STREAM_SLOTS = 7
    STREAM_DISCIPLINE = 8
    STREAM_FLOWS = 9
    STREAM_AIRTIME = 10


cdef inline void line_put(
    Worker *worker, Pipe *pipe, Packet *packet, int64_t now_ns, int64_t departure_ns
) noexcept nogil:
    """Let a packet that has left the transmitter arrive, in its order or out of it."""
    cdef Shaper *shaper = pipe.shaper
    cdef bint overtakes = shaper.jitter.overtakes
    cdef int64_t arrival_ns = departure_ns
    if reorder_happens(shaper):
        overtakes = True
    else:
        arrival_ns += jitter_delay(&shaper.jitter, pipe.delay_ns)
    if shaper.slots.distribution is not NULL:
        arrival_ns = slots_release(&shaper.slots, arrival_ns, packet.total_length)
    if arrival_ns < pipe.last_arrival_ns and not overtakes:
        arrival_ns = pipe.last_arrival_ns
    # a departure is a whole nanosecond, rounded down, and may lie before the end of its start's
    if arrival_ns < now_ns:
        arrival_ns = now_ns
    if arrival_ns > now_ns:
        packet.crossings = 0
        packet.turns = 0
    elif is_unlikely(not packet_crosses(worker, pipe, packet)):
        pipe.loop_drop_packets += 1
        capture_link_drop(worker, pipe, packet, LINK_LOOP, now_ns)
        packet_release(&worker.pool, packet)
        return
    if arrival_ns > pipe.last_arrival_ns:
        pipe.last_arrival_ns = arrival_ns
    pipe_insert(worker, pipe, packet, arrival_ns)
    pipe.service = pipe.tail


cdef inline void wire_lose(Worker *worker, Pipe *pipe, Packet *packet, int64_t now_ns) noexcept nogil:
    pipe.loss_packets += 1
    capture_link_drop(worker, pipe, packet, LINK_LOSS, now_ns)
    packet_release(&worker.pool, packet)


cdef inline void wire_carry(
    Worker *worker, Pipe *pipe, Packet *packet, int64_t now_ns, int64_t departure_ns
) noexcept nogil:
    """What the wire does to a packet, from its departure on."""
    cdef Shaper *shaper = pipe.shaper
    cdef Packet *copy
    if shaper.airtime.loses:
        wire_lose(worker, pipe, packet, now_ns)
        return
    if packet.crossings & ROUND_MASK != FATE_SPARED and loss_happens(&shaper.loss):
        if not shaper.loss.marks or not packet_can_be_marked(packet):
            wire_lose(worker, pipe, packet, now_ns)
            return
        packet = packet_mark(worker, pipe, packet)
        if packet is NULL:
            return
    if bit_error_happens(&shaper.bit_errors, <uint32_t>frame_wire_bytes(pipe, packet.total_length)):
        wire_lose(worker, pipe, packet, now_ns)
        return
    if choice_happens(&shaper.corrupt):
        packet = packet_corrupt(worker, pipe, packet)
        if packet is NULL:
            return
    if choice_happens(&shaper.duplicate):
        copy = packet_slice(&worker.pool, packet, 0, packet.total_length)
        line_put(worker, pipe, packet, now_ns, departure_ns)
        if copy is NULL:
            count_drop(pipe.sender.node, DROP_POOL_EMPTY)
        else:
            shaper.duplicate_packets += 1
            line_put(worker, pipe, copy, now_ns, departure_ns)
    else:
        line_put(worker, pipe, packet, now_ns, departure_ns)


cdef inline void shaper_serve(Worker *worker, Pipe *pipe, int64_t time_ns, bint inclusive) noexcept nogil:
    """Start every service that starts before `time_ns`, or also that at it."""
    cdef Shaper *shaper = pipe.shaper
    cdef Packet *packet
    cdef int64_t start_ns, departure_ns
    cdef uint64_t remainder
    while shaper.packets:
        start_ns = shaper.ready_ns
        remainder = 0
        if transmitter_is_busy(pipe, start_ns):
            start_ns = pipe.departure_ns
            remainder = pipe.departure_remainder
        if start_ns > time_ns or (start_ns == time_ns and (remainder or not inclusive)):
            break
        shaper.now_ns = start_ns
        packet = discipline_dequeue(worker, pipe, start_ns)
        if packet is NULL:
            break
        departure_ns = shaper_transmit(pipe, start_ns, remainder, packet.total_length)
        wire_carry(worker, pipe, packet, start_ns + (remainder != 0), departure_ns)


cdef inline void shaper_settle(Worker *worker, Pipe *pipe, int64_t time_ns) noexcept nogil:
    """Bring the queue to where it is when `time_ns` begins, before somebody looks at it or changes it."""
    shaper_serve(worker, pipe, time_ns, False)
    discipline_settle(worker, pipe, time_ns)


cdef inline void shaper_arm(Worker *worker, Pipe *pipe) noexcept nogil:
    """See to it that the next service starts in time."""
    cdef Shaper *shaper = pipe.shaper
    cdef int64_t due_ns = shaper.ready_ns
    if shaper.packets == 0:
        return
    if transmitter_is_busy(pipe, due_ns):
        due_ns = pipe.departure_ns + (pipe.departure_remainder != 0)
    if due_ns < shaper.timer_ns:
        shaper.timer_ns = due_ns
        node_timer(worker, pipe.sender.node, due_ns, TIMER_PIPES + pipe.sender.port)


cdef inline void shaper_send(Worker *worker, Pipe *pipe, Packet *packet, int64_t time_ns) noexcept nogil:
    """Take a packet that is handed to the link at its logical time."""
    cdef Shaper *shaper = pipe.shaper
    cdef bint waits
    shaper_serve(worker, pipe, time_ns, False)
    if shaper.packets == 0:
        shaper.ready_ns = time_ns
    waits = shaper.packets != 0 or transmitter_is_busy(pipe, time_ns)
    packet.time_ns = shaper.now_ns = time_ns
    packet.crossings = <uint16_t>(packet.crossings & ~<uint32_t>ROUND_MASK | FATE_OPEN)
    discipline_enqueue(worker, pipe, packet, waits)
    if not waits:
        shaper_serve(worker, pipe, time_ns, True)
    shaper_arm(worker, pipe)


cdef inline void shaper_timer(Worker *worker, Pipe *pipe, int64_t time_ns) noexcept nogil:
    if pipe is NULL or pipe.shaper is NULL:
        return
    if time_ns >= pipe.shaper.timer_ns:
        pipe.shaper.timer_ns = never()
    shaper_serve(worker, pipe, time_ns, True)
    shaper_arm(worker, pipe)


# Making, changing and ending.
cdef inline Shaper *shaper_new(Pipe *pipe) noexcept nogil:
    """A shaper that does what the plain pipe did; its streams start from the pipe's own."""
    cdef Shaper *shaper = <Shaper *>must_zero(sizeof(Shaper))
    shaper.queue.flows = 1
    shaper.timer_ns = never()
    shaper.loss.choice.state = pipe.random_state
    shaper.bit_errors.random_state = random_stream(pipe.random_state, STREAM_BIT_ERRORS)
    shaper.duplicate.state = random_stream(pipe.random_state, STREAM_DUPLICATE)
    shaper.corrupt.state = random_stream(pipe.random_state, STREAM_CORRUPT)
    shaper.corrupt_state = random_stream(pipe.random_state, STREAM_CORRUPT_BIT)
    shaper.reorder.state = random_stream(pipe.random_state, STREAM_REORDER)
    shaper.jitter.choice.state = random_stream(pipe.random_state, STREAM_JITTER)
    shaper.slots.random_state = random_stream(pipe.random_state, STREAM_SLOTS)
    shaper.random_state = random_stream(pipe.random_state, STREAM_DISCIPLINE)
    shaper.flow_seed = random_stream(pipe.random_state, STREAM_FLOWS)
    shaper.airtime.random_state = random_stream(pipe.random_state, STREAM_AIRTIME)
    discipline_begin(shaper)
    return shaper


cdef inline void choice_set(Choice *choice, Choice *wanted) noexcept nogil:
    choice.threshold = wanted.threshold
    choice.repeat_threshold = wanted.repeat_threshold


cdef inline void trace_set(Pipe *pipe, RateTable *wanted) noexcept nogil:
    """Take over a recording; one that says the same as before goes on where it is."""
    cdef RateTrace *trace = &pipe.shaper.trace
    if rates_are_same(trace.table, wanted):
        shared_release(wanted)
        return
    shared_release(trace.table)
    trace.table = wanted
    trace_rewind(trace)
    transmitter_round_up(pipe)


cdef inline void slots_set(Slots *slots, Slots *wanted) noexcept nogil:
    """Change the slots; what a limit that stays has left of the present opening stays too."""
    shared_release(slots.distribution)
    slots.distribution = wanted.distribution
    if wanted.limit_packets != slots.limit_packets:
        slots.limit_packets = slots.left_packets = wanted.limit_packets
    if wanted.limit_bytes != slots.limit_bytes:
        slots.limit_bytes = slots.left_bytes = wanted.limit_bytes


cdef inline void loss_set(Loss *loss, Loss *wanted) noexcept nogil:
    """Change a loss model; its stream goes on, and so does its state where the model stays."""
    cdef uint32_t i
    if wanted.model != loss.model:
        loss.state = 0
        loss.trace_position = 0
    loss.model = wanted.model
    loss.marks = wanted.marks
    choice_set(&loss.choice, &wanted.choice)
    for i in range(5):
        loss.thresholds[i] = wanted.thresholds[i]
    shared_release(loss.trace)
    loss.trace = wanted.trace
    if loss.trace is not NULL and loss.trace_position >= loss.trace.count:
        loss.trace_position = 0


cdef inline Packet *shaper_take_oldest(Shaper *shaper) noexcept nogil:
    """Take what has waited longest, from the first of the queues where several have."""
    cdef FlowQueue *oldest = NULL
    cdef FlowQueue *queue
    cdef uint32_t i
    for i in range(shaper.queue_count):
        queue = &shaper.queues[i]
        if queue.first and (
            oldest is NULL or queue_head(shaper, queue).time_ns < queue_head(shaper, oldest).time_ns
        ):
            oldest = queue
    return queue_pop(shaper, oldest) if oldest is not NULL else NULL


cdef inline void shaper_queue_anew(Worker *worker, Pipe *pipe, QueueSettings *wanted) noexcept nogil:
    """Give what waits to another discipline, the oldest first."""
    cdef Shaper *shaper = pipe.shaper
    cdef uint32_t count = shaper.packets
    cdef Packet **packets = <Packet **>must_resize(NULL, (count + 1) * sizeof(void *))
    cdef uint32_t i
    for i in range(count):
        packets[i] = shaper_take_oldest(shaper)
    discipline_set(&shaper.queue, wanted)
    discipline_begin(shaper)
    shaper.ready_ns = shaper.now_ns
    for i in range(count):
        discipline_enqueue(worker, pipe, packets[i], False)
    free(packets)


cdef inline void shaper_set(Worker *worker, Pipe *pipe, Shaper *wanted) noexcept nogil:
    """Take over new settings, with their tables. What waits is queued anew where that moves any of it."""
    cdef Shaper *shaper = pipe.shaper
    if discipline_stays(&shaper.queue, &wanted.queue):
        discipline_change(shaper, &wanted.queue)
    else:
        shaper_queue_anew(worker, pipe, &wanted.queue)
    shaper.cell_bytes = wanted.cell_bytes
    shaper.cell_overhead_bytes = wanted.cell_overhead_bytes
    shaper.burst_bytes = wanted.burst_bytes
    trace_set(pipe, wanted.trace.table)
    loss_set(&shaper.loss, &wanted.loss)
    shaper.bit_errors.survival = wanted.bit_errors.survival
    shaper.bit_errors.cached_bytes = 0
    shaper.bit_errors.cached_threshold = 0
    choice_set(&shaper.duplicate, &wanted.duplicate)
    choice_set(&shaper.corrupt, &wanted.corrupt)
    choice_set(&shaper.reorder, &wanted.reorder)
    shaper.reorder_gap = wanted.reorder_gap
    shared_release(shaper.airtime.distribution)
    shaper.airtime.distribution = wanted.airtime.distribution
    shaper.airtime.loss_threshold = wanted.airtime.loss_threshold
    shared_release(shaper.jitter.distribution)
    shaper.jitter.distribution = wanted.jitter.distribution
    choice_set(&shaper.jitter.choice, &wanted.jitter.choice)
    shaper.jitter.overtakes = wanted.jitter.overtakes
    slots_set(&shaper.slots, &wanted.slots)


cdef inline uint32_t shaper_discard(Worker *worker, Pipe *pipe) noexcept nogil:
    """Lose all that waits: how many packets."""
    cdef Shaper *shaper = pipe.shaper
    cdef uint32_t count = shaper.packets
    cdef uint32_t i
    cdef Packet *packet
    for i in range(shaper.queue_count):
        while shaper.queues[i].first:
            packet = queue_pop(shaper, &shaper.queues[i])
            capture_link_drop(worker, pipe, packet, LINK_DOWN, shaper.now_ns)
            packet_release(&worker.pool, packet)
    discipline_begin(shaper)
    return count


cdef inline uint32_t shaper_cut(Worker *worker, Pipe *pipe, int64_t now_ns) noexcept nogil:
    """Lose all that waits, and take back what the lost have used of a recording or of slots to come: how
    many packets.
    """
    cdef Shaper *shaper = pipe.shaper
    shaper.now_ns = now_ns
    if pipe.departure_ns > now_ns:
        trace_rewind(&shaper.trace)
    if shaper.slots.open_ns > now_ns:
        slots_begin(&shaper.slots, now_ns)
    return shaper_discard(worker, pipe)


cdef inline void shaper_free(Worker *worker, Pipe *pipe) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    shaper_discard(worker, pipe)
    discipline_end(shaper)
    free(shaper.places)
    release_tables(shaper)
    free(shaper)
    pipe.shaper = NULL
