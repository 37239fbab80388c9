# The structures of packets and of the pool that they come from: see packet.pxd.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free

cdef enum:
    SIZE_CLASSES = 4               # views, small, MTU-sized and large packets
    PACKET_METADATA = 64
    PACKET_HEADROOM = 128


cdef enum HeaderState:
    # the header's own: verified at the door, and kept right by every change since
    CHECKSUM_IP4_VALID = 1
    CHECKSUM_TCP_PARTIAL = 2       # the field holds the pseudo header's sum: see segment.pxd
    CHECKSUM_UDP_PARTIAL = 4
    CHECKSUM_PARTIAL = 6
    HEADER_PLAIN_IP4 = 8           # it is IPv4, with nothing unusual to a router: see header_is_plain()
    # in a link's line each segment has a place of its own; of a segment: it had arrived already (whole.pxd)
    CARRIED_WHOLE = 16


# One cache line in front of every buffer. A chain is a list of segments through `next`; a segment with a
# `parent` is indirect: its bytes lie in the parent's buffer, which it holds a reference to.
cdef struct Packet:
    uint8_t *data                  # first byte of this segment
    int64_t time_ns                # logical time: arrival at the node that handles it
    Packet *next                   # next segment; in the pool, next free packet
    Packet *parent                 # owner of the bytes, for an indirect segment
    uint32_t length                # bytes in this segment
    uint32_t total_length          # bytes in the chain (first segment only)
    uint32_t references
    # the same for all that is this packet on any wire; segment k of a super-frame has id + k
    uint32_t packet_id
    uint16_t slab
    uint16_t segment_size          # bytes of payload per wire segment of a super-frame; 0: a plain frame
    uint16_t input_port            # by which it has come to the stack that handles it, + 1; 0: sent by that
    uint16_t transport_offset
    uint16_t turns                 # of its conversation at time_ns: see conversation.pxd
    uint16_t crossings             # of links that took no time: see crossing.pxd; in a shaper, FateOnWire
    uint16_t header_length         # of a super-frame: what each of its segments repeats
    uint8_t network_offset
    uint8_t header_state           # of enum HeaderState: what is known of the headers


cdef struct PacketList:
    Packet **packets
    uint32_t count
    uint32_t capacity


cdef struct Slab:
    uint8_t *memory
    Packet *free
    uint32_t free_count
    # index + 1 of the neighbours in the list of the class's usable or empty slabs
    uint32_t next_usable
    uint32_t previous_usable
    uint8_t size_class
    uint8_t listed
    uint16_t packets


cdef struct Pool:
    Slab *slabs
    uint32_t slab_count
    uint32_t slab_capacity
    uint32_t unused_slab           # index + 1 of a slab entry without memory
    uint32_t usable[SIZE_CLASSES]  # index + 1 of the first slab with both free packets and others
    uint32_t empty[SIZE_CLASSES]   # index + 1 of the first slab with free packets only
    uint32_t empty_slabs[SIZE_CLASSES]
    uint32_t slabs_in_class[SIZE_CLASSES]
    uint64_t limit_bytes
    uint64_t bytes
    uint64_t in_use
    uint64_t failed
    uint64_t copied_bytes
    uint32_t packet_ids            # given so far
