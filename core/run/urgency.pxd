# How much of its CPU the thread of a data path takes from others.

from libc.stdint cimport int64_t

from .waiting cimport come_first, give_way

cdef enum:
    FIRST_NS = 18000000            # awake at real-time priority, after which others get their share
    OTHERS_SHARE = 15              # of the time at real-time priority: one in so many
    FIRST_AFTER_BEHIND_NS = 60000000  # as an ordinary thread


# What the thread of a data path may take from others. Real-time priority makes what else runs on a CPU delay
# packets by microseconds; as the most urgent of ordinary threads it would wait for milliseconds until others
# have had their turn. The kernel lets real-time threads have 95 % of a second and then stops them for the
# other 50 ms: all of them before Linux 6.12, since then those that ordinary threads starve beside. So they
# are given their share here, a millisecond at a time: while asleep, and else as an ordinary thread, which
# with the highest urgency is seldom made to wait so soon. It has the priority as long as it keeps up.
cdef struct Priority:
    bint permitted
    bint first
    int64_t owed_ns                # to others, times OTHERS_SHARE
    int64_t seen_ns                # host clock: until when that is reckoned


cdef inline void priority_take(Priority *priority) noexcept nogil:
    priority.first = priority.permitted = come_first()


cdef inline void priority_reckon(Priority *priority, int64_t host_ns, bint awake) noexcept nogil:
    """Reckon with the time since it was done last, all of it spent awake or asleep."""
    cdef int64_t elapsed_ns = host_ns - priority.seen_ns
    priority.seen_ns = host_ns
    if awake and priority.first:
        priority.owed_ns += elapsed_ns
    else:
        priority.owed_ns -= elapsed_ns * OTHERS_SHARE
        if priority.owed_ns < 0:
            priority.owed_ns = 0


cdef inline void priority_review(Priority *priority, int64_t host_ns, bint behind) noexcept nogil:
    if not priority.permitted:
        return
    priority_reckon(priority, host_ns, True)
    if priority.first:
        if behind or priority.owed_ns > FIRST_NS:
            give_way()
            priority.first = False
            if behind:
                priority.owed_ns = <int64_t>FIRST_AFTER_BEHIND_NS * OTHERS_SHARE
    elif not behind and priority.owed_ns == 0:
        priority_take(priority)
