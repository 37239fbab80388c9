# A pipe's transmitter: when a frame has left.
#
# Service takes bits / bandwidth, exactly: whole nanoseconds and a carried remainder in 1/bandwidth
# nanoseconds. `bits` are those of the Ethernet frame without preamble, gap and checksum, plus the overhead
# (which may be negative), in whole cells where there are cells (ATM: 48 B with 5 B more each).
#
# With a burst it is a token bucket: what the link could have sent while it was idle, up to so many bytes,
# leaves at once. departure = max(start, v), v = max(last v, start - burst / bandwidth) + service: the virtual
# scheduling form of ITU-T I.371's algorithm. Without a burst v is the departure. A recorded bandwidth: see
# rate_trace.pxd. Whatever the rate, impairments/airtime.pxd may add to the service. What it adds may end in
# another step of a recording, so the transmission is rounded up to the nanosecond there.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..state.network cimport Pipe
from ..state.shapers cimport Shaper
from .impairments.airtime cimport airtime_take
from .rate_trace cimport NANOBITS_IN_BYTE, trace_transmit


cdef inline uint64_t frame_wire_bytes(Pipe *pipe, uint32_t length) noexcept nogil:
    """What a frame of `length` bytes takes on the wire."""
    cdef int64_t bytes = <int64_t>length + pipe.overhead_bytes
    cdef Shaper *shaper = pipe.shaper
    if bytes < 0:
        bytes = 0
    if shaper is NULL or shaper.cell_bytes == 0:
        return <uint64_t>bytes
    return (
        (<uint64_t>bytes + shaper.cell_bytes - 1) // shaper.cell_bytes
        * (shaper.cell_bytes + shaper.cell_overhead_bytes)
    )


cdef inline void transmit(Pipe *pipe, int64_t *time_ns, uint64_t *remainder, uint32_t length) noexcept nogil:
    """Move an exact time on by the service time of a frame of `length` bytes."""
    cdef uint64_t nanobits
    if length != pipe.cached_length:
        nanobits = frame_wire_bytes(pipe, length) * NANOBITS_IN_BYTE
        pipe.cached_ns = nanobits // pipe.bandwidth_bps
        pipe.cached_remainder = nanobits % pipe.bandwidth_bps
        pipe.cached_length = length
    time_ns[0] += pipe.cached_ns
    remainder[0] += pipe.cached_remainder
    if remainder[0] >= pipe.bandwidth_bps:
        remainder[0] -= pipe.bandwidth_bps
        time_ns[0] += 1


cdef inline int64_t transmit_next(
    Pipe *pipe, uint32_t length, int64_t time_ns, bint waits, uint64_t *start_remainder
) noexcept nogil:
    """Serve a frame now, or after what it waits for; when that starts, and the remainder of it."""
    if not waits:
        pipe.departure_ns = time_ns
        pipe.departure_remainder = 0
    cdef int64_t start_ns = pipe.departure_ns
    start_remainder[0] = pipe.departure_remainder
    transmit(pipe, &pipe.departure_ns, &pipe.departure_remainder, length)
    return start_ns


cdef inline bint transmitter_is_busy(Pipe *pipe, int64_t time_ns) noexcept nogil:
    """Whether it is still in service after the nanosecond `time_ns` has begun."""
    return pipe.departure_ns > time_ns or (pipe.departure_ns == time_ns and pipe.departure_remainder)


cdef inline void transmitter_round_up(Pipe *pipe) noexcept nogil:
    """Carry no remainder over into another rate, in whose fractions it would mean another time."""
    if pipe.departure_remainder:
        pipe.departure_ns += 1
        pipe.departure_remainder = 0


cdef inline void burst_credit(
    Pipe *pipe, int64_t *time_ns, uint64_t *remainder, int64_t now_ns
) noexcept nogil:
    """Move the transmitter's time, if it is further back, up to where the bucket is just full at `now_ns`."""
    cdef uint64_t nanobits = pipe.shaper.burst_bytes * NANOBITS_IN_BYTE
    cdef uint64_t full_remainder = nanobits % pipe.bandwidth_bps
    cdef int64_t full_ns = now_ns - <int64_t>(nanobits // pipe.bandwidth_bps)
    if full_remainder:
        full_ns -= 1
        full_remainder = pipe.bandwidth_bps - full_remainder
    if full_ns > time_ns[0] or (full_ns == time_ns[0] and full_remainder > remainder[0]):
        time_ns[0] = full_ns
        remainder[0] = full_remainder


cdef inline int64_t shaper_transmit(
    Pipe *pipe, int64_t start_ns, uint64_t start_remainder, uint32_t length
) noexcept nogil:
    """Serve a frame from its start on: the whole nanosecond of its departure.

    The transmitter's time moves on.
    """
    cdef Shaper *shaper = pipe.shaper
    if shaper.burst_bytes and pipe.bandwidth_bps:
        burst_credit(pipe, &pipe.departure_ns, &pipe.departure_remainder, start_ns)
    else:
        pipe.departure_ns = start_ns
        pipe.departure_remainder = start_remainder
    if shaper.trace.table is not NULL:
        trace_transmit(
            &shaper.trace, &pipe.departure_ns, &pipe.departure_remainder, frame_wire_bytes(pipe, length)
        )
    elif pipe.bandwidth_bps:
        transmit(pipe, &pipe.departure_ns, &pipe.departure_remainder, length)
    if shaper.airtime.distribution is not NULL and shaper.trace.table is not NULL:
        transmitter_round_up(pipe)
    pipe.departure_ns += airtime_take(&shaper.airtime)
    return pipe.departure_ns if pipe.departure_ns > start_ns else start_ns
