# TAP devices: frames between real hosts and the engine. This room alone talks to the kernel about packets.
#
# A frame is read into an MTU-sized buffer and, as far as it is longer, into a large spill buffer that is chained behind it, so that a
# small frame never holds a large buffer. Devices are read in bounded batches, so that one cannot starve another.

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stddef cimport size_t

from .ether cimport interface_send
from .layout cimport DROP_POOL_EMPTY, DROP_TAP_WRITE, POSTED_TAP_GONE, Interface, Node, Packet, Worker
from .packet cimport ROOM_LARGE, ROOM_MTU, packet_new, packet_release
from .platform cimport is_unlikely
from .schedule cimport count_drop, drop, post

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t readv(int fd, const iovec *vector, int count)
    ssize_t writev(int fd, const iovec *vector, int count)

cdef enum:
    TAP_BATCH = 64                 # frames that one device may bring in its turn
    TAP_SEGMENTS = 64              # of one frame that leaves


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
    cdef iovec parts[2]
    cdef ssize_t length
    cdef uint32_t i
    for i in range(TAP_BATCH):
        if is_unlikely(not tap_prepare(worker)):
            count_drop(node, DROP_POOL_EMPTY)
            return
        packet = worker.tap_buffer
        parts[0].iov_base = packet.data
        parts[0].iov_len = ROOM_MTU
        parts[1].iov_base = worker.tap_spill.data
        parts[1].iov_len = ROOM_LARGE
        length = readv(node.tap_fd, parts, 2)
        if length <= 0:
            if length < 0 and errno != EAGAIN and errno != EINTR:
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
        worker.tap_read_packets += 1
        interface_send(worker, interface, packet, time_ns)


cdef inline void tap_write(Worker *worker, Node *node, Packet *packet) noexcept nogil:
    """Hand a frame to the real host; one that the device does not take is the emulator's own loss."""
    cdef iovec parts[TAP_SEGMENTS]
    cdef Packet *segment = packet
    cdef int count = 0
    cdef ssize_t written = -1
    while segment is not NULL and count < TAP_SEGMENTS:
        parts[count].iov_base = segment.data
        parts[count].iov_len = segment.length
        count += 1
        segment = segment.next
    if segment is NULL:
        written = writev(node.tap_fd, parts, count)
    if written < 0:
        worker.tap_write_drop_packets += 1
        drop(worker, node, packet, DROP_TAP_WRITE)
        return
    worker.tap_write_packets += 1
    packet_release(&worker.pool, packet)


cdef inline void tap_vector(Worker *worker, Interface *interface, Packet **vector, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        tap_write(worker, interface.node, vector[i])
