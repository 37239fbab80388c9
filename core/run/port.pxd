# PORT nodes: frames put in and taken out by hand, for tests and tools. They keep what arrives for Python.

from libc.stdint cimport uint32_t

from ..observe.drops cimport count_drop
from ..packet.packet cimport list_append, packet_release
from ..packet.segment cimport packet_finish_checksum, packet_segment, wire_segments
from ..state.network cimport Node, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_POOL_EMPTY

cdef enum:
    FRAMES_KEPT = 1 << 20          # of a PORT, until Python takes them


cdef inline void port_keep(Worker *worker, Node *node, Packet *packet) noexcept nogil:
    packet = packet_finish_checksum(&worker.pool, packet)
    if packet is NULL:
        count_drop(node, DROP_POOL_EMPTY)
    else:
        list_append(&node.own.port.frames, packet)


cdef inline void port_vector(Worker *worker, Node *node, Packet **vector, uint32_t count) noexcept nogil:
    """Keep frames for Python as a wire would show them: cut, and with finished checksums."""
    cdef uint32_t i, k, segments
    cdef Packet *segment
    for i in range(count):
        if node.own.port.discards_frames or node.own.port.frames.count >= FRAMES_KEPT:
            packet_release(&worker.pool, vector[i])
        elif vector[i].segment_size == 0:
            port_keep(worker, node, vector[i])
        else:
            segments = wire_segments(vector[i])
            for k in range(segments):
                segment = packet_segment(&worker.pool, vector[i], k, segments)
                if segment is NULL:
                    count_drop(node, DROP_POOL_EMPTY)
                else:
                    port_keep(worker, node, segment)
            packet_release(&worker.pool, vector[i])
