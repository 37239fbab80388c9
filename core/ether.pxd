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


# What of a vector leaves a node together.
cdef struct Departure:
    Interface *output              # which has a link; NULL: nothing does
    uint32_t first                 # from this frame on
    uint64_t packets               # wire segments that those are, and their bytes
    uint64_t bytes


cdef inline Departure departure_none() noexcept nogil:
    cdef Departure departure
    departure.output = NULL
    departure.first = 0
    departure.packets = departure.bytes = 0
    return departure


cdef inline void departure_count(Departure *departure) noexcept nogil:
    departure.output.tx_packets += departure.packets
    departure.output.tx_bytes += departure.bytes


cdef inline void departure_send(Worker *worker, Departure *departure, Packet **vector, uint32_t end) noexcept nogil:
    """Let a vector's frames before `end` depart, in their order and each at its own time."""
    if departure.first != end:
        departure_count(departure)
        pipe_send_vector(worker, departure.output.output, vector + departure.first, end - departure.first)
