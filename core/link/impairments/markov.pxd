# markov: loss by a chain of four states (Salsano et al., "Definition of a general and intuitive loss model
# for packet networks and its implementation in the Netem module in the Linux kernel", 2009).
#
# Gap periods (isolated losses) and burst periods (many losses) alternate. State 1: received in a gap, 2:
# received in a burst, 3: lost in a burst, 4: lost in a gap, alone. For each packet the state changes first
# and then decides. From 1 to 3 with p13, to 4 with p14; from 2 to 3 with p23; from 3 to 1 with p31, to 2 with
# p32; from 4 always to 1. thresholds: p13, p31, p32, p23, p14, of which p13 + p14 and p31 + p32 are at most
# 1.

from libc.stdint cimport uint64_t

from ...machine.random cimport random_next
from ...state.shapers cimport Loss

cdef enum:
    GAP_RECEIVED = 0               # state 1
    BURST_RECEIVED = 1
    BURST_LOST = 2
    GAP_LOST = 3


cdef inline bint markov_loses(Loss *loss) noexcept nogil:
    cdef uint64_t draw = random_next(&loss.choice.state)
    if loss.state == GAP_RECEIVED:
        if draw < loss.thresholds[0]:
            loss.state = BURST_LOST
        elif draw - loss.thresholds[0] < loss.thresholds[4]:
            loss.state = GAP_LOST
    elif loss.state == BURST_RECEIVED:
        if draw < loss.thresholds[3]:
            loss.state = BURST_LOST
    elif loss.state == BURST_LOST:
        if draw < loss.thresholds[1]:
            loss.state = GAP_RECEIVED
        elif draw - loss.thresholds[1] < loss.thresholds[2]:
            loss.state = BURST_RECEIVED
    else:
        loss.state = GAP_RECEIVED
    return loss.state >= BURST_LOST
