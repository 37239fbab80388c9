# red: random early detection (Floyd, Jacobson, "Random early detection gateways for congestion avoidance",
# IEEE/ACM Transactions on Networking 1(4), 1993; RFC 2309). The queue's average length, in bytes, decides:
# below `least_bytes` nothing is dropped, from `most_bytes` on everything that comes, between them packets are
# dropped with a probability that rises to `probability`, spread evenly by the count of packets since the last
# drop. `gentle` (Floyd, "Recommendation on using the gentle_ variant of RED", 2000) lets it rise from there
# to 1 at twice `most_bytes` in place of the leap. Reads: least_bytes, most_bytes, probability, average_shift
# (the average moves by 1/2^this of what is new), gentle, ecn (below most_bytes a packet that can be marked is
# marked in place of a drop: RFC 3168, section 7), the pipe's limits (drop-tail).
#
# By figure 2 of the paper. A packet that finds the queue empty and the transmitter idle ages the average by
# as many packets of 512 B (dummynet's typical packet) as could have been sent since the last departure.
# Lengths are those of what waits, without what is in service. Long packets are dropped as often as short ones
# (RFC 7141). A recorded bandwidth has no rate to age by: there an idle time counts as one packet that finds
# nothing.
#
# Limits: queues and thresholds below 2^31 bytes. It needs its thresholds set for the link and the traffic;
# codel and pie do not. The average is in 1/2^32 bytes, probabilities in 1/2^64, both rounded down.

from libc.stdint cimport UINT32_MAX, UINT64_MAX, int64_t, uint32_t, uint64_t

from ...machine.platform cimport is_unlikely
from ...machine.random cimport divide_fraction, multiply_divide, multiply_high, random_happens
from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport QueueSettings, RedState, Shaper
from ..rate_trace cimport NANOBITS_IN_BYTE
from ..transmitter cimport frame_wire_bytes
from .ecn cimport packet_punish
from .flow_queue cimport queue_drop, queue_is_full, queue_pop, queue_push

cdef enum:
    RED_TYPICAL_BYTES = 512
    RED_FRACTION_BITS = 32


cdef inline uint64_t red_age(uint64_t average, uint32_t shift, uint64_t packets) noexcept nogil:
    """The average after so many packets that found the queue empty: times (1 - 1/2^shift)^packets, by
    squaring.
    """
    cdef uint64_t factor
    if packets == 0:
        return average
    if shift == 0:
        return 0
    factor = UINT64_MAX - (<uint64_t>1 << (64 - shift)) + 1
    while packets and average:
        if packets & 1:
            average = multiply_high(average, factor)
        factor = multiply_high(factor, factor)
        packets >>= 1
    return average


cdef inline uint64_t red_idle_packets(Pipe *pipe, int64_t now_ns) noexcept nogil:
    """How many typical packets could have been sent since the last departure."""
    cdef uint64_t nanobits = frame_wire_bytes(pipe, RED_TYPICAL_BYTES) * NANOBITS_IN_BYTE
    cdef uint64_t idle_ns = <uint64_t>(now_ns - pipe.departure_ns)
    if pipe.bandwidth_bps == 0:
        return 1
    if nanobits == 0 or multiply_high(idle_ns, pipe.bandwidth_bps) >= nanobits:
        return UINT64_MAX
    return multiply_divide(idle_ns, pipe.bandwidth_bps, nanobits)


cdef inline void red_measure(Pipe *pipe, RedState *red, int64_t now_ns, bint waits) noexcept nogil:
    """Take the queue's length at an arrival into the average."""
    cdef Shaper *shaper = pipe.shaper
    cdef uint32_t shift = shaper.queue.average_shift
    cdef uint64_t bytes = shaper.bytes
    if not waits:
        red.average = red_age(red.average, shift, red_idle_packets(pipe, now_ns))
        return
    if is_unlikely(bytes > UINT32_MAX):
        bytes = UINT32_MAX
    red.average += (bytes << (RED_FRACTION_BITS - shift)) - (red.average >> shift)


cdef inline uint64_t red_probability(QueueSettings *queue, uint64_t average) noexcept nogil:
    """Of dropping at this average, before the count: 0 below the thresholds, UINT64_MAX (always) above
    them.
    """
    cdef uint64_t least = queue.least_bytes << RED_FRACTION_BITS
    cdef uint64_t most = queue.most_bytes << RED_FRACTION_BITS
    if average < least:
        return 0
    if average < most:
        return multiply_divide(queue.probability, average - least, most - least)
    if not queue.gentle or average - most >= most:
        return UINT64_MAX
    return queue.probability + multiply_divide(UINT64_MAX - queue.probability, average - most, most)


cdef inline bint red_judges(Shaper *shaper, RedState *red) noexcept nogil:
    """Whether an arriving packet is to be punished: with p / (1 - count * p), so that the gaps are even."""
    cdef uint64_t probability = red_probability(&shaper.queue, red.average)
    cdef uint64_t left
    if red.average < shaper.queue.least_bytes << RED_FRACTION_BITS:
        red.since_drop = -1
        return False
    red.since_drop += 1
    if probability < UINT64_MAX:
        if multiply_high(probability, <uint64_t>red.since_drop):
            probability = UINT64_MAX
        else:
            left = UINT64_MAX - probability * <uint64_t>red.since_drop
            probability = UINT64_MAX if probability >= left else divide_fraction(probability, left)
    if not random_happens(&shaper.random_state, probability):
        return False
    red.since_drop = 0
    return True


cdef inline void red_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    cdef Shaper *shaper = pipe.shaper
    cdef RedState *red = &shaper.queues.judge.red
    if waits or shaper.packets == 0:  # else it has been judged: what waited is queued anew
        red_measure(pipe, red, packet.time_ns, waits)
        if waits and queue_is_full(pipe, packet.total_length):
            queue_drop(worker, pipe, packet)
            return
        if red_judges(shaper, red):
            packet = packet_punish(
                worker, pipe, packet,
                shaper.queue.ecn != 0 and red.average < shaper.queue.most_bytes << RED_FRACTION_BITS,
            )
            if packet is NULL:
                return
    queue_push(shaper, shaper.queues, packet)


cdef inline Packet *red_dequeue(Pipe *pipe) noexcept nogil:
    return queue_pop(pipe.shaper, pipe.shaper.queues)
