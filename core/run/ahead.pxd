# How far nodes may run ahead of the worker's instant, so that packets are handled in vectors, though Python
# is to find the network at one instant whenever it looks.
#
# A run that stops at events must not find out about one after some node has gone past it. So it is known in
# advance that none comes before `worker.quiet_ns`, and nobody goes that far: a flow is not done before its
# last packet is sent, and no neighbour is given up before its timer fires. Whatever else posts events has to
# have its say in quiet_until(). Until then the two ends of a flow have nothing to tell each other either.
#
# A run may also be left at any time, to be gone on with later. Before something is changed then, all nodes
# are brought to the time that the foremost has come to (Switch._settle). So that this is soon done, none goes
# further than `worker.stride_ns`: about the time that so far took STRIDES * PACE_WORK packets. Both bounds
# depend on what the network has done and never on the host's clock, so that vectors are the same in every
# run.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..stack.flow cimport flow_quiet_until
from ..stack.neighbor cimport NEIGHBOR_REQUESTS, request_interval_ns
from ..state.network cimport Worker

cdef enum:
    PACE_WORK = 1 << 18            # packets and vectors that the pace is measured over
    STRIDES = 16


cdef inline int64_t quiet_until(Worker *worker) noexcept nogil:
    """A time before which nothing is posted, unless Python changes something."""
    cdef int64_t quiet_ns = worker.instant_ns + NEIGHBOR_REQUESTS * request_interval_ns()
    cdef int64_t flow_ns
    cdef uint32_t i
    for i in range(worker.flow_high):
        if worker.flows[i].used and not worker.flows[i].done:
            flow_ns = flow_quiet_until(&worker.flows[i])
            if flow_ns < quiet_ns:
                quiet_ns = flow_ns
    for i in range(worker.node_count):
        if worker.nodes[i].neighbor_due_ns < quiet_ns:
            quiet_ns = worker.nodes[i].neighbor_due_ns
    return quiet_ns


cdef inline void worker_find_stride(Worker *worker) noexcept nogil:
    """Learn from the work of late how far nodes may be apart."""
    cdef uint64_t work = worker.hop_packets + worker.vectors
    if work - worker.pace_work >= PACE_WORK:
        worker.stride_ns = STRIDES * (worker.instant_ns - worker.pace_ns) + 1
        worker.pace_work = work
        worker.pace_ns = worker.instant_ns


cdef inline void worker_find_quiet(Worker *worker) noexcept nogil:
    """Find out again how long nothing will be posted, where that is over and enough has been done to be
    worth the look.
    """
    if worker.instant_ns >= worker.quiet_ns and worker.turns >= worker.quiet_turns:
        worker.quiet_ns = quiet_until(worker)
        worker.quiet_turns = worker.turns + (worker.flow_high + worker.node_count) // 8


cdef inline void worker_disquiet(Worker *worker) noexcept nogil:
    """Take note that Python has begun something that may post an event at any time."""
    worker.quiet_ns = 0
    worker.quiet_turns = 0
