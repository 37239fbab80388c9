# The loopback interface of a node, `lo`: what the node sends to one of its own addresses, or to 127/8 (RFC
# 1122, section 3.2.1.3), leaves it here and comes back in the next round of the instant.
#
# It is an interface like others, with counters, captures, and a chain in the run's hash, joined to itself by
# an ideal pipe. It is made on first use, by the worker in the middle of a turn, so it hangs off the node and
# is in no table of the engine; its number and that of its pipe tell whose it is. Since it takes no time, a
# node could never run ahead if it counted as a way to the node. So it does not, and a node that has sent
# itself something goes no further before it has taken that in: see node_turn(). That would be too late in the
# middle of a vector, but what comes by a link never makes a node send something to itself: see ip4_output().

from libc.stdint cimport int64_t, uint32_t

from ..headers.ether cimport ETHER_TYPE_IP4, ether_write
from ..link.interface cimport interface_send
from ..link.pipe cimport pipe_init
from ..machine.platform cimport must_zero
from ..state.network cimport Interface, LOOPBACK_INDEX, LOOPBACK_PORT, Node, OBSERVE_PROOF, Stack, Worker
from ..state.packets cimport Packet

cdef enum:
    LOOPBACK_MTU = 65536           # as on Linux: the longest IP packet has room
    LOOPBACK_ADDRESS = 0x7F000001u # 127.0.0.1


cdef inline Stack *node_stack(Node *node) noexcept nogil:
    """What a node has of its stack beyond the plain, made on first use."""
    if node.stack is NULL:
        node.stack = <Stack *>must_zero(sizeof(Stack))
    return node.stack


cdef inline Interface *node_loopback(Worker *worker, Node *node) noexcept nogil:
    """The node's loopback interface, made on first use."""
    cdef Stack *stack = node_stack(node)
    cdef Interface *interface = &stack.loopback
    if interface.node is NULL:
        interface.node = node
        interface.mtu = LOOPBACK_MTU
        interface.port = LOOPBACK_PORT
        interface.index = LOOPBACK_INDEX | node.index
        pipe_init(&stack.loopback_pipe, LOOPBACK_INDEX | node.index, interface, interface, 0)
        if worker.proofs is not NULL:
            stack.loopback_pipe.observed = OBSERVE_PROOF
    return interface


cdef inline bint is_loopback(uint32_t address) noexcept nogil:
    """Whether an address is in 127/8, which every node has for itself."""
    return address >> 24 == 127


cdef inline bint packet_is_own(Packet *packet) noexcept nogil:
    """Whether a node has a packet from nobody else, by its loopback interface or as one that it has made."""
    return packet.input_port == 0 or packet.input_port == LOOPBACK_PORT + 1


cdef inline void loopback_send(Worker *worker, Node *node, Packet *packet, int64_t time_ns) noexcept nogil:
    """Let an IPv4 packet of the node's own come back to it. The first 14 bytes take a header of zeros."""
    ether_write(packet.data, 0, 0, ETHER_TYPE_IP4)
    interface_send(worker, node_loopback(worker, node), packet, time_ns)
