# Frames out of an interface: counted, and handed to its link.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..machine.platform cimport is_unlikely
from ..observe.drops cimport drop
from ..packet.segment cimport wire_bytes, wire_segments
from ..state.network cimport Interface, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_NO_LINK
from .pipe cimport pipe_send, pipe_send_vector


cdef inline void interface_send(
    Worker *worker, Interface *interface, Packet *packet, int64_t time_ns
) noexcept nogil:
    """Send a whole frame out of an interface; the caller's claim goes with it."""
    if is_unlikely(interface.output is NULL):
        drop(worker, interface.node, packet, DROP_NO_LINK)
        return
    interface.tx_packets += wire_segments(packet)
    interface.tx_bytes += wire_bytes(packet)
    pipe_send(worker, interface.output, packet, time_ns)


cdef inline void interface_send_vector(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count, uint64_t packets, uint64_t bytes
) noexcept nogil:
    """Send frames out of an interface that has a link, in their order and each at its own time; `packets` and
    `bytes` are those of their wire segments.

    The interface may be NULL where there are none.
    """
    if count:
        interface.tx_packets += packets
        interface.tx_bytes += bytes
        pipe_send_vector(worker, interface.output, vector, count)
