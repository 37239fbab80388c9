# A packet's end before its time: counted at the node where it happened, and shown to the captures.
#
# Few of the reasons that there are ever meet one node, so it counts only those that did, in the order in
# which they came. A node that drops nothing has no counts.

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from ..machine.platform cimport is_unlikely, must_resize
from ..packet.packet cimport packet_contiguous, packet_own_header, packet_release
from ..packet.segment cimport wire_segments
from ..state.network cimport DropCount, DropCounts, Interface, Node, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_POOL_EMPTY
from .capture cimport capture_drop


cdef inline uint64_t drops_bytes(uint32_t capacity) noexcept nogil:
    """What the counts of so many reasons take."""
    return sizeof(DropCounts) + capacity * sizeof(DropCount)


cdef inline uint64_t *drop_counter(Node *node, uint32_t reason) noexcept nogil:
    """The node's count of a reason, which begins at 0."""
    cdef DropCounts *drops = node.drops
    cdef uint32_t i
    cdef uint32_t count = drops.count if drops is not NULL else 0
    for i in range(count):
        if drops.counts[i].reason == reason:
            return &drops.counts[i].packets
    if count == 0 or count == drops.capacity:
        drops = <DropCounts *>must_resize(drops, drops_bytes(2 * count if count else 2))
        drops.capacity = 2 * count if count else 2
        node.drops = drops
    drops.counts[count].reason = reason
    drops.counts[count].packets = 0
    drops.count = count + 1
    return &drops.counts[count].packets


cdef inline void drop(Worker *worker, Node *node, Packet *packet, uint32_t reason) noexcept nogil:
    """Give a packet up and count why, at the node where it happened."""
    drop_counter(node, reason)[0] += wire_segments(packet)
    if is_unlikely(worker.capture_ring.memory is not NULL):
        capture_drop(worker, node, packet, reason)
    packet_release(&worker.pool, packet)


cdef inline void input_drop(
    Worker *worker, Interface *interface, Packet *packet, uint32_t reason
) noexcept nogil:
    """Drop what has come by an interface, where its input_port has not been set."""
    packet.input_port = <uint16_t>(interface.port + 1)
    drop(worker, interface.node, packet, reason)


cdef inline void count_drop(Node *node, uint32_t reason) noexcept nogil:
    """Count a drop of something for which there is no packet (left)."""
    drop_counter(node, reason)[0] += 1


cdef inline Packet *read_header(Worker *worker, Node *node, Packet *packet, uint32_t length) noexcept nogil:
    """A packet with its first `length` bytes in one piece; NULL, counted, where there is no memory for
    that.
    """
    packet = packet_contiguous(&worker.pool, packet, length)
    if is_unlikely(packet is NULL):
        count_drop(node, DROP_POOL_EMPTY)
    return packet


cdef inline Packet *own_header(Worker *worker, Node *node, Packet *packet, uint32_t length) noexcept nogil:
    """As read_header(), for who changes those bytes: nobody else sees them."""
    packet = packet_own_header(&worker.pool, packet, length)
    if is_unlikely(packet is NULL):
        count_drop(node, DROP_POOL_EMPTY)
    return packet
