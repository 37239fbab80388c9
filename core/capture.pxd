# Captures: copies of what passes an interface, for Python to write to a file.
#
# Each packet is copied up to the interface's snap length into the capture ring, so that no reader can hold a packet
# or force a copy of one, and no packet waits for a reader.

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from .layout cimport CHECKSUM_PARTIAL, CAPTURE_INBOUND, CaptureHeader, Interface, Packet, Pipe, Worker
from .platform cimport put16
from .ring cimport ring_begin, ring_publish, ring_write
from .segment cimport checksum_offset, finished_checksum

cdef enum:
    RECORD_PACKET = 1              # CaptureHeader, then the first bytes of the frame


cdef inline void capture_bytes(Worker *worker, Packet *packet, uint32_t length) noexcept nogil:
    """Write the first `length` bytes of a frame as the wire has them: with the checksum that is left for later."""
    cdef Packet *segment = packet
    cdef uint32_t left = length
    cdef uint32_t here
    cdef uint8_t checksum[2]
    cdef uint32_t place
    cdef uint32_t i
    cdef uint64_t start = worker.capture_ring.writing
    while left:
        here = segment.length if segment.length < left else left
        ring_write(&worker.capture_ring, segment.data, here)
        left -= here
        segment = segment.next
    if packet.checksum_state & CHECKSUM_PARTIAL:
        put16(checksum, finished_checksum(packet))
        place = checksum_offset(packet)
        for i in range(2):
            if place + i < length:
                worker.capture_ring.memory[(start + place + i) & (worker.capture_ring.capacity - 1)] = checksum[i]


cdef inline void capture_packet(
    Worker *worker, Interface *interface, Packet *packet, uint8_t direction, int64_t time_ns
) noexcept nogil:
    cdef CaptureHeader header
    cdef uint32_t length = packet.total_length
    if length > interface.snap_bytes:
        length = interface.snap_bytes
    header.time_ns = time_ns
    header.interface_index = interface.index
    header.wire_bytes = packet.total_length
    header.direction = direction
    if ring_begin(&worker.capture_ring, RECORD_PACKET, sizeof(CaptureHeader) + length):
        ring_write(&worker.capture_ring, &header, sizeof(CaptureHeader))
        capture_bytes(worker, packet, length)
        ring_publish(worker, &worker.capture_ring)
        worker.captured_bytes += length


cdef inline void capture_vector(Worker *worker, Pipe *pipe, Packet **vector, uint32_t count) noexcept nogil:
    """Copy what arrives at an interface."""
    cdef uint32_t i
    if pipe.receiver.snap_bytes:
        for i in range(count):
            capture_packet(worker, pipe.receiver, vector[i], CAPTURE_INBOUND, vector[i].time_ns)
