# Which tables a shaper holds that pipes share (shared.pxd): how much they take, and letting go of them.

from libc.stdint cimport uint64_t

from ..machine.shared cimport shared_bytes, shared_release
from ..state.shapers cimport Shaper


cdef inline uint64_t table_bytes(Shaper *shaper) noexcept nogil:
    """What the tables that a shaper holds take, each in full."""
    cdef uint64_t total = shared_bytes(shaper.trace.table) + shared_bytes(shaper.loss.trace)
    total += shared_bytes(shaper.airtime.distribution) + shared_bytes(shaper.jitter.distribution)
    return total + shared_bytes(shaper.slots.distribution)


cdef inline void release_tables(Shaper *shaper) noexcept nogil:
    """Let go of all that a shaper, or settings that no pipe has taken over, hold."""
    shared_release(shaper.trace.table)
    shared_release(shaper.loss.trace)
    shared_release(shaper.airtime.distribution)
    shared_release(shaper.jitter.distribution)
    shared_release(shaper.slots.distribution)
