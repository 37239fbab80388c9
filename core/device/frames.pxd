# Devices of the real world: what TAPs (tap.pxd) and network cards (nic.pxd) have in common.
#
# A frame is read into an MTU-sized buffer and, as far as it is longer, into a large spill buffer that is
# chained behind it, so that a small frame never holds a large buffer. Super-frames come and go whole, with a
# virtio header before them (vnet.pxd), for which buffers have room; segments that follow each other are
# joined on the way out. What a device does not take is the emulator's own loss, and counted as such.
#
# Reading has two steps: tap_read() and nic_read() fetch a batch of frames from the kernel, tap_enter() and
# nic_enter() send it into the network, at a time that was taken in between. With the time of before the call
# frames would arrive early: the thread may lose its CPU for milliseconds at any moment.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint8_t

from ..link.changes cimport pipe_set_up
from ..link.interface cimport interface_send
from ..link.pipe cimport pipe_reverse
from ..machine.platform cimport is_unlikely, prefetch
from ..observe.drops cimport count_drop, drop, input_drop
from ..packet.packet cimport packet_headroom, packet_new, packet_release
from ..packet.pool cimport ROOM_LARGE, ROOM_MTU
from ..packet.segment cimport wire_segments
from ..packet.vnet cimport Join, join_append, join_begin, join_finish, join_fits, vnet_build, vnet_parse
from ..state.network cimport Node, Pipe, Reading, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_DEVICE_WRITE, DROP_POOL_EMPTY, DROP_VNET_HEADER
from ..state.records cimport POSTED_DEVICE_GONE, POSTED_LINK_CHANGED
from ..time.events cimport post

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len


cdef enum:
    # pieces of memory that one frame which leaves may lie in, its virtio header included
    FRAME_PARTS = 256


cdef inline bint reading_prepare(
    Worker *worker, Reading *reading, uint32_t header_bytes, iovec *parts
) noexcept nogil:
    """Have buffers for a virtio header and a frame, and the two parts that they will be read into.

    False: the pool is at its limit.
    """
    if reading.buffer is NULL:
        reading.buffer = packet_new(&worker.pool, ROOM_MTU)
    if reading.spill is NULL:
        reading.spill = packet_new(&worker.pool, ROOM_LARGE)
    if is_unlikely(reading.buffer is NULL or reading.spill is NULL):
        return False
    parts[0].iov_base = reading.buffer.data - header_bytes
    parts[0].iov_len = header_bytes + ROOM_MTU
    parts[1].iov_base = reading.spill.data
    parts[1].iov_len = ROOM_LARGE
    return True


cdef inline Packet *reading_take(Reading *reading, uint32_t length) noexcept nogil:
    """The frame of `length` bytes that was read. It has no time yet."""
    cdef Packet *packet = reading.buffer
    reading.buffer = NULL
    packet.total_length = length
    packet.length = length
    if length > ROOM_MTU:
        packet.length = ROOM_MTU
        packet.next = reading.spill
        packet.next.length = length - ROOM_MTU
        reading.spill = NULL
    return packet


cdef inline bint frame_understand(
    Worker *worker, Node *node, Packet *packet, uint32_t header_bytes
) noexcept nogil:
    """Mark a frame that was read by the virtio header before it.

    False: it made no sense, and has been dropped.
    """
    if is_unlikely(not vnet_parse(&worker.pool, packet, packet.data - header_bytes)):
        drop(worker, node, packet, DROP_VNET_HEADER)
        return False
    return True


cdef inline void frame_enter(Worker *worker, Node *node, Packet *packet) noexcept nogil:
    """Send a frame of the real world into the network."""
    worker.device_read_packets += wire_segments(packet)
    interface_send(worker, node.ports[0], packet, packet.time_ns)


cdef inline Packet *frame_join(
    Worker *worker, Node *node, Packet **vector, uint32_t count, uint32_t *place
) noexcept nogil:
    """The frame at `place` of a vector, and joined with it those that follow and are its next segments;
    `place` moves behind them.
    """
    cdef uint32_t i = place[0] + 1
    cdef Join join
    join_begin(&join, vector[i - 1], node.own.device.takes_udp)
    while i < count and join_fits(&join, vector[i]):
        if i + 4 < count:
            prefetch(vector[i + 4].data)
        if not join_append(&worker.pool, &join, vector[i]):
            count_drop(node, DROP_POOL_EMPTY)
            join_begin(&join, vector[i], node.own.device.takes_udp)
        i += 1
    join_finish(&join)
    place[0] = i
    return join.packet


cdef inline uint32_t frame_parts(
    Packet *packet, uint8_t *header, uint32_t header_bytes, iovec *parts
) noexcept nogil:
    """The pieces that a frame lies in, its virtio header first: how many; 0 if they are more than
    FRAME_PARTS.

    The header is put right before the frame, or at `header` where others may see what is there.
    """
    cdef uint32_t count = 1
    if packet.parent is NULL and packet.references == 1 and packet_headroom(packet) >= header_bytes:
        header = packet.data - header_bytes
    vnet_build(packet, header, header_bytes)
    parts[0].iov_base = header
    parts[0].iov_len = header_bytes
    while packet is not NULL:
        if <uint8_t *>parts[count - 1].iov_base + parts[count - 1].iov_len == packet.data:
            parts[count - 1].iov_len += packet.length  # views that stand side by side in one buffer
        else:
            if count == FRAME_PARTS:
                return 0
            parts[count].iov_base = packet.data
            parts[count].iov_len = packet.length
            count += 1
        packet = packet.next
    return count


cdef inline void frame_left(Worker *worker, Packet *packet) noexcept nogil:
    worker.device_write_packets += wire_segments(packet)
    packet_release(&worker.pool, packet)


cdef inline void frame_refused(Worker *worker, Node *node, Packet *packet) noexcept nogil:
    worker.device_write_drop_packets += wire_segments(packet)
    input_drop(worker, node.ports[0], packet, DROP_DEVICE_WRITE)


cdef inline void device_lost(Worker *worker, Node *node, int64_t time_ns) noexcept nogil:
    """A device is down or no more: cut its link, so that what is sent to it is counted there, and tell.

    Not to be called in a node's turn.
    """
    cdef Pipe *pipe = node.ports[0].output
    if node.own.device.gone:
        return
    node.own.device.gone = 1
    post(worker, time_ns, POSTED_DEVICE_GONE, node.index)
    if pipe is not NULL and pipe.up:
        pipe_set_up(worker, pipe, False, time_ns)
        pipe_set_up(worker, pipe_reverse(pipe), False, time_ns)
        post(worker, time_ns, POSTED_LINK_CHANGED, pipe.index)
