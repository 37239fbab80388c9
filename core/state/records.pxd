# The structures of what is told and what is timed: events of the scheduler, records for Python, the clock.

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

cdef enum CaptureDirection:
    CAPTURE_INBOUND = 1            # as pcapng has them (epb_flags)
    CAPTURE_OUTBOUND = 2


cdef enum PostedKind:
    POSTED_FLOW_DONE = 1
    POSTED_LINK_CHANGED = 2
    POSTED_NEIGHBOR_FAILED = 3
    POSTED_DEVICE_GONE = 4


cdef struct Event:
    int64_t time_ns
    uint64_t order                 # round << 32 | source: who comes first at one time


cdef struct Heap:
    Event *events
    uint32_t count
    uint32_t capacity


# What an arrival is told with, before the first bytes of the packet.
cdef struct EventHeader:
    int64_t time_ns
    uint64_t hash
    uint32_t pipe
    uint32_t total_bytes


# What a captured frame is told with, before its bytes.
cdef struct CaptureHeader:
    int64_t time_ns
    uint32_t interface_index
    uint32_t packet_id
    uint32_t wire_bytes
    uint8_t direction              # of enum CaptureDirection
    uint8_t reason                 # 0: not dropped; DropReason + 1, or LinkDrop
    uint8_t unused[2]


cdef struct Posted:
    int64_t time_ns
    uint32_t kind
    uint32_t index


# Records for Python: see ring.pxd. Closed (capacity 0) until something is to be told.
cdef struct Ring:
    uint8_t *memory
    uint64_t capacity
    uint64_t head                  # the reader's: bytes it has taken
    uint64_t tail                  # the writer's: bytes it has published …
    uint64_t writing               # … and with the record that it is at
    uint64_t lost_records
    uint32_t reader_waits          # has seen an empty ring, and is to be woken
    int event_fd                   # readable once there is something for a reader that waits
    uint8_t grows                  # virtual time: nothing is lost


cdef struct Clock:
    int64_t epoch_ns               # of the host's clock, at engine time 0
    int64_t dilation               # real nanoseconds for one of the engine's; 0: virtual time
    int64_t now_ns                 # virtual time
