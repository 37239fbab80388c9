# reorder: now and then a packet is spared the delay and so overtakes those before it, as with Linux's netem:
# with a probability, correlated if asked for (random.pxd), and only every `gap`-th packet if there is a gap.

from ...machine.random cimport choice_happens
from ...state.shapers cimport Shaper


cdef inline bint reorder_happens(Shaper *shaper) noexcept nogil:
    if shaper.reorder.threshold == 0:
        return False
    shaper.reorder_count += 1
    if shaper.reorder_count < shaper.reorder_gap or not choice_happens(&shaper.reorder):
        return False
    shaper.reorder_count = 0
    shaper.reordered_packets += 1
    return True
