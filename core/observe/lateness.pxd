# How late the host's clock finds the packets of a pipe, and whether that is too late.
#
# Lateness is the engine's time when a packet has been handled (behind a device: when it has been written to
# it) less its logical arrival; in dilated time both are emulated. It is kept in buckets of a fourth of a
# factor of two. Looked at are pipes that take time and pipes that lead to a device, in real and dilated time:
# what crosses any other is handled at the instant at which it was sent. The clock is read once for each
# vector, and behind a device for each write.
#
# A frame of a real host has no logical time before it is read, and of a TAP the kernel does not tell when it
# came. That was after the engine last looked at its devices (loop.pxd). As long is taken to be its lateness,
# up to LATE_NS. Where it is longer, the engine was held up. The frames that are read from then on, until the
# device is empty or as much time has passed again, are taken to have come evenly meanwhile; and as they are
# read in the order in which they came, their waits fall evenly from all of that time to nothing. They are
# counted when the last of them has been read. One that is alone counts with half of the time; the worst
# lateness is all of it. How long a frame waits behind others is not seen.
#
# While the engine is behind, frames enter at an instant before they were read. By so much they count as late.
#
# A pipe, or a device, is judged second by second of the engine's time (worker.judged_ns), by when packets are
# handled. A packet is late above LATE_NS; a second in which more than LATE_PERCENT of its packets are late is
# degraded, from its begin, or from the logical arrival of the first of the late ones if that is before, to
# its end. Stretches that meet become one, and so do the two that are closest to each other where there would
# be more than LATE_STRETCHES.

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memmove

from ..machine.platform cimport highest_bit, host_clock_ns, is_unlikely, must_zero, uint128_t, with_room
from ..packet.segment cimport wire_segments
from ..state.network cimport (
    DeviceWaits, KIND_NIC, KIND_TAP, LATENESS_BUCKETS, LateStretch, Lateness, Node, OBSERVE_LATENESS, Pipe,
    Worker,
)
from ..state.packets cimport Packet
from ..time.clock cimport clock_from_host, clock_now

cdef enum:
    LATE_NS = 1000000
    LATE_PERCENT = 1
    LATE_STRETCHES = 64            # of one pipe
    WAIT_STEPS = 1024              # in which the waits of frames that the engine was held up for are spread


cdef inline bint is_device(Node *node) noexcept nogil:
    return node.kind == KIND_TAP or node.kind == KIND_NIC


cdef inline Lateness *device_lateness(Node *node) noexcept nogil:
    """How late a node's device was read; NULL: it has none."""
    if not is_device(node) or node.own.device.waits is NULL:
        return NULL
    return &node.own.device.waits.lateness


cdef inline uint32_t lateness_bucket(int64_t late_ns) noexcept nogil:
    """Where a lateness is counted: by its highest bit and the two below it."""
    cdef uint32_t shift, bucket
    if late_ns < 4:
        return <uint32_t>late_ns if late_ns > 0 else 0
    shift = highest_bit(<uint64_t>late_ns) - 2
    bucket = 4 * shift + <uint32_t>(late_ns >> shift)
    return bucket if bucket < LATENESS_BUCKETS else LATENESS_BUCKETS - 1


cdef inline int64_t lateness_bucket_from(uint32_t bucket) noexcept nogil:
    """The least lateness that is counted in a bucket."""
    if bucket < 4:
        return bucket
    return <int64_t>(4 + bucket % 4) << (bucket // 4 - 1)


cdef inline void pipe_find_lateness(Worker *worker, Pipe *pipe) noexcept nogil:
    """Decide whether a pipe is looked at; to be called where it is made, and where what it does changes."""
    pipe.observed &= ~OBSERVE_LATENESS
    if worker.clock.dilation and (
        pipe.bandwidth_bps or pipe.delay_ns or pipe.shaper is not NULL or is_device(pipe.receiver.node)
    ):
        pipe.observed |= OBSERVE_LATENESS


cdef inline void stretch_absorb(LateStretch *stretch, LateStretch *other) noexcept nogil:
    if other.from_ns < stretch.from_ns:
        stretch.from_ns = other.from_ns
    if other.until_ns > stretch.until_ns:
        stretch.until_ns = other.until_ns
    if other.worst_ns > stretch.worst_ns:
        stretch.worst_ns = other.worst_ns
    stretch.packets += other.packets
    stretch.late_packets += other.late_packets


cdef inline void lateness_merge_closest(Lateness *lateness) noexcept nogil:
    cdef LateStretch *stretches = lateness.stretches
    cdef uint32_t closest = 0
    cdef uint32_t i
    for i in range(1, lateness.stretch_count - 1):
        if (
            stretches[i + 1].from_ns - stretches[i].until_ns
            < stretches[closest + 1].from_ns - stretches[closest].until_ns
        ):
            closest = i
    stretch_absorb(&stretches[closest], &stretches[closest + 1])
    lateness.stretch_count -= 1
    memmove(
        &stretches[closest + 1], &stretches[closest + 2],
        (lateness.stretch_count - closest - 1) * sizeof(LateStretch),
    )


cdef inline bint lateness_second(
    Worker *worker, Lateness *lateness, int64_t until_ns, LateStretch *stretch
) noexcept nogil:
    """The second under way as if it ended at `until_ns`, joined with what it meets; whether it is
    degraded.
    """
    if lateness.second_late_packets * 100 <= lateness.second_packets * LATE_PERCENT:
        return False
    stretch.from_ns = lateness.second * worker.judged_ns
    if lateness.second_first_ns < stretch.from_ns:
        stretch.from_ns = lateness.second_first_ns
    stretch.until_ns = until_ns
    stretch.packets = lateness.second_packets
    stretch.late_packets = lateness.second_late_packets
    stretch.worst_ns = lateness.second_worst_ns
    return True


cdef inline void lateness_close_second(Worker *worker, Lateness *lateness) noexcept nogil:
    """Judge the second that is over."""
    cdef LateStretch stretch
    if lateness_second(worker, lateness, (lateness.second + 1) * worker.judged_ns, &stretch):
        while (
            lateness.stretch_count
            and lateness.stretches[lateness.stretch_count - 1].until_ns >= stretch.from_ns
        ):
            lateness.stretch_count -= 1
            stretch_absorb(&stretch, &lateness.stretches[lateness.stretch_count])
        if lateness.stretch_count == LATE_STRETCHES:
            lateness_merge_closest(lateness)
        lateness.stretches = <LateStretch *>with_room(
            lateness.stretches, lateness.stretch_count, &lateness.stretch_capacity, 2, sizeof(LateStretch)
        )
        lateness.stretches[lateness.stretch_count] = stretch
        lateness.stretch_count += 1
    lateness.second_packets = lateness.second_late_packets = 0
    lateness.second_worst_ns = 0
    lateness.second_first_ns = INT64_MAX


cdef inline void lateness_reach(Worker *worker, Lateness *lateness, int64_t now_ns) noexcept nogil:
    """Begin the second that `now_ns` lies in, if it has not begun."""
    if now_ns // worker.judged_ns != lateness.second:
        lateness_close_second(worker, lateness)
        lateness.second = now_ns // worker.judged_ns


cdef inline void lateness_begin(Worker *worker, Lateness *lateness) noexcept nogil:
    lateness.second = clock_now(&worker.clock) // worker.judged_ns
    lateness.second_first_ns = INT64_MAX


cdef inline Lateness *lateness_of(Worker *worker, Pipe *pipe) noexcept nogil:
    """A pipe's record, made for its first packet."""
    if is_unlikely(pipe.lateness is NULL):
        pipe.lateness = <Lateness *>must_zero(sizeof(Lateness))
        pipe.lateness.pipe = pipe
        lateness_begin(worker, pipe.lateness)
    return pipe.lateness


cdef inline void lateness_worst(Lateness *lateness, int64_t late_ns) noexcept nogil:
    """Note how late a packet may have been in the second that has been reached."""
    if late_ns > lateness.second_worst_ns:
        lateness.second_worst_ns = late_ns
        if late_ns > lateness.worst_ns:
            lateness.worst_ns = late_ns


cdef inline void lateness_count(
    Worker *worker, Lateness *lateness, int64_t arrival_ns, int64_t late_ns, uint32_t packets
) noexcept nogil:
    """Count packets in the second that has been reached."""
    lateness.buckets[lateness_bucket(late_ns)] += packets
    lateness.second_packets += packets
    lateness_worst(lateness, late_ns)
    if is_unlikely(late_ns > LATE_NS):
        if not lateness.late_packets:
            lateness.next = worker.late
            worker.late = lateness
        lateness.late_packets += packets
        lateness.second_late_packets += packets
        if arrival_ns < lateness.second_first_ns:
            lateness.second_first_ns = arrival_ns


cdef inline void lateness_vector(Worker *worker, Packet **vector, uint32_t count) noexcept nogil:
    """Keep the arrivals of a vector, whose packets will belong to others once they have been handled."""
    cdef uint32_t i
    for i in range(count):
        worker.arrivals[i].time_ns = vector[i].time_ns
        worker.arrivals[i].handled_ns = 0
        worker.arrivals[i].packets = wire_segments(vector[i])


cdef inline void lateness_written(Worker *worker, uint32_t first, uint32_t behind) noexcept nogil:
    """Note that a device has taken these packets of the vector: to write takes longer than all else."""
    cdef int64_t now_ns = clock_now(&worker.clock)
    cdef uint32_t i
    for i in range(first, behind):
        worker.arrivals[i].handled_ns = now_ns


cdef inline void lateness_handled(Worker *worker, Pipe *pipe, uint32_t count) noexcept nogil:
    """Measure the vector that lateness_vector() was shown, now that it has been handled."""
    cdef int64_t now_ns = clock_now(&worker.clock)
    cdef Lateness *lateness = lateness_of(worker, pipe)
    cdef int64_t handled_ns
    cdef uint32_t i
    lateness_reach(worker, lateness, now_ns)
    for i in range(count):
        handled_ns = worker.arrivals[i].handled_ns or now_ns
        lateness_count(
            worker, lateness, worker.arrivals[i].time_ns, handled_ns - worker.arrivals[i].time_ns,
            worker.arrivals[i].packets,
        )


cdef inline void waits_new(Worker *worker, Node *node) noexcept nogil:
    """Measure how long frames of a node's device wait."""
    node.own.device.waits = <DeviceWaits *>must_zero(sizeof(DeviceWaits))
    node.own.device.waits.lateness.device = node
    lateness_begin(worker, &node.own.device.waits.lateness)


cdef inline void waits_count_held(Worker *worker, DeviceWaits *waits) noexcept nogil:
    """Count what was read after the engine had been held up, its waits spread evenly."""
    cdef uint64_t step = waits.held_packets // WAIT_STEPS + 1
    cdef uint64_t done = 0
    cdef int64_t came_ns
    lateness_reach(worker, &waits.lateness, clock_now(&worker.clock))
    while done < waits.held_packets:
        if step > waits.held_packets - done:
            step = waits.held_packets - done
        came_ns = <int64_t>(<uint128_t>waits.held_ns * (2 * done + step) // (2 * waits.held_packets))
        lateness_count(
            worker, &waits.lateness, waits.held_from_ns + came_ns, waits.held_ns - came_ns, <uint32_t>step,
        )
        done += step
    lateness_worst(&waits.lateness, waits.held_ns)
    waits.held_ns = 0
    waits.drained_host_ns = 0
    waits.held_packets = waits.settled_packets = 0


cdef inline void waits_settle(Worker *worker, bint drained) noexcept nogil:
    """Count what has been read from devices since the engine was held up, where that has come to its end.

    `drained`: all devices are known to be empty.
    """
    cdef DeviceWaits *waits = worker.held
    cdef DeviceWaits *following
    cdef int64_t host_ns = host_clock_ns()
    worker.held = NULL
    while waits is not NULL:
        following = waits.next_held
        if drained or host_ns > waits.drained_host_ns or waits.held_packets == waits.settled_packets:
            waits_count_held(worker, waits)
        else:
            waits.settled_packets = waits.held_packets
            waits.next_held = worker.held
            worker.held = waits
        waits = following


cdef inline void waits_read(
    Worker *worker, Node *node, int64_t read_host_ns, int64_t early_ns, uint32_t packets, bint emptied
) noexcept nogil:
    """Count packets whose frames had been read from a device by a time, or keep them for waits_settle().

    `early_ns`: by how much the instant at which they have entered is before that. `emptied`: that is all.
    """
    cdef DeviceWaits *waits = node.own.device.waits
    cdef int64_t waited_ns = (read_host_ns - worker.looked_host_ns) // worker.clock.dilation
    cdef int64_t read_ns = clock_from_host(&worker.clock, read_host_ns)
    if packets and early_ns > waited_ns:
        lateness_reach(worker, &waits.lateness, read_ns)
        lateness_count(worker, &waits.lateness, read_ns - early_ns, early_ns, packets)
    elif packets:
        if waited_ns > LATE_NS and read_host_ns > waits.drained_host_ns:
            if waits.held_ns:
                waits_count_held(worker, waits)
            else:
                waits.next_held = worker.held
                worker.held = waits
            waits.held_ns = waited_ns
            waits.held_from_ns = read_ns - waited_ns
            waits.drained_host_ns = read_host_ns + waited_ns * worker.clock.dilation
        if waits.held_ns:
            waits.held_packets += packets
        else:
            lateness_reach(worker, &waits.lateness, read_ns)
            lateness_count(worker, &waits.lateness, read_ns - waited_ns, waited_ns, packets)
    if emptied:
        waits.drained_host_ns = 0


cdef inline void lateness_free(Pipe *pipe) noexcept nogil:
    if pipe.lateness is not NULL:
        free(pipe.lateness.stretches)
        free(pipe.lateness)


cdef inline void waits_free(Node *node) noexcept nogil:
    if is_device(node) and node.own.device.waits is not NULL:
        free(node.own.device.waits.lateness.stretches)
        free(node.own.device.waits)
