# The clock of wfq and qfq: virtual times, and the memory that both keep beside their queues.
#
# Virtual times are bytes for a weight of one, in 1/2^30, modulo 2^64. Only the signed difference of two of
# them counts, which is right while those that are compared lie within 2^63 of each other: see the two rooms.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from ...machine.platform cimport must_zero
from ...state.shapers cimport FairClock, Shaper

cdef enum:
    VIRTUAL_SHIFT = 30
    # bytes: the clock wraps early in every run, so that what could not bear it is soon found
    BEGINS_BEFORE_WRAP = 1 << 17


cdef inline void fair_begin(Shaper *shaper) noexcept nogil:
    shaper.fair = <FairClock *>must_zero(sizeof(FairClock))
    shaper.fair.now = 0 - (<uint64_t>BEGINS_BEFORE_WRAP << VIRTUAL_SHIFT)


cdef inline void fair_end(Shaper *shaper) noexcept nogil:
    if shaper.fair is not NULL:
        free(shaper.fair.waiting.queues)
        free(shaper.fair.eligible.queues)
        free(shaper.fair.groups)
        free(shaper.fair)
        shaper.fair = NULL


cdef inline uint64_t virtual_cost(uint32_t bytes, uint64_t weight) noexcept nogil:
    """How far so many bytes move a virtual time on, rounded down."""
    return (<uint64_t>bytes << VIRTUAL_SHIFT) // weight


cdef inline bint virtual_before(uint64_t a, uint64_t b) noexcept nogil:
    return <int64_t>(a - b) < 0
