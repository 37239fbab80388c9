# What a node has taken of the engine's memory: its context, its interfaces, its tables, and the pipes that it
# sends over, each with its line, its queue and what its shaper holds. A table that pipes share (shared.pxd)
# counts in full with each of them, so that what others do changes nothing here. Packets are not counted,
# wherever they wait: they are the pool's.

from libc.stdint cimport uint32_t, uint64_t

from ..link.shared_tables cimport table_bytes
from ..observe.drops cimport drops_bytes
from ..observe.lateness cimport device_lateness
from ..stack.route cimport HANDFUL_BYTES, TRIE_BLOCK
from ..state.network cimport (
    Address4, DeviceWaits, Echo, Interface, KIND_SWITCH, LateStretch, Lateness, MacEntry, Neighbor, Node,
    Pipe, PipeEntry, Route4, Stack, Waiting,
)
from ..state.records cimport Event
from ..state.shapers cimport FairClock, FlowQueue, QFQ_GROUPS, QfqGroup, QueuedPacket, Shaper


cdef inline uint64_t shaper_bytes(Shaper *shaper) noexcept nogil:
    cdef uint64_t total = sizeof(Shaper) + shaper.place_capacity * sizeof(QueuedPacket)
    total += shaper.queue_count * sizeof(FlowQueue)
    if shaper.fair is not NULL:
        total += sizeof(FairClock)
        total += (shaper.fair.waiting.capacity + shaper.fair.eligible.capacity) * sizeof(uint32_t)
        if shaper.fair.groups is not NULL:
            total += QFQ_GROUPS * sizeof(QfqGroup)
    return total + table_bytes(shaper)


cdef inline uint64_t pipe_bytes(Pipe *pipe) noexcept nogil:
    cdef uint64_t total = sizeof(Pipe) + pipe.capacity * sizeof(PipeEntry)
    if pipe.waiting is not NULL:
        total += pipe.capacity * sizeof(Waiting)
    if pipe.lateness is not NULL:
        total += sizeof(Lateness) + pipe.lateness.stretch_capacity * sizeof(LateStretch)
    if pipe.shaper is not NULL:
        total += shaper_bytes(pipe.shaper)
    return total


cdef inline uint64_t node_bytes(Node *node) noexcept nogil:
    cdef uint64_t total = sizeof(Node) + node.port_capacity * sizeof(void *)
    cdef uint32_t i
    cdef Interface *interface
    cdef Echo *echo
    cdef Lateness *waits = device_lateness(node)
    if waits is not NULL:
        total += sizeof(DeviceWaits) + waits.stretch_capacity * sizeof(LateStretch)
    if node.stack is not NULL:
        total += sizeof(Stack) + node.stack.loopback_pipe.capacity * sizeof(PipeEntry)
        total += node.stack.loopback.address_count * sizeof(Address4)
        echo = node.stack.echoes
        while echo is not NULL:
            total += sizeof(Echo) + echo.waiting.capacity * sizeof(void *)
            echo = echo.next
    total += node.events.capacity * sizeof(Event) + node.table.capacity * sizeof(Route4)
    total += node.table.trie_capacity * TRIE_BLOCK * sizeof(uint32_t)
    if node.table.fib is not NULL and node.table.trie_blocks == 0:
        total += HANDFUL_BYTES
    total += node.neighbor_capacity * sizeof(void *) + node.neighbor_count * sizeof(Neighbor)
    if node.kind == KIND_SWITCH:
        total += node.own.bridge.mac_capacity * sizeof(MacEntry)
    if node.drops is not NULL:
        total += drops_bytes(node.drops.capacity)
    for i in range(node.port_count):
        interface = node.ports[i]
        total += sizeof(Interface) + interface.address_count * sizeof(Address4)
        if interface.output is not NULL:
            total += pipe_bytes(interface.output)
    return total
