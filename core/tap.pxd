# TAP devices: frames between real hosts and the engine. This room alone talks to the kernel about packets.
#
# A frame is read into an MTU-sized buffer and, as far as it is longer, into a large spill buffer that is chained behind it, so that a
# small frame never holds a large buffer. Super-frames come and go whole, with a virtio header before them (vnet.pxd). Devices are read in bounded batches, so that one cannot starve another.

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stddef cimport size_t

from .ether cimport interface_send
from .layout cimport DROP_POOL_EMPTY, DROP_TAP_WRITE, DROP_VNET_HEADER, POSTED_TAP_GONE, Interface, Node, Packet, Worker
from .packet cimport ROOM_LARGE, ROOM_MTU, packet_new, packet_release
from .platform cimport is_unlikely
from .schedule cimport count_drop, drop, post
from .segment cimport wire_segments
from .vnet cimport VNET_HEADER, Join, join_append, join_begin, join_finish, join_fits, vnet_build, vnet_parse

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t readv(int fd, const iovec *vector, int count)
    ssize_t writev(int fd, const iovec *vector, int count)

cdef enum:
    TAP_BATCH = 64                 # frames that one device may bring in its turn
    TAP_PARTS = 256                # pieces of memory that one frame which leaves may lie in


cdef inline bint tap_prepare(Worker *worker) noexcept nogil:
    """Have a buffer for the next frame."""
    if worker.tap_buffer is NULL:
        worker.tap_buffer = packet_new(&worker.pool, ROOM_MTU)
    if worker.tap_spill is NULL:
        worker.tap_spill = packet_new(&worker.pool, ROOM_LARGE)
    return worker.tap_buffer is not NULL and worker.tap_spill is not NULL


cdef inline void tap_lost(Worker *worker, Node *node, int64_t time_ns) noexcept nogil:
    if not node.tap_gone:
        node.tap_gone = 1
        post(worker, time_ns, POSTED_TAP_GONE, node.index)


cdef inline void tap_read(Worker *worker, Node *node, int64_t time_ns) noexcept nogil:
    """Take in what the device has, at most a batch, all of it at one logical time."""
    cdef Interface *interface = node.ports[0]
    cdef Packet *packet
    cdef uint8_t header[VNET_HEADER]
    cdef iovec parts[3]
    cdef ssize_t length
    cdef uint32_t i
    parts[0].iov_base = header
    parts[0].iov_len = VNET_HEADER
    parts[1].iov_len = ROOM_MTU
    parts[2].iov_len = ROOM_LARGE
    for i in range(TAP_BATCH):
        if is_unlikely(not tap_prepare(worker)):
            count_drop(node, DROP_POOL_EMPTY)
            return
        packet = worker.tap_buffer
        parts[1].iov_base = packet.data
        parts[2].iov_base = worker.tap_spill.data
        length = readv(node.tap_fd, parts, 3) - VNET_HEADER
        if length <= 0:
            if length + VNET_HEADER < 0 and errno != EAGAIN and errno != EINTR:
                tap_lost(worker, node, time_ns)
            return
        worker.tap_buffer = NULL
        packet.total_length = <uint32_t>length
        packet.time_ns = time_ns
        if length <= ROOM_MTU:
            packet.length = <uint32_t>length
        else:
            packet.length = ROOM_MTU
            packet.next = worker.tap_spill
            packet.next.length = <uint32_t>length - ROOM_MTU
            worker.tap_spill = NULL
        if is_unlikely(not vnet_parse(&worker.pool, packet, header)):
            drop(worker, node, packet, DROP_VNET_HEADER)
            continue
        worker.tap_read_packets += wire_segments(packet)
        interface_send(worker, interface, packet, time_ns)


cdef inline void tap_write(Worker *worker, Node *node, Packet *packet) noexcept nogil:
    """Hand a frame to the real host; one that the device does not take is the emulator's own loss."""
    cdef uint8_t header[VNET_HEADER]
    cdef iovec parts[TAP_PARTS]
    cdef Packet *segment = packet
    cdef uint32_t packets = wire_segments(packet)
    cdef int count = 1
    cdef ssize_t written = -1
    vnet_build(packet, header)
    parts[0].iov_base = header
    parts[0].iov_len = VNET_HEADER
    while segment is not NULL:
        if <uint8_t *>parts[count - 1].iov_base + parts[count - 1].iov_len == segment.data:
            parts[count - 1].iov_len += segment.length  # views that stand side by side in one buffer
        else:
            if count == TAP_PARTS:
                break
            parts[count].iov_base = segment.data
            parts[count].iov_len = segment.length
            count += 1
        segment = segment.next
    if segment is NULL:
        written = writev(node.tap_fd, parts, count)
    if written < 0:
        worker.tap_write_drop_packets += packets
        drop(worker, node, packet, DROP_TAP_WRITE)
        return
    worker.tap_write_packets += packets
    packet_release(&worker.pool, packet)


cdef inline void tap_vector(Worker *worker, Interface *interface, Packet **vector, uint32_t count) noexcept nogil:
    """Write a vector of frames, segments that follow each other joined into super-frames."""
    cdef Node *node = interface.node
    cdef uint32_t i = 0
    cdef Join join
    while i < count:
        join_begin(&join, vector[i])
        i += 1
        while i < count and join_fits(&join, vector[i]):
            if not join_append(&worker.pool, &join, vector[i]):
                count_drop(node, DROP_POOL_EMPTY)
                join_begin(&join, vector[i])
            i += 1
        join_finish(&join)
        tap_write(worker, node, join.packet)
