# recorded: loss from a recording: one fate a packet, in order, from the start again at its end.

from ...state.shapers cimport Loss


cdef inline bint recorded_loses(Loss *loss) noexcept nogil:
    cdef bint lost = loss.trace.fates[loss.trace_position] != 0
    loss.trace_position += 1
    if loss.trace_position == loss.trace.count:
        loss.trace_position = 0
    return lost
