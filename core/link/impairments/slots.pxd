# slots: a medium that serves in bursts (a shared radio, a polled modem), as netem's slots. The line opens at
# times whose distance follows a distribution, and each opening lets through, at once, what has come by then:
# so many packets or bytes, or all.
#
# It stands behind the delay. A packet larger than an opening's bytes goes through an opening of its own.
# After a long silence the openings begin again with the first packet, so that nobody counts them through the
# silence. They also begin again where the link is cut: what was lost there has used none of those to come.

from libc.stdint cimport int64_t, uint32_t

from ...machine.random cimport distribution_value, random_next
from ...state.shapers cimport Slots
from ...time.events cimport never

cdef enum:
    SLOTS_COUNTED = 1000


cdef inline void slots_begin(Slots *slots, int64_t open_ns) noexcept nogil:
    """Let the line be open at a time, and count on from there."""
    slots.open_ns = open_ns
    slots.left_packets = slots.limit_packets
    slots.left_bytes = slots.limit_bytes


cdef inline void slots_next(Slots *slots) noexcept nogil:
    cdef int64_t distance_ns = distribution_value(slots.distribution, random_next(&slots.random_state))
    if distance_ns < 1:
        distance_ns = 1
    if slots.open_ns >= never() - distance_ns:  # however many wait for slots that are days apart
        distance_ns = 0
    slots_begin(slots, slots.open_ns + distance_ns)


cdef inline int64_t slots_release(Slots *slots, int64_t time_ns, uint32_t length) noexcept nogil:
    """When a packet that is ready at `time_ns` gets through."""
    cdef uint32_t counted = 0
    while slots.open_ns < time_ns:
        if counted == SLOTS_COUNTED:
            slots.open_ns = time_ns - 1
        slots_next(slots)
        counted += 1
    if (slots.limit_packets and slots.left_packets == 0) or (
        slots.limit_bytes and slots.left_bytes < length and slots.left_bytes < slots.limit_bytes
    ):
        slots_next(slots)
    if slots.limit_packets:
        slots.left_packets -= 1
    if slots.limit_bytes:
        slots.left_bytes -= length if length < slots.left_bytes else slots.left_bytes
    return slots.open_ns
