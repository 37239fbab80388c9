# airtime: how long a packet occupies the link beside its transmission, packet by packet, from a distribution:
# medium access, contention and link-level retransmissions of a radio or a shared cable, as the delay profiles
# of dummynet (ipfw(8)). It is part of the service, so that those behind wait for it. A packet whose draw lies
# at `loss_threshold` or above was sent in vain: it has used all its time and is lost.
#
# Differs from dummynet in that nothing is sampled: straight lines between the points. Cousins: jitter delays
# packets and leaves the link to others; loss does not ask how long a packet took.

from libc.stdint cimport UINT64_MAX, int64_t, uint64_t

from ...machine.random cimport distribution_value, random_next
from ...state.shapers cimport Airtime


cdef inline int64_t airtime_take(Airtime *airtime) noexcept nogil:
    """How much longer the next packet takes; `loses` then says whether in vain."""
    cdef uint64_t draw
    if airtime.distribution is NULL:
        airtime.loses = 0
        return 0
    draw = random_next(&airtime.random_state)
    airtime.loses = draw >= airtime.loss_threshold and airtime.loss_threshold != UINT64_MAX
    return distribution_value(airtime.distribution, draw)
