# gilbert_elliott: loss in bursts, by a chain of a good and a bad state (Gilbert, "Capacity of a burst-noise
# channel", 1960; Elliott, 1963; the names are those of Hasslinger and Hohlfeld, "The Gilbert-Elliott model
# for packet loss in real time services on the Internet", 2008).
#
# For each packet first the state may change: from good to bad with p, from bad to good with r; then it is
# lost with 1-k in the good state and with 1-h in the bad one. Bursts in the bad state last 1/r packets in the
# mean, and the share of bad ones is p / (p + r). thresholds: p, r, 1-h, 1-k. Simple Gilbert: 1-k = 0;
# Gilbert's two-parameter form: 1-h = 1.

from ...machine.random cimport random_happens
from ...state.shapers cimport Loss

cdef enum:
    STATE_GOOD = 0
    STATE_BAD = 1


cdef inline bint gilbert_elliott_loses(Loss *loss) noexcept nogil:
    if loss.state == STATE_GOOD:
        if random_happens(&loss.choice.state, loss.thresholds[0]):
            loss.state = STATE_BAD
    elif random_happens(&loss.choice.state, loss.thresholds[1]):
        loss.state = STATE_GOOD
    return random_happens(&loss.choice.state, loss.thresholds[2 if loss.state == STATE_BAD else 3])
