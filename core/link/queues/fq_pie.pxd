# fq_pie: PIE on each of many flows, which share the link evenly (Ramakrishnan, Bhasi, Saicharan, Monis,
# Patil, Tahiliani, "FQ-PIE queue discipline in the Linux kernel: design, implementation and challenges", IEEE
# LCN 2019): the scheduler of RFC 8290, and RFC 8033 with a probability, a burst allowance and time stamps of
# its own for each flow. So also dummynet's FQ-PIE. Reads: flows (1,024), quantum_bytes (1,514), mask;
# target_ns (15 ms), interval_ns (15 ms), burst_ns (150 ms), ecn, probability (10 %), alpha_microhertz,
# beta_microhertz, caps, derandomizes, as pie does; turns_off, where the limit that is to be filled is a
# flow's even share; the pipe's limits, at which the flow with the most bytes loses its oldest packets (Linux
# drops what comes).
#
# Limits and cousins: as fq_codel; pie without flows.

from libc.stdint cimport int64_t

from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.shapers cimport FlowQueue
from .fair cimport fair_leave, fair_push, fair_queue, fair_turn
from .pie cimport pie_admit, pie_take


cdef inline void fq_pie_enqueue(Worker *worker, Pipe *pipe, Packet *packet, bint waits) noexcept nogil:
    cdef FlowQueue *queue = fair_queue(pipe.shaper, packet, waits)
    packet = pie_admit(worker, pipe, queue, packet, packet.time_ns)
    if packet is not NULL:
        fair_push(worker, pipe, queue, packet, waits)


cdef inline Packet *fq_pie_dequeue(Pipe *pipe, int64_t now_ns) noexcept nogil:
    cdef FlowQueue *queue = fair_turn(pipe.shaper)
    cdef Packet *packet
    while queue is not NULL:
        packet = pie_take(pipe, queue, now_ns)
        if packet is not NULL:
            queue.deficit_bytes -= packet.total_length
            return packet
        fair_leave(pipe.shaper, queue)
        queue = fair_turn(pipe.shaper)
    return NULL
