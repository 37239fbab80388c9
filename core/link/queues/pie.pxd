# pie: proportional integral controller enhanced (Pan, Natarajan, Baker, White, RFC 8033). Packets are dropped
# by chance as they come; the probability is set anew every `interval_ns` so that packets wait about
# `target_ns`. Reads: target_ns (QDELAY_REF, 15 ms), interval_ns (T_UPDATE, 15 ms), burst_ns (MAX_BURST, 150
# ms), ecn (a packet that can be marked is marked in place of a drop), probability (mark_ecnth, 10 %: above it
# packets are dropped all the same), alpha_microhertz (1/8 Hz), beta_microhertz (5/4 Hz), caps, derandomizes,
# turns_off, the pipe's limits (drop-tail).
#
# By sections 4 and 5 and appendix A: alpha and beta are tuned to the probability (section 4.2); with `caps`
# an adjustment is at most 2 % (5.5); with `derandomizes` drops are spread out (5.4: none before the
# probabilities of the packets since the last drop add up to 0.85, one for sure at 8.5). With `turns_off`
# (appendix A) there are no updates and no judgement before a packet finds a third of the limit taken, nor,
# once congestion is gone and the probability is 0, after one has found the queue empty. The delay is that of
# time stamps, not of a departure rate (5.2 against 4.3): what the packet that left last had waited, and 0
# once the queue is empty. Congestion is gone when this and the sample before are below half the target: then
# the probability falls by 1/64 an update besides.
#
# There is no timer: updates that are due are made up for when a packet comes or leaves, in steps of many
# where the delay and the tuning stay. The first is due one interval after the first packet. Probabilities are
# in 1/2^56, adjustments rounded towards 0.
#
# Limits: alpha and beta as they are by default suit an interval near 15 ms. Cousins: fq_pie does this to each
# of many flows; codel drops as packets leave, by the time each has waited.

from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t

from ...machine.random cimport random_next
from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport FlowQueue, PieState, QueueSettings
from .ecn cimport packet_punish
from .flow_queue cimport queue_drop, queue_is_full, queue_pop, queue_push

cdef enum:
    PIE_FRACTION_BITS = 56
    PIE_TYPICAL_BYTES = 1024       # MEAN_PKTSIZE: a queue of two of them or less is never judged
    PIE_DECAY_SHIFT = 6


cdef extern from *:
    """
    #ifndef MANYSTACK_PIE
    #define MANYSTACK_PIE
    #define PIE_ONE ((int64_t)1 << 56)
    #define PIE_MOST_ADJUSTMENT (PIE_ONE / 50)     /* section 5.5 */
    #define PIE_LOW (PIE_ONE / 5)                  /* section 4.1: below it a short delay is never judged */
    #define PIE_NEVER_BEFORE (PIE_ONE / 20 * 17)   /* section 5.4 */
    #define PIE_CERTAIN_AT (PIE_ONE / 2 * 17)
    /* Section 4.2: up to each probability the adjustment is divided by 2^shift. */
    static const int64_t pie_bounds[7] = {
        PIE_ONE / 1000000, PIE_ONE / 100000, PIE_ONE / 10000, PIE_ONE / 1000, PIE_ONE / 100, PIE_ONE / 10,
        PIE_ONE
    };
    static const uint8_t pie_shifts[7] = {11, 9, 7, 5, 3, 1, 0};
    /* a * a_ns + b * b_ns as a probability, with a and b in uHz, divided by 2^shift and rounded towards 0.
     * What is twice as large as any probability says no less than what is larger still. */
    static inline int64_t pie_weigh(int64_t a, int64_t a_ns, int64_t b, int64_t b_ns, unsigned shift) {
        const __int128 sum = (__int128)a * a_ns + (__int128)b * b_ns;
        const __int128 most = (__int128)2000000000000000 << shift;
        return sum >= most ? 2 * PIE_ONE : sum <= -most ? -2 * PIE_ONE
            : (int64_t)(sum * ((int64_t)1 << (56 - shift)) / 1000000000000000);
    }
    #endif
    """
    const int64_t PIE_ONE
    const int64_t PIE_MOST_ADJUSTMENT
    const int64_t PIE_LOW
    const int64_t PIE_NEVER_BEFORE
    const int64_t PIE_CERTAIN_AT
    const int64_t *pie_bounds
    const unsigned char *pie_shifts
    int64_t pie_weigh(int64_t a, int64_t a_ns, int64_t b, int64_t b_ns, unsigned int shift) noexcept nogil


cdef inline uint32_t pie_band(int64_t probability) noexcept nogil:
    """Which of the tunings holds at a probability."""
    cdef uint32_t band = 0
    while band < 6 and probability >= pie_bounds[band]:
        band += 1
    return band


cdef inline int64_t pie_adjustment(QueueSettings *queue, PieState *pie, uint32_t band) noexcept nogil:
    """alpha * (delay - target) + beta * (delay - old delay), tuned."""
    cdef int64_t adjustment = pie_weigh(
        queue.alpha_microhertz, pie.delay_ns - queue.target_ns, queue.beta_microhertz,
        pie.delay_ns - pie.old_delay_ns, pie_shifts[band],
    )
    return (
        PIE_MOST_ADJUSTMENT if queue.caps and band == 6 and adjustment > PIE_MOST_ADJUSTMENT else adjustment
    )


cdef inline int64_t pie_like_steps(
    PieState *pie, int64_t adjustment, uint32_t band, int64_t due
) noexcept nogil:
    """How many of the updates that are due, at least one, begin in this band when each adds the same."""
    cdef int64_t steps
    if adjustment == 0:
        return due
    if adjustment > 0:
        steps = (pie_bounds[band] - pie.probability + adjustment - 1) // adjustment
    else:
        steps = (pie.probability - (pie_bounds[band - 1] if band else 0)) // -adjustment + 1
    if steps < 1:
        steps = 1
    return steps if steps < due else due


cdef inline void pie_start(QueueSettings *queue, PieState *pie, int64_t now_ns) noexcept nogil:
    pie.probability = 0
    pie.accumulated = 0
    pie.old_delay_ns = 0
    pie.update_ns = now_ns + queue.interval_ns
    pie.burst_left_ns = queue.burst_ns


cdef inline void pie_update(QueueSettings *queue, PieState *pie, int64_t now_ns) noexcept nogil:
    """Make the updates that are due by now: section 4.2, and calculate_drop_prob of appendix A."""
    cdef int64_t due, steps, adjustment
    cdef uint32_t band
    cdef bint relieved
    if pie.update_ns == 0 or now_ns < pie.update_ns:
        return
    due = (now_ns - pie.update_ns) // queue.interval_ns + 1
    pie.update_ns += due * queue.interval_ns
    if pie.burst_left_ns // queue.interval_ns < due:
        pie.burst_left_ns = 0
    else:
        pie.burst_left_ns -= due * queue.interval_ns
    while due:
        band = pie_band(pie.probability)
        adjustment = pie_adjustment(queue, pie, band)
        relieved = pie.delay_ns < queue.target_ns >> 1 and pie.old_delay_ns < queue.target_ns >> 1
        steps = 1
        if pie.old_delay_ns == pie.delay_ns:
            if pie.probability == 0 and adjustment <= 0 or pie.probability == PIE_ONE and adjustment >= 0:
                break
            if not relieved:
                steps = pie_like_steps(pie, adjustment, band, due)
        pie.probability += steps * adjustment
        if relieved:
            pie.probability -= pie.probability >> PIE_DECAY_SHIFT
        if pie.probability < 0:
            pie.probability = 0
        elif pie.probability > PIE_ONE:
            pie.probability = PIE_ONE
        pie.old_delay_ns = pie.delay_ns
        due -= steps


cdef inline uint64_t pie_fraction(PieState *pie) noexcept nogil:
    """The probability in 1/2^64; UINT64_MAX stands for 1."""
    return UINT64_MAX if pie.probability == PIE_ONE else <uint64_t>pie.probability << (64 - PIE_FRACTION_BITS)


cdef inline bint pie_judges(
    QueueSettings *queue, PieState *pie, uint64_t bytes, uint64_t *random_state
) noexcept nogil:
    """drop_early of section 4.1 and appendix A, with 5.4: whether an arriving packet is to be punished."""
    if (
        pie.burst_left_ns > 0
        or (pie.old_delay_ns < queue.target_ns >> 1 and pie.probability < PIE_LOW)
        or bytes <= 2 * PIE_TYPICAL_BYTES
    ):
        return False
    if pie.probability == 0:
        pie.accumulated = 0
    if queue.derandomizes:
        pie.accumulated += <uint64_t>pie.probability
        if pie.accumulated < <uint64_t>PIE_NEVER_BEFORE:
            return False
    if (
        pie.accumulated < <uint64_t>PIE_CERTAIN_AT
        and <int64_t>(random_next(random_state) >> 8) >= pie.probability
    ):
        return False
    pie.accumulated = 0
    return True


cdef inline bint pie_is_filled(Pipe *pipe, FlowQueue *queue) noexcept nogil:
    """Whether a third of the limit is taken, or, of one of many flows, of its even share of it."""
    cdef uint64_t shares = 3 * <uint64_t>pipe.shaper.queue_count
    return (
        queue.packets * shares >= pipe.queue_limit_packets or queue.bytes * shares >= pipe.queue_limit_bytes
    )


cdef inline Packet *pie_admit(
    Worker *worker, Pipe *pipe, FlowQueue *queue, Packet *packet, int64_t now_ns
) noexcept nogil:
    """Judge a packet that comes to a queue: what may be queued, NULL where nothing is left of it."""
    cdef QueueSettings *settings = &pipe.shaper.queue
    cdef PieState *pie = &queue.judge.pie
    if pie.update_ns == 0 and (not settings.turns_off or pie_is_filled(pipe, queue)):
        pie_start(settings, pie, now_ns)
        if settings.turns_off:  # who turns it on is spared
            return packet
    if pie.update_ns == 0:
        return packet
    pie_update(settings, pie, now_ns)
    if pie_judges(settings, pie, queue.bytes, &pipe.shaper.random_state):
        packet = packet_punish(
            worker, pipe, packet, settings.ecn != 0 and <uint64_t>pie.probability < settings.probability >> 8
        )
    if (
        pie.probability == 0 and pie.delay_ns < settings.target_ns >> 1
        and pie.old_delay_ns < settings.target_ns >> 1
    ):
        pie.burst_left_ns = settings.burst_ns
        if settings.turns_off and queue.packets == 0:
            pie.update_ns = 0
    return packet


cdef inline Packet *pie_take(Pipe *pipe, FlowQueue *queue, int64_t now_ns) noexcept nogil:
    """The next packet of one queue to be sent; NULL where none is left."""
    cdef PieState *pie = &queue.judge.pie
    cdef Packet *packet
    pie_update(&pipe.shaper.queue, pie, now_ns)
    packet = queue_pop(pipe.shaper, queue)
    if packet is not NULL:
        pie.delay_ns = now_ns - packet.time_ns if queue.packets else 0
    return packet


cdef inline void pie_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    if waits and queue_is_full(pipe, packet.total_length):
        queue_drop(worker, pipe, packet)
        return
    packet = pie_admit(worker, pipe, pipe.shaper.queues, packet, packet.time_ns)
    if packet is not NULL:
        queue_push(pipe.shaper, pipe.shaper.queues, packet)


cdef inline Packet *pie_dequeue(Pipe *pipe, int64_t now_ns) noexcept nogil:
    return pie_take(pipe, pipe.shaper.queues, now_ns)
