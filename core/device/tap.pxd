# TAP devices: frames between the engine and the real hosts that it makes devices for.
#
# The kernel takes and gives one frame a call. A device is read in bounded batches, so that one cannot starve
# another, and reading stops when something else is due.

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint8_t

from ..machine.platform cimport host_clock_ns, is_unlikely
from ..observe.drops cimport count_drop
from ..observe.lateness cimport lateness_written
from ..packet.vnet cimport VNET_HEADER
from ..state.network cimport Interface, Node, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_POOL_EMPTY, DROP_VNET_HEADER
from ..time.events cimport never
from .frames cimport (
    FRAME_PARTS, frame_enter, frame_join, frame_left, frame_parts, frame_refused, frame_understand, iovec,
    reading_prepare, reading_take,
)

cdef extern from "<sys/uio.h>" nogil:
    ssize_t readv(int fd, const iovec *vector, int count)
    ssize_t writev(int fd, const iovec *vector, int count)


cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *bytes, size_t count)


cdef enum:
    TAP_BATCH = 64                 # frames that one device may bring in its turn
    # And bytes: they are written while they are still in the CPU's cache. The segments of the longest IP
    # packet, each with headers of its own, have room, so that they can leave as one again.
    TAP_BATCH_BYTES = 72 << 10


# Frames that were read together.
cdef struct TapBatch:
    Packet *packets[TAP_BATCH]
    uint32_t count
    bint emptied                   # the device had no more
    bint lost                      # it is down or no more


cdef inline void tap_read(Worker *worker, Node *node, TapBatch *batch, int64_t until_host_ns) noexcept nogil:
    """Fetch what the device has, at most a batch, and one frame beyond `until_host_ns`."""
    cdef iovec parts[2]
    cdef ssize_t length
    cdef uint32_t bytes = 0
    cdef uint32_t i
    batch.count = 0
    batch.emptied = batch.lost = False
    for i in range(TAP_BATCH):
        if is_unlikely(not reading_prepare(worker, &worker.readings[0], VNET_HEADER, parts)):
            count_drop(node, DROP_POOL_EMPTY)
            return
        length = readv(node.own.device.fd, parts, 2)
        if length <= 0:
            batch.emptied = True
            batch.lost = length == 0 or (errno != EAGAIN and errno != EINTR)
            return
        length -= VNET_HEADER
        if is_unlikely(length <= 0):
            count_drop(node, DROP_VNET_HEADER)
            continue
        batch.packets[batch.count] = reading_take(&worker.readings[0], <uint32_t>length)
        batch.count += 1
        bytes += <uint32_t>length
        # What comes late by this frame is late by no other.
        if bytes > TAP_BATCH_BYTES or (until_host_ns != never() and host_clock_ns() > until_host_ns):
            return


cdef inline void tap_enter(Worker *worker, Node *node, TapBatch *batch, int64_t time_ns) noexcept nogil:
    """Send the frames of a batch into the network, all of them at one logical time."""
    cdef Packet *packet
    cdef uint32_t i
    for i in range(batch.count):
        packet = batch.packets[i]
        packet.time_ns = time_ns
        if frame_understand(worker, node, packet, VNET_HEADER):
            frame_enter(worker, node, packet)


cdef inline void tap_vector(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count
) noexcept nogil:
    """Hand a vector of frames to the real host."""
    cdef Node *node = interface.node
    cdef uint8_t header[VNET_HEADER]
    cdef iovec parts[FRAME_PARTS]
    cdef Packet *packet
    cdef ssize_t written
    cdef uint32_t pieces, first
    cdef uint32_t i = 0
    while i < count:
        first = i
        packet = frame_join(worker, node, vector, count, &i)
        pieces = frame_parts(packet, header, VNET_HEADER, parts)
        if pieces == 1:  # most often; quicker by a thirtieth than writev() of one
            written = write(node.own.device.fd, parts[0].iov_base, parts[0].iov_len)
        else:
            written = writev(node.own.device.fd, parts, <int>pieces) if pieces else -1
        if written >= 0:
            frame_left(worker, packet)
        else:
            frame_refused(worker, node, packet)
        lateness_written(worker, first, i)
