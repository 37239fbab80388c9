# Who looks at what leaves a pipe, vector by vector, before the receiving node handles it. None of them
# changes it.

from libc.stdint cimport uint32_t

from ..state.network cimport OBSERVE_CAPTURE, OBSERVE_LATENESS, OBSERVE_PROOF, Pipe, Worker
from ..state.packets cimport Packet
from .capture cimport capture_vector
from .lateness cimport lateness_vector
from .proof cimport proof_vector


cdef inline void pipe_observe(Worker *worker, Pipe *pipe, Packet **vector, uint32_t count) noexcept nogil:
    """Show a vector that arrives by a pipe to each that has asked for it; packet.time_ns is the arrival."""
    if pipe.observed & OBSERVE_LATENESS:
        lateness_vector(worker, vector, count)
    if pipe.observed & OBSERVE_CAPTURE:
        capture_vector(worker, pipe, vector, count)
    if pipe.observed & OBSERVE_PROOF:
        proof_vector(worker, pipe, vector, count)
