# Ethernet: frames out of an interface, and the header's fields.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from .layout cimport DROP_NO_LINK, Interface, Packet, Worker
from .pipe cimport pipe_send, pipe_send_vector
from .platform cimport is_unlikely, load16, load32, load64, put16, store16, store32
from .schedule cimport drop
from .segment cimport wire_bytes, wire_segments

cdef enum:
    ETHER_HEADER = 14
    ETHER_TYPE_IP4 = 0x0800
    ETHER_TYPE_ARP = 0x0806
    VLAN_TAG = 4
    MAC_GROUP_BIT = 0x01           # of the first byte on the wire, the lowest of our integer
    MAC_BROADCAST = 0xFFFFFFFFFFFFu


cdef inline uint64_t mac_load(const uint8_t *p) noexcept nogil:
    return load32(p) | <uint64_t>load16(p + 4) << 32


cdef inline uint64_t ether_destination(const uint8_t *frame) noexcept nogil:
    return load64(frame) & MAC_BROADCAST


cdef inline void mac_store(uint8_t *p, uint64_t mac) noexcept nogil:
    store32(p, <unsigned int>mac)
    store16(p + 4, <uint16_t>(mac >> 32))


cdef inline void ether_write(uint8_t *p, uint64_t destination, uint64_t source, uint16_t ether_type) noexcept nogil:
    mac_store(p, destination)
    mac_store(p + 6, source)
    put16(p + 12, ether_type)


cdef inline void interface_send(Worker *worker, Interface *interface, Packet *packet, int64_t time_ns) noexcept nogil:
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
    """Send frames out of an interface that has a link, in their order and each at its own time; `packets` and `bytes` are those of their wire segments.

    The interface may be NULL where there are none.
    """
    if count:
        interface.tx_packets += packets
        interface.tx_bytes += bytes
        pipe_send_vector(worker, interface.output, vector, count)
