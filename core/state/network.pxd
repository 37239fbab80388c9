# The structures of a network: nodes with what hangs off them, interfaces, pipes, flows, and the worker that
# moves packets between them. They stand on one page since they know each other. packets.pxd, shapers.pxd and
# records.pxd have the others; the functions are in the folders above this one.
#
# One worker writes a node and all that hangs off it. Structures stand in flat tables that never move, so a
# pointer to a node, an interface or a pipe is good for the engine's life. Times are nanoseconds since the
# engine's start, IPv4 addresses integers in host order, MAC addresses the six bytes as a little-endian
# integer.

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from .packets cimport Packet, PacketList, Pool
from .records cimport Clock, Heap, Posted, Ring
from .shapers cimport Shaper

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass


cdef enum:
    VECTOR_SIZE = 256              # packets that go through a stage together, at most
    PORT_LIMIT = 65534             # interfaces of a node …
    LOOPBACK_PORT = PORT_LIMIT     # … and the port of one more, its loopback interface
    # plus the node's index: that of its loopback interface, and of the pipe there
    LOOPBACK_INDEX = 0x80000000u
    PROOF_KEYS = 35                # of the run's hash: see proof.pxd
    READING_BATCH = 64             # frames that one call may bring from a device
    LATENESS_BUCKETS = 144         # four for each factor of two, up to 137 s


cdef enum NodeKind:
    KIND_HOST = 0
    KIND_ROUTER = 1
    KIND_SWITCH = 2
    KIND_HUB = 3
    KIND_TAP = 4
    KIND_NIC = 5
    KIND_PORT = 6


cdef enum PipeWay:                 # what pipe_send() has to do
    WAY_SHAPED = 0
    # up, not captured, neither bandwidth, delay, loss nor shaper: nothing to compute
    WAY_IDEAL = 1
    WAY_SPECIAL = 2                # down, or captured
    WAY_BRIDGED = 3                # ideal, and a switch or hub sends over it, whose passing on is counted


cdef enum RouteKind:
    ROUTE_LOCAL = 1
    ROUTE_CONNECTED = 2
    ROUTE_GATEWAY = 3
    ROUTE_UNREACHABLE = 4


cdef enum NeighborState:
    NEIGHBOR_INCOMPLETE = 0
    NEIGHBOR_REACHABLE = 1
    NEIGHBOR_PROBE = 2


cdef enum Observation:
    OBSERVE_PROOF = 1              # the run's hash and event stream
    OBSERVE_LATENESS = 2           # how late the host's clock finds it
    OBSERVE_CAPTURE = 4            # an interface at one of its ends is captured


cdef struct PipeEntry:
    Packet *packet                 # NULL: lost on the wire, in line only until its service has started
    int64_t arrival_ns


# What waits for the transmitter, by the index of its PipeEntry.
cdef struct Waiting:
    int64_t start_ns               # first whole nanosecond at which it is in service
    uint64_t remainder             # of its exact start, in 1/bandwidth nanoseconds
    uint32_t length


# One direction of a link: queue, transmitter, delay line. Entries [head, service) are in service or in the
# delay line, [service, tail) wait in the queue.
cdef struct Pipe:
    PipeEntry *ring
    uint32_t capacity              # a power of two, or 0
    uint32_t head
    uint32_t tail
    uint8_t way                    # of enum PipeWay
    uint8_t up
    uint8_t active                 # the receiving node knows of its head, or the worker of what is unwritten
    uint8_t observed               # of enum Observation: who looks at what arrives
    Interface *receiver
    # the sender's side
    Interface *sender
    Shaper *shaper                 # NULL: plain
    Waiting *waiting
    uint32_t service
    int32_t overhead_bytes
    uint64_t bandwidth_bps         # 0: no limit
    int64_t delay_ns
    int64_t departure_ns           # the last departure: whole nanoseconds …
    uint64_t departure_remainder   # … and the carried remainder, in 1/bandwidth nanoseconds
    int64_t last_arrival_ns
    uint64_t loss_threshold        # a draw below it loses the packet
    uint64_t random_state
    uint64_t queue_limit_packets
    uint64_t queue_limit_bytes
    uint64_t queue_bytes
    uint64_t cached_ns             # service time of cached_length: whole nanoseconds and remainder
    uint64_t cached_remainder
    uint32_t cached_length
    uint32_t index
    uint64_t queue_drop_packets
    uint64_t loss_packets
    uint64_t down_drop_packets
    uint64_t loop_drop_packets
    Lateness *lateness             # on first use


# A stretch of degraded seconds of a pipe, and what was handled in them.
cdef struct LateStretch:
    int64_t from_ns
    int64_t until_ns
    uint64_t packets
    uint64_t late_packets
    int64_t worst_ns


# How late what arrived by a pipe has been handled: see lateness.pxd.
cdef struct Lateness:
    uint64_t buckets[LATENESS_BUCKETS]
    int64_t worst_ns
    uint64_t late_packets
    int64_t second                 # the one under way …
    uint64_t second_packets
    uint64_t second_late_packets
    int64_t second_worst_ns
    int64_t second_first_ns        # … and the first logical arrival among its late ones
    LateStretch *stretches         # in the order of time
    uint32_t stretch_count
    uint32_t stretch_capacity
    Pipe *pipe                     # whose it is, or else …
    Node *device                   # … whose device
    Lateness *next                 # of those by which something came late


# How long frames of a device may have waited for the engine to read them.
cdef struct DeviceWaits:
    Lateness lateness
    # While what came when the engine was held up is being read:
    int64_t held_ns                # for how long the engine had not looked (engine time); 0: it is not so
    int64_t held_from_ns           # since when (engine time)
    int64_t drained_host_ns        # by when all that came meanwhile is taken to have been read
    uint64_t held_packets          # read so far …
    uint64_t settled_packets       # … and when waits_settle() last looked
    DeviceWaits *next_held         # of worker.held


# What is remembered of a packet that is being handled.
cdef struct Arrival:
    int64_t time_ns
    int64_t handled_ns             # when a device has taken it; 0: with the vector
    uint32_t packets


# What has arrived by a pipe: see proof.pxd.
cdef struct Proof:
    uint64_t chain
    uint64_t packets


cdef struct Address4:
    uint32_t address
    uint32_t mask


cdef struct Interface:
    uint64_t mac
    Node *node
    Pipe *output                   # NULL: no link
    Pipe *input
    uint32_t mtu
    uint32_t port                  # position among the node's interfaces
    uint32_t index
    uint32_t address_count
    Address4 *addresses
    uint32_t snap_bytes            # of each packet for the capture; 0: not captured
    uint32_t capture_lost_packets
    uint64_t rx_packets
    uint64_t rx_bytes
    uint64_t tx_packets
    uint64_t tx_bytes


# An adjacency: all that it takes to send to one next hop.
cdef struct Neighbor:
    int64_t usable_until_ns        # the header may be used without a second look up to this time
    Interface *interface
    uint8_t header[16]             # destination MAC, source MAC, EtherType; 14 bytes used
    uint32_t address
    uint8_t state
    uint8_t probes_sent
    uint16_t queued
    Packet **queue                 # what waits for the answer, oldest first
    int64_t retry_ns               # NEVER unless a request is outstanding
    int64_t confirmed_ns


cdef struct Route4:
    uint32_t prefix
    uint32_t mask
    uint32_t gateway
    uint8_t length
    uint8_t kind
    # of a handful: the place plus one of the route that stands for all to this gateway
    uint8_t alike
    Interface *interface
    Neighbor *neighbor             # the gateway's adjacency, once it was needed


cdef struct RouteTable4:
    Neighbor *recent_neighbors[2]  # what frames by even and by odd ports found last, until something changes
    uint32_t recent_destinations[2]
    Route4 *routes                  # longest prefixes first
    # of a handful: masks, then prefixes; of more: a trie's blocks of 256 entries
    uint32_t *fib
    uint32_t count
    uint32_t capacity
    uint32_t trie_blocks           # 0: a handful
    uint32_t trie_capacity
    uint8_t dirty


cdef struct MacEntry:
    uint64_t mac                   # 0: empty
    int64_t seen_ns
    uint32_t port


cdef struct Reply:
    int64_t rtt_ns
    uint32_t sequence
    uint32_t responder
    uint8_t icmp_type
    uint8_t icmp_code
    uint8_t ttl


cdef enum FlowKind:
    FLOW_PING = 0
    FLOW_UDP = 1


# What a node sends by itself, and what became of it.
cdef struct Flow:
    Node *node
    Node *sink
    Flow *next                     # on the sending node
    Flow *next_sink                # on the receiving node
    uint8_t kind
    uint8_t done
    uint8_t used
    uint8_t keep_replies
    uint8_t ttl
    uint8_t waiting                # all is sent; waits for answers until due_ns
    uint16_t identifier            # ICMP identifier or UDP destination port
    uint32_t index
    uint32_t destination
    uint32_t size_bytes
    uint32_t probes_per_ttl
    uint64_t count                 # 0: no end but stop_ns
    int64_t interval_ns
    uint64_t interval_remainder    # of one interval, in 1/rate nanoseconds
    uint64_t carried_remainder
    uint64_t rate_bps
    int64_t start_ns
    int64_t stop_ns
    int64_t timeout_ns
    int64_t due_ns
    uint64_t sent_packets
    uint64_t sent_bytes
    uint64_t received_packets
    uint64_t received_bytes
    uint64_t reordered_packets
    uint64_t unreachable_packets
    uint64_t next_expected
    int64_t first_sent_ns
    int64_t last_sent_ns
    int64_t first_received_ns
    int64_t last_received_ns
    int64_t delay_min_ns
    int64_t delay_max_ns
    int64_t *samples               # every sample_stride-th delay
    uint32_t sample_count
    uint32_t sample_capacity
    uint64_t sample_stride
    uint64_t sample_seen
    Reply *replies
    uint32_t reply_count
    uint32_t reply_capacity


cdef struct DropCount:
    uint64_t packets
    uint32_t reason                # of enum DropReason


# What a node has dropped, by the reasons that it had: see drops.pxd.
cdef struct DropCounts:
    uint32_t count
    uint32_t capacity
    DropCount counts[0]


# A UDP port that answers by itself: see echo.pxd.
cdef struct Echo:
    Echo *next                     # on the node
    uint32_t port
    uint64_t limit_packets
    uint64_t received_packets
    uint64_t answered_packets
    PacketList waiting             # for the conversation to go on …
    int64_t resumes_ns             # … at this time


# What only a switch has: the stations that it knows.
cdef struct BridgeState:
    MacEntry *macs
    uint32_t mac_count
    uint32_t mac_capacity
    int64_t mac_renew_ns           # a full table of MAC addresses is not gone through again before


# What only a TAP or NIC has.
cdef struct DeviceState:
    DeviceWaits *waits
    int fd
    uint8_t gone
    uint8_t takes_udp              # the device's kernel cuts UDP super-frames (Linux 6.2)


# What only a PORT has: what arrived, for Python.
cdef struct PortState:
    PacketList frames
    uint8_t discards_frames


cdef union KindState:
    BridgeState bridge
    DeviceState device
    PortState port


# What few nodes have of a stack, made on first use: see loopback.pxd.
cdef struct Stack:
    Interface loopback
    Pipe loopback_pipe
    Proof loopback_proof
    Echo *echoes


# The stack context: everything that a node owns. First comes what each turn needs.
cdef struct Node:
    Heap events                    # heads of its ingress pipes, and its timers
    # an ideal link that has brought it something for its turn in `ready`; not in its events
    Pipe *arrival
    uint32_t index
    uint8_t kind
    uint8_t ready                  # is among the worker's ready nodes
    uint16_t ip_identification
    uint8_t overtaken              # a pipe that leads to it does not keep the order
    uint8_t wake_kept              # while the worker's events are cleared: its place has been seen
    RouteTable4 table
    int64_t wake_ns                # its place in the worker's events; NEVER: none
    uint32_t wake_round
    uint32_t port_count
    Interface **ports
    uint32_t port_capacity
    int64_t lookahead_ns           # nothing can reach it sooner than this after the worker's instant
    Neighbor **neighbors           # open addressing by (interface, address)
    uint32_t neighbor_count
    uint32_t neighbor_capacity
    int64_t neighbor_due_ns
    int64_t icmp_refill_ns
    uint32_t icmp_tokens
    # UDP flows whose other end is another node of the engine: see run/worker.pxd
    uint32_t flows_in_step
    Flow *flows
    Flow *sinks
    DropCounts *drops              # NULL: nothing has been dropped
    Stack *stack                   # NULL: plain
    KindState own


cdef struct Worker


# Where a frame of a device will be read to, and what of it does not fit there.
cdef struct Reading:
    Packet *buffer
    Packet *spill


# What the control thread asks of a worker: run(argument), then tell that it is done.
cdef struct Command:
    void (*run)(Worker *worker, void *argument) noexcept nogil
    void *argument
    sem_t done


# Commands of one producer; the worker serves them between vectors.
cdef struct Mailbox:
    Command *slots[64]
    uint32_t head
    uint32_t tail


# One thread's share of the engine: the only writer of its nodes and pipes.
cdef struct Worker:
    Heap events                    # nodes, by the time of the next thing each has to do
    uint32_t events_limit          # entries at which those that are out of date are thrown out
    Node **ready                   # nodes of the round after this one, at this instant
    Node **current
    uint32_t ready_count
    uint32_t current_count
    uint32_t ready_capacity
    uint32_t current_capacity
    Pipe **unwritten               # those that have brought a device something that it has not been given yet
    uint32_t unwritten_count
    uint32_t unwritten_capacity
    int64_t instant_ns
    uint32_t round
    uint64_t turns
    int64_t ahead_ns               # the time that the foremost node has come to
    int64_t stride_ns              # how far nodes go before the instant: see ahead.pxd
    uint64_t pace_work
    int64_t pace_ns
    int64_t quiet_ns               # nothing is posted before this time
    uint64_t quiet_turns           # the turn from which on it is worth to find it again
    uint32_t stop_flag             # set by the control thread to end the loop
    Packet *vector[VECTOR_SIZE]
    Arrival arrivals[VECTOR_SIZE]  # those of the vector, where its pipe's lateness is measured
    PacketList undeliverable       # what no neighbour answered for
    Pool pool
    uint64_t hop_packets
    uint64_t vectors
    uint64_t device_read_packets
    uint64_t device_write_packets
    uint64_t device_write_drop_packets
    Posted *posted
    uint32_t posted_capacity
    uint32_t posted_head
    uint32_t posted_tail
    uint64_t posted_lost
    Ring event_ring
    Ring capture_ring
    uint64_t captured_bytes
    int64_t recorded_ns            # real time: all that is recorded from now on is at this time or later
    uint32_t handed_id             # of the packet that is handed to a captured link, at this moment
    uint64_t handed_place          # of the reason in its record; 0: it has none
    uint64_t ring_bytes            # capacity that a ring is opened with
    uint8_t drain_due              # a ring of a virtual run is half full: stop, for Python to read it
    int event_fd                   # readable when something was posted
    int wake_fd                    # written to end the data path's sleep
    int epoll_fd
    int timer_fd
    Reading readings[READING_BATCH]
    Node *failed_device            # that could not be written to, because it is down or no more
    Mailbox mailbox
    Clock clock
    Lateness *late                 # the pipes and devices by which a late packet has come
    int64_t looked_host_ns         # when the devices were last looked at …
    int64_t read_host_ns           # … and last had something
    DeviceWaits *held              # devices from which what came while the engine was held up is being read
    uint32_t watched_devices       # that are looked at
    int64_t judged_ns              # the time that their lateness is judged over: a second
    Proof *proofs                  # by the index of the pipe; NULL: none is wanted
    uint64_t proof_keys[PROOF_KEYS]
    Flow *flows
    uint32_t flow_high             # flows[flow_high] and above have never been used
    Node *nodes
    uint32_t node_count


# All that an engine holds, whoever of its workers owns it.
cdef struct Tables:
    Node *nodes
    Interface *interfaces
    Pipe *pipes
    Flow *flows
    Proof *proofs
    uint32_t node_count
    uint32_t interface_count
    uint32_t pipe_count
