# Conversations: what sockets answer each other with at one instant.
#
# Over links that take no time a question and its answer are at one instant, and two programs that answer each
# other at once would keep time from ever moving on. So a packet carries the number of its turn in the
# conversation at this instant (Packet.turns): an answer has one more than what it answers. An answer that
# would have more than TURNS_AT_ONCE waits for the next nanosecond, and with it all that its socket sends
# meanwhile. Being passed on is no turn, however many routers there are, and whatever takes time on the way
# begins anew.
#
# In real time the next nanosecond is long over when an answer has been made. There the conversation goes on
# at the host's time, so that it keeps up with all else.

from libc.stdint cimport int64_t

from ..state.network cimport Worker
from ..time.clock cimport clock_now

cdef enum:
    TURNS_AT_ONCE = 64


cdef inline int64_t conversation_resumes_ns(Worker *worker, int64_t time_ns) noexcept nogil:
    """When a conversation that has had all its turns at one time goes on."""
    cdef int64_t now_ns
    if worker.clock.dilation:
        now_ns = clock_now(&worker.clock)
        if now_ns > time_ns:
            return now_ns
    return time_ns + 1
