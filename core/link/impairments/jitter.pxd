# jitter: what is added to a pipe's delay, packet by packet, from a distribution (uniform, normal, pareto,
# paretonormal, or a user's own), correlated if asked for (random.pxd). A sum below zero counts as no delay.
# Packets keep their order, so that one that is quick waits for the one before it, unless they may overtake.

from libc.stdint cimport int64_t

from ...machine.random cimport choice_draw, distribution_value
from ...state.shapers cimport Jitter


cdef inline int64_t jitter_delay(Jitter *jitter, int64_t delay_ns) noexcept nogil:
    """The delay of one packet."""
    if jitter.distribution is not NULL:
        delay_ns += distribution_value(jitter.distribution, choice_draw(&jitter.choice))
    return delay_ns if delay_ns > 0 else 0
