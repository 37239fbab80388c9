# Links that take no time. What is sent over one in a round of an instant is handled in the next round of it.
#
# Packet.crossings tells that, and what keeps a loop of bridges from going on for ever. Its low bits are 0 for
# a packet that took time on the way, and is handled in the first round of the instant at which it arrives.
# Else they are UNDELAYED and the round in which it is handled, modulo 4: a line holds packets of this round
# and the next at most, so that two that differ are told apart. The bits above count the switches and hubs
# that have passed the packet on at this instant; more than BRIDGES_LIMIT are a loop. What a router passes on
# begins anew, since its TTL ends a loop, and so does what has taken time on the way.

from libc.stdint cimport int64_t, uint16_t, uint32_t

from ..state.network cimport KIND_HUB, KIND_SWITCH, Node, Pipe, Worker
from ..state.packets cimport Packet

cdef enum:
    ROUND_MASK = 7
    UNDELAYED = 4
    ONE_BRIDGE = 8
    BRIDGES_LIMIT = 4096


cdef inline uint16_t next_round(Worker *worker) noexcept nogil:
    """The round after this one, as packets have it."""
    return <uint16_t>(UNDELAYED | (worker.round + 1) & (UNDELAYED - 1))


cdef inline uint32_t packet_round(Worker *worker, Packet *packet, int64_t arrival_ns) noexcept nogil:
    """In which round of `arrival_ns`, when it arrives, a packet in a line is handled."""
    if packet.crossings & UNDELAYED == 0:
        return 0
    if arrival_ns != worker.instant_ns:  # from a node that runs ahead, which does so in the first round
        return 1
    return worker.round + (packet.crossings & ROUND_MASK == next_round(worker))


cdef inline bint is_bridge(Node *node) noexcept nogil:
    return node.kind == KIND_SWITCH or node.kind == KIND_HUB


cdef inline bint packet_crosses(Worker *worker, Pipe *pipe, Packet *packet) noexcept nogil:
    """Let a packet cross a link at this instant. False: bridges have passed it on too often for that."""
    cdef uint32_t bridges = 0
    if is_bridge(pipe.sender.node):
        bridges = (packet.crossings & ~<uint32_t>ROUND_MASK) + ONE_BRIDGE
        if bridges > BRIDGES_LIMIT * ONE_BRIDGE:
            return False
    packet.crossings = <uint16_t>(bridges | next_round(worker))
    return True
