# Captures: copies of what passes an interface, for Python to write to a file.
#
# What arrives at a captured interface is recorded before its node handles it, what it sends when it is handed
# to the link, with the reason where the link drops it at once. What is dropped later is recorded once more,
# at that time: out of the link at the interface that sent it, in a node at the interface that it came by. A
# packet is copied up to the snap length into the capture ring, with the checksum that the wire has, so that
# no reader can hold a packet or force a copy of one. A record for which there is no room is counted at its
# interface.
#
# A captured pipe is special: what is sent over it passes pipe_send_special(), and the others spend nothing on
# captures. Whatever drops a packet in a link says so by capture_link_drop().

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from ..machine.platform cimport is_unlikely, put16
from ..machine.ring cimport ring_begin, ring_end, ring_patch, ring_publish, ring_write
from ..packet.segment cimport checksum_offset, finished_checksum
from ..state.network cimport Interface, Node, OBSERVE_CAPTURE, Pipe, Worker
from ..state.packets cimport CHECKSUM_PARTIAL, Packet
from ..state.records cimport CAPTURE_INBOUND, CAPTURE_OUTBOUND, CaptureHeader
from ..time.events cimport node_port

cdef enum:
    RECORD_PACKET = 1              # CaptureHeader, then the first bytes of the frame


cdef inline void capture_bytes(Worker *worker, Packet *packet, uint32_t length) noexcept nogil:
    """Write the first `length` bytes of a frame as the wire has them."""
    cdef uint64_t start = worker.capture_ring.writing
    cdef Packet *segment = packet
    cdef uint32_t left = length
    cdef uint32_t here, place
    cdef uint8_t checksum[2]
    while left:
        here = segment.length if segment.length < left else left
        ring_write(&worker.capture_ring, segment.data, here)
        left -= here
        segment = segment.next
    if packet.header_state & CHECKSUM_PARTIAL:
        put16(checksum, finished_checksum(packet))
        place = checksum_offset(packet)
        for here in range(2):
            if place + here < length:
                ring_patch(&worker.capture_ring, start + place + here, checksum[here])


cdef inline uint64_t capture_packet(
    Worker *worker, Interface *interface, Packet *packet, uint8_t direction, uint32_t reason, int64_t time_ns
) noexcept nogil:
    """Record a packet at a captured interface.

    Returns where in the ring the reason stands; 0: there was no room.
    """
    cdef CaptureHeader header
    cdef uint64_t place
    cdef uint32_t length = packet.total_length
    if length > interface.snap_bytes:
        length = interface.snap_bytes
    if not ring_begin(&worker.capture_ring, RECORD_PACKET, sizeof(CaptureHeader) + length):
        interface.capture_lost_packets += 1
        return 0
    memset(&header, 0, sizeof(CaptureHeader))
    header.time_ns = time_ns
    header.interface_index = interface.index
    header.packet_id = packet.packet_id
    header.wire_bytes = packet.total_length
    header.direction = direction
    header.reason = <uint8_t>reason
    place = worker.capture_ring.writing + <uint64_t>(&header.reason - <uint8_t *>&header)
    ring_write(&worker.capture_ring, &header, sizeof(CaptureHeader))
    capture_bytes(worker, packet, length)
    ring_end(&worker.capture_ring)
    worker.captured_bytes += length
    if worker.handed_id == 0:
        ring_publish(worker, &worker.capture_ring)
    return place


cdef inline void capture_vector(Worker *worker, Pipe *pipe, Packet **vector, uint32_t count) noexcept nogil:
    """Record what arrives at an interface."""
    cdef uint32_t i
    if pipe.receiver.snap_bytes:
        for i in range(count):
            capture_packet(worker, pipe.receiver, vector[i], CAPTURE_INBOUND, 0, vector[i].time_ns)


cdef inline void capture_begin(Worker *worker, Pipe *pipe, Packet *packet, int64_t time_ns) noexcept nogil:
    """Record a packet that is handed to the link now.

    Until capture_end() its record can still get a reason.
    """
    if pipe.observed & OBSERVE_CAPTURE and pipe.sender.snap_bytes:
        worker.handed_id = packet.packet_id
        worker.handed_place = capture_packet(worker, pipe.sender, packet, CAPTURE_OUTBOUND, 0, time_ns)


cdef inline void capture_end(Worker *worker) noexcept nogil:
    if worker.handed_id:
        worker.handed_id = 0
        ring_publish(worker, &worker.capture_ring)


cdef inline void capture_link_drop(
    Worker *worker, Pipe *pipe, Packet *packet, uint32_t reason, int64_t time_ns
) noexcept nogil:
    """Record that the link drops a packet, for a reason (LinkDrop): as it is handed over, or later."""
    if is_unlikely(pipe.observed & OBSERVE_CAPTURE) and pipe.sender.snap_bytes:
        if packet.packet_id != worker.handed_id:
            capture_packet(worker, pipe.sender, packet, CAPTURE_OUTBOUND, reason, time_ns)
        elif worker.handed_place:
            ring_patch(&worker.capture_ring, worker.handed_place, <uint8_t>reason)


cdef inline void capture_drop(Worker *worker, Node *node, Packet *packet, uint32_t reason) noexcept nogil:
    """Record that a node drops, for a reason (DropReason), what has come to it by a captured interface."""
    cdef Interface *interface
    if packet.input_port and (packet.input_port <= node.port_count or node.stack is not NULL):
        interface = node_port(node, packet.input_port - 1)
        if interface.snap_bytes:
            capture_packet(worker, interface, packet, CAPTURE_INBOUND, reason + 1, packet.time_ns)
