# Echo endpoints (RFC 862): a UDP port of a node that sends back what comes to it, up to a number of
# datagrams. Two of them hold a conversation without Python.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

from ..headers.ether cimport ETHER_HEADER
from ..headers.ip cimport IP_PROTOCOL_UDP
from ..headers.ip4 cimport IP4_DEFAULT_TTL, IP4_HEADER, ip4_write_checksum
from ..headers.udp cimport UDP_HEADER
from ..machine.platform cimport load16, load32, must_zero, put16, store16, store32
from ..observe.drops cimport own_header
from ..packet.packet cimport list_append, packet_new, packet_release
from ..state.network cimport Echo, Node, Worker
from ..state.packets cimport Packet
from ..time.events cimport TIMER_SOCKETS, node_timer
from .conversation cimport TURNS_AT_ONCE, conversation_resumes_ns
from .ip4_output cimport ip4_output, ip4_source, ip4_write_header
from .loopback cimport node_stack
from .udp_output cimport udp_checksum


cdef inline Echo *echo_find(Node *node, uint32_t port) noexcept nogil:
    """The endpoint at a port, or NULL."""
    cdef Echo *echo = node.stack.echoes if node.stack is not NULL else NULL
    while echo is not NULL and echo.port != port:
        echo = echo.next
    return echo


cdef inline void echo_send(
    Worker *worker, Node *node, Echo *echo, Packet *packet, int64_t time_ns
) noexcept nogil:
    """Send a finished datagram of the endpoint's, now or when the conversation may go on."""
    if packet.turns < TURNS_AT_ONCE and echo.waiting.count == 0:
        ip4_output(worker, node, packet, time_ns)
        return
    if echo.waiting.count == 0:
        echo.resumes_ns = conversation_resumes_ns(worker, time_ns)
        node_timer(worker, node, echo.resumes_ns, TIMER_SOCKETS)
    list_append(&echo.waiting, packet)


cdef inline void echo_input(
    Worker *worker, Node *node, Echo *echo, Packet *packet, uint32_t header_length
) noexcept nogil:
    """Turn a datagram around, in place: exchanged addresses and ports leave its checksum right."""
    cdef int64_t time_ns = packet.time_ns
    cdef uint32_t address
    cdef uint16_t port
    cdef uint8_t *ip
    cdef uint8_t *udp
    echo.received_packets += 1
    if echo.answered_packets == echo.limit_packets or header_length != IP4_HEADER:
        packet_release(&worker.pool, packet)
        return
    packet = own_header(worker, node, packet, ETHER_HEADER + IP4_HEADER + UDP_HEADER)
    if packet is NULL:
        return
    echo.answered_packets += 1
    ip = packet.data + ETHER_HEADER
    udp = ip + IP4_HEADER
    address = load32(ip + 12)
    store32(ip + 12, load32(ip + 16))
    store32(ip + 16, address)
    port = load16(udp)
    store16(udp, load16(udp + 2))
    store16(udp + 2, port)
    ip[8] = IP4_DEFAULT_TTL
    put16(ip + 4, node.ip_identification)
    node.ip_identification += 1
    ip4_write_checksum(ip, IP4_HEADER)
    packet.turns += 1
    echo_send(worker, node, echo, packet, time_ns)


cdef inline void echo_timer(Worker *worker, Node *node, int64_t time_ns) noexcept nogil:
    """Go on with the conversations that have waited."""
    cdef Echo *echo = node.stack.echoes
    cdef uint32_t i, count
    cdef Packet **waiting
    while echo is not NULL:
        count = echo.waiting.count if echo.resumes_ns <= time_ns else 0
        if count:
            waiting = echo.waiting.packets
            echo.waiting.packets = NULL
            echo.waiting.count = echo.waiting.capacity = 0
            for i in range(count):
                waiting[i].turns = 0
                ip4_output(worker, node, waiting[i], time_ns)
            free(waiting)
        echo = echo.next


cdef inline Echo *echo_open(Node *node, uint32_t port, uint64_t limit_packets) noexcept nogil:
    """An endpoint at a port that has none."""
    cdef Echo *echo = <Echo *>must_zero(sizeof(Echo))
    echo.port = port
    echo.limit_packets = limit_packets
    echo.next = node_stack(node).echoes
    node.stack.echoes = echo
    return echo


cdef inline bint echo_begin(
    Worker *worker, Node *node, Echo *echo, uint32_t destination, uint32_t port, uint32_t size_bytes,
    int64_t time_ns
) noexcept nogil:
    """Send the first datagram of a conversation, of so many zeros. False: no memory, or no way there."""
    cdef uint32_t source = ip4_source(node, destination)
    cdef Packet *packet
    cdef uint8_t *udp
    if source == 0:
        return False
    packet = packet_new(&worker.pool, ETHER_HEADER + IP4_HEADER + UDP_HEADER + size_bytes)
    if packet is NULL:
        return False
    packet.length = packet.total_length = ETHER_HEADER + IP4_HEADER + UDP_HEADER + size_bytes
    udp = packet.data + ETHER_HEADER + IP4_HEADER
    memset(udp, 0, UDP_HEADER + size_bytes)
    put16(udp, <uint16_t>echo.port)
    put16(udp + 2, <uint16_t>port)
    put16(udp + 4, <uint16_t>(UDP_HEADER + size_bytes))
    ip4_write_header(
        node, packet.data + ETHER_HEADER, packet.total_length - ETHER_HEADER, IP_PROTOCOL_UDP,
        IP4_DEFAULT_TTL,
        source, destination,
    )
    put16(udp + 6, <uint16_t>~udp_checksum(packet, ETHER_HEADER + IP4_HEADER, UDP_HEADER + size_bytes))
    echo_send(worker, node, echo, packet, time_ns)
    return True
