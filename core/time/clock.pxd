# The engine's one clock: real, dilated (one emulated second in `dilation` real ones), or virtual. Only this
# room reads the host's.

from libc.stdint cimport int64_t

from ..machine.platform cimport host_clock_ns
from ..state.records cimport Clock


cdef inline int64_t clock_from_host(Clock *clock, int64_t host_ns) noexcept nogil:
    """The engine's time at a time of the host's clock, in real or dilated time."""
    return (host_ns - clock.epoch_ns) // clock.dilation


cdef inline int64_t clock_now(Clock *clock) noexcept nogil:
    """Nanoseconds since the engine's start. In virtual time: the time that it has been run to."""
    if clock.dilation == 0 or clock.epoch_ns < 0:
        return clock.now_ns
    return clock_from_host(clock, host_clock_ns())


cdef inline int64_t clock_to_host(Clock *clock, int64_t time_ns) noexcept nogil:
    """The host's clock at an engine time that lies ahead, in real or dilated time."""
    return clock.epoch_ns + time_ns * clock.dilation
