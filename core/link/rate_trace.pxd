# A bandwidth that follows a recording: steps of time and rate (CSV), or opportunities to deliver (mahimahi).
#
# Steps: the frame's bits are counted off at each step's rate, exactly: work is counted in billionths of a
# bit, of which a rate of r bit/s does r a nanosecond, so a step that ends amid a frame leaves a whole number
# to be done. A rate of 0 is an outage. Opportunities (Netravali et al., "Mahimahi", USENIX ATC 2015): each
# lets through as many bytes, 1,500 as recorded; a frame leaves at the one that takes its last byte, what is
# left of it goes to the next frame that waits, and is lost where none does. A recording starts with the
# engine's time and repeats after its period.

from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.string cimport memcmp

from ..state.shapers cimport RateTable, RateTrace

cdef enum:
    NANOBITS_IN_BYTE = 8000000000


cdef inline int64_t trace_step_end(RateTrace *trace) noexcept nogil:
    """When the present step is over."""
    if trace.position + 1 < trace.table.count:
        return trace.lap_ns + trace.table.times_ns[trace.position + 1]
    return trace.lap_ns + trace.table.period_ns if trace.table.period_ns else INT64_MAX


cdef inline void trace_step(RateTrace *trace) noexcept nogil:
    trace.position += 1
    trace.left_bytes = trace.table.opportunity_bytes
    if trace.position == trace.table.count:
        trace.position = 0
        trace.lap_ns += trace.table.period_ns


cdef inline void trace_rewind(RateTrace *trace) noexcept nogil:
    """Go back to the engine's start, from where the next frame finds its place."""
    trace.position = 0
    trace.lap_ns = 0
    trace.left_bytes = trace.table.opportunity_bytes if trace.table is not NULL else 0


cdef inline void trace_skip_laps(RateTrace *trace, int64_t time_ns) noexcept nogil:
    """Pass over the laps that are over by then."""
    cdef int64_t laps
    if trace.table.period_ns and time_ns - trace.lap_ns > trace.table.period_ns:
        # an opportunity at the very end of a lap is not over
        laps = (time_ns - trace.lap_ns - 1) // trace.table.period_ns
        trace.lap_ns += laps * trace.table.period_ns
        trace.position = 0
        trace.left_bytes = trace.table.opportunity_bytes


cdef inline void trace_transmit(
    RateTrace *trace, int64_t *time_ns, uint64_t *remainder, uint64_t length
) noexcept nogil:
    """Move an exact time on to the departure of `length` bytes whose service starts there (remainder: in
    1/rate ns).
    """
    cdef uint64_t work, rate, whole
    cdef int64_t end_ns, laps
    if trace.table.rates_bps is NULL:
        trace_deliver(trace, time_ns, length)
        return
    trace_skip_laps(trace, time_ns[0])
    while trace_step_end(trace) <= time_ns[0]:
        trace_step(trace)
    work = length * NANOBITS_IN_BYTE + remainder[0]
    while work:
        rate = trace.table.rates_bps[trace.position]
        end_ns = trace_step_end(trace)
        if rate:
            whole = work // rate
            if whole < <uint64_t>(end_ns - time_ns[0]):
                time_ns[0] += <int64_t>whole
                remainder[0] = work % rate
                return
            work -= <uint64_t>(end_ns - time_ns[0]) * rate
        time_ns[0] = end_ns
        remainder[0] = 0
        trace_step(trace)
        if trace.position == 0 and work > trace.table.lap_work:
            laps = <int64_t>((work - 1) // trace.table.lap_work)
            work -= <uint64_t>laps * trace.table.lap_work
            trace.lap_ns += laps * trace.table.period_ns
            time_ns[0] = trace.lap_ns


cdef inline bint rates_are_same(RateTable *a, RateTable *b) noexcept nogil:
    """Whether two recordings say the same, so that the place in one is the place in the other."""
    if a == b or a is NULL or b is NULL:
        return a == b
    return (
        a.count == b.count and a.period_ns == b.period_ns and a.opportunity_bytes == b.opportunity_bytes
        and (a.rates_bps is NULL) == (b.rates_bps is NULL)
        and memcmp(a.times_ns, b.times_ns, a.count * sizeof(int64_t)) == 0
        and (a.rates_bps is NULL or memcmp(a.rates_bps, b.rates_bps, a.count * sizeof(uint64_t)) == 0)
    )


cdef inline void trace_deliver(RateTrace *trace, int64_t *time_ns, uint64_t length) noexcept nogil:
    """Move a time on to the opportunity that takes the last of `length` bytes."""
    trace_skip_laps(trace, time_ns[0])
    while trace.lap_ns + trace.table.times_ns[trace.position] < time_ns[0]:
        trace_step(trace)
    while length > trace.left_bytes:
        length -= trace.left_bytes
        trace_step(trace)
    trace.left_bytes -= length
    time_ns[0] = trace.lap_ns + trace.table.times_ns[trace.position]
