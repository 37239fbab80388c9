# loss: the models that decide a packet's fate on the wire, one at a time. A lost packet has used its
# bandwidth.
#
# random: each with the same probability, correlated with the one before it if asked for (random.pxd).
# gilbert_elliott, markov, recorded: see their rooms. With `marks`, a packet that can be marked (ECN) is
# marked instead.

from ...machine.random cimport choice_happens
from ...state.shapers cimport LOSS_GILBERT_ELLIOTT, LOSS_MARKOV, LOSS_RANDOM, Loss
from .gilbert_elliott cimport gilbert_elliott_loses
from .markov cimport markov_loses
from .recorded cimport recorded_loses


cdef inline bint loss_happens(Loss *loss) noexcept nogil:
    if loss.model == LOSS_RANDOM:
        return choice_happens(&loss.choice)
    if loss.model == LOSS_GILBERT_ELLIOTT:
        return gilbert_elliott_loses(loss)
    if loss.model == LOSS_MARKOV:
        return markov_loses(loss)
    return recorded_loses(loss)
