# The structures of what a pipe does beyond the plain: see shaper.pxd, queues/ and impairments/.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from .packets cimport Packet

# A thing that happens to a packet or not, by a stream of its own. Repeating the last outcome now and then
# correlates the outcomes and leaves their probability alone (see random.pxd).
cdef struct Choice:
    uint64_t state
    uint64_t threshold             # a draw below it: yes
    uint64_t repeat_threshold      # a draw below it: as the time before
    uint64_t last                  # the draw that decided the time before
    uint8_t begun


# The head of a table that pipes share, one block of memory with its arrays: see shared.pxd.
cdef struct Shared:
    uint64_t holders
    uint64_t bytes                 # of the whole block


# Values with probabilities: the inverse of a distribution function, straight between its points.
cdef struct Distribution:
    Shared shared
    uint64_t *probabilities        # in 1/2^64, rising, the first 0
    int64_t *values
    uint32_t count


# A recorded bandwidth. Without rates it is a list of opportunities to deliver.
cdef struct RateTable:
    Shared shared
    int64_t *times_ns              # rising, from the start of a lap
    uint64_t *rates_bps            # from that time on; NULL: an opportunity at each time
    uint32_t count
    int64_t period_ns              # after which it repeats; 0: the last rate stays
    uint64_t lap_work              # of rates that repeat: billionths of a bit in one lap
    uint64_t opportunity_bytes     # what one opportunity delivers


# A bandwidth that follows a recording.
cdef struct RateTrace:
    RateTable *table               # NULL: none
    uint32_t position
    int64_t lap_ns                 # when the present lap began
    uint64_t left_bytes            # of the opportunity at `position`


# A recorded loss.
cdef struct Fates:
    Shared shared
    uint8_t *fates                 # one a packet; 0: arrives
    uint32_t count


cdef enum LossModel:
    LOSS_RANDOM = 0
    LOSS_GILBERT_ELLIOTT = 1
    LOSS_MARKOV = 2
    LOSS_TRACE = 3


cdef struct Loss:
    uint8_t model                  # of enum LossModel
    uint8_t marks                  # a packet that can be marked (ECN) is marked in place of being lost
    uint8_t state                  # of the chain
    Choice choice                  # of the random model; its stream serves all
    uint64_t thresholds[5]         # of the chain's transitions: see the models' rooms
    Fates *trace                   # NULL: none
    uint32_t trace_position


cdef struct BitErrors:
    uint64_t survival              # of one bit, in 1/2^64; 0: no errors
    uint64_t random_state
    uint64_t cached_threshold      # that a frame of cached_bytes is lost
    uint32_t cached_bytes


cdef struct Jitter:
    Distribution *distribution     # added to the delay, in ns; NULL: nothing is
    Choice choice                  # its stream and its correlation
    uint8_t overtakes              # arrivals need not keep the order


# What packets occupy the link beside their transmission.
cdef struct Airtime:
    Distribution *distribution     # in ns, none below 0; NULL: nothing
    uint64_t random_state
    uint64_t loss_threshold        # a draw at it or above: lost; UINT64_MAX: none is
    uint8_t loses                  # the packet in service


# Bursts of a shared medium: the line opens now and then, and lets a number of packets through.
cdef struct Slots:
    Distribution *distribution     # between two openings, in ns; NULL: no slots
    uint64_t random_state
    uint32_t limit_packets         # of one opening; 0: no limit
    uint32_t left_packets
    uint64_t limit_bytes
    uint64_t left_bytes
    int64_t open_ns                # the present opening


cdef enum QueueDiscipline:
    QUEUE_DROPTAIL = 0
    QUEUE_DROPHEAD = 1
    QUEUE_RED = 2
    QUEUE_CODEL = 3
    QUEUE_PIE = 4
    QUEUE_ROUND_ROBIN = 5
    QUEUE_DRR = 6
    QUEUE_WFQ = 7
    QUEUE_QFQ = 8
    QUEUE_PRIORITY = 9
    QUEUE_FQ_CODEL = 10
    QUEUE_FQ_PIE = 11
    QUEUE_EACH = 12


# What a flow is told by: the bits of each field that count.
cdef struct FlowMask:
    uint8_t source[16]             # IPv4 in the first four bytes, by source4
    uint8_t destination[16]
    uint32_t source4
    uint32_t destination4
    uint16_t source_port
    uint16_t destination_port
    uint8_t protocol


# Settings of a discipline; each room says which ones it reads.
cdef struct QueueSettings:
    uint8_t discipline             # of enum QueueDiscipline
    uint8_t ecn
    uint8_t gentle
    uint8_t drops_head             # a full queue drops its oldest packet
    uint8_t caps
    uint8_t derandomizes
    uint8_t turns_off
    int64_t alpha_microhertz
    int64_t beta_microhertz
    uint32_t flows                 # queues that flows are hashed to
    uint32_t quantum_bytes
    uint64_t rate_bps
    uint32_t weights[8]            # by IP precedence (the class selector of RFC 2474)
    int64_t target_ns
    int64_t interval_ns
    int64_t burst_ns
    uint64_t least_bytes
    uint64_t most_bytes
    uint64_t probability           # in 1/2^64
    uint32_t average_shift         # the average moves by 1/2^this of what is new
    FlowMask mask


cdef enum FateOnWire:              # in place of the round in Packet.crossings, while the packet waits
    FATE_OPEN = 0
    # the pipe was plain when it came, and has not lost it: see pipe_begin_shaping()
    FATE_SPARED = 1


cdef struct QueuedPacket:
    Packet *packet                 # its time_ns: when it was queued
    uint32_t next                  # index + 1 of its neighbours in the queue, or of the next free place
    uint32_t previous


# What each discipline that judges packets, or paces them, keeps for a queue: see queues/.
cdef struct RedState:
    uint64_t average               # of the queue, in 1/2^32 bytes
    # packets since the last that was dropped or marked; -1: below the thresholds
    int64_t since_drop


cdef struct CodelState:
    int64_t first_above_ns
    int64_t drop_next_ns
    uint32_t drop_count
    uint32_t last_drop_count
    uint8_t dropping


cdef struct PieState:
    int64_t probability            # in 1/2^56, as is what follows
    uint64_t accumulated           # probability since the last drop
    int64_t delay_ns               # of the packet that left last; 0 once the queue is empty
    int64_t old_delay_ns           # the same at the last update
    int64_t burst_left_ns
    int64_t update_ns              # the next update; 0: nothing has come yet, or it is turned off


cdef struct EachState:             # the flow's transmitter
    int64_t free_ns                # when it is done with what it has
    uint64_t free_remainder        # in 1/rate_bps ns


cdef union JudgeState:
    RedState red
    CodelState codel
    PieState pie
    EachState each


# One queue of a discipline, first in, first out.
cdef struct FlowQueue:
    uint32_t first                 # index + 1 in Shaper.places
    uint32_t last
    uint32_t packets
    uint32_t next_active           # index + 1 of the next in a list of queues
    uint64_t bytes
    int64_t deficit_bytes
    uint8_t list                   # which list it stands in; 0: none
    uint16_t weight                # drr, wfq, qfq
    # wfq, each: in its heap; qfq: index + 1 of the next in the list of idle ones
    uint32_t heap_place
    uint64_t virtual_start         # wfq, qfq: of its first packet; each: when that has left its flow, in ns
    uint64_t virtual_finish        # wfq
    JudgeState judge


cdef struct ActiveList:
    uint32_t first                 # index + 1 in Shaper.queues
    uint32_t last


cdef enum FairList:                # FlowQueue.list of wfq, and bits of that of qfq
    FAIR_NONE = 0                  # takes no part: its virtual times mean nothing
    FAIR_WAITING = 1
    FAIR_ELIGIBLE = 2
    FAIR_IN_SLOT = 1
    FAIR_IDLE = 2


# Queues by their virtual start (waiting) or finish (eligible), the least first, then by index: see
# queues/flow_heap.pxd.
cdef struct FlowHeap:
    uint32_t *queues               # indices
    uint32_t count
    uint32_t capacity
    uint8_t list                   # of enum FairList


cdef enum:
    QFQ_GROUPS = 18
    QFQ_SLOTS = 32


# Queues of about the same weight, sorted by their virtual starts into slots of 2^index bytes: see
# queues/qfq.pxd.
cdef struct QfqGroup:
    uint64_t start                 # of the first slot that is taken
    uint32_t taken                 # bit i: the slot i after the first has queues
    uint32_t first                 # which of `slots` the first is
    ActiveList slots[QFQ_SLOTS]


cdef enum:
    QFQ_READY = 0                  # eligible, and no higher one that is ready finishes before it
    QFQ_BLOCKED = 1                # eligible, but for such a one
    QFQ_EARLY = 2                  # not eligible yet; would be ready
    QFQ_EARLY_BLOCKED = 3          # not eligible yet; would be blocked
    QFQ_SETS = 4


# The clock that fair queues share a link by, and the order in which they stand.
cdef struct FairClock:
    uint64_t now                   # virtual time
    uint64_t weights               # sum over the flows that take part
    uint32_t served_bytes          # that `now` has yet to move on by
    FlowHeap waiting               # wfq, each
    FlowHeap eligible
    QfqGroup *groups               # qfq
    uint32_t sets[QFQ_SETS]        # bits of groups
    uint32_t longest_bytes         # packet
    ActiveList idle                # queues that have been empty, longest first


# What a pipe has that does more than bandwidth, overhead, delay, random loss and a drop-tail queue. The queue
# holds packets; a timer of the sending node starts their service. See shaper.pxd.
cdef struct Shaper:
    QueueSettings queue
    QueuedPacket *places
    uint32_t place_capacity
    uint32_t free_place            # index + 1
    FlowQueue *queues
    uint32_t queue_count
    uint32_t packets
    uint64_t bytes
    ActiveList active[2]           # queues with packets, where the discipline takes turns
    int64_t ready_ns               # since when there is something to send; each: or from when on
    int64_t timer_ns               # the outstanding timer; NEVER: none
    int64_t now_ns                 # at which the discipline takes a packet, or gives one
    FairClock *fair                # wfq, qfq and each; else NULL
    uint64_t random_state          # the discipline's own
    uint64_t flow_seed
    # the transmitter
    uint32_t cell_bytes            # 0: no cells
    uint32_t cell_overhead_bytes
    uint64_t burst_bytes
    RateTrace trace
    Airtime airtime
    # the wire
    Loss loss
    BitErrors bit_errors
    Choice duplicate
    Choice corrupt
    uint64_t corrupt_state
    Choice reorder
    uint32_t reorder_gap           # every so many packets one may overtake; 0 or 1: each
    uint32_t reorder_count
    Jitter jitter
    Slots slots
    uint64_t early_drop_packets    # by the discipline before its queue was full
    uint64_t marked_packets
    uint64_t duplicate_packets
    uint64_t corrupted_packets
    uint64_t reordered_packets
