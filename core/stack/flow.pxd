# Flows: what a node sends by itself (ping, UDP at a constant rate), and the measurement of what came of it.
#
# A flow is a timer of its node. Its packets carry their logical time of sending, so that delays are exact in
# every time mode. The interval of a UDP flow is whole nanoseconds and a carried remainder, so its rate is
# exact. Delays are kept for quantiles up to a million samples; after that every second one, and so on.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from ..headers.ether cimport ETHER_HEADER
from ..headers.icmp cimport ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_HEADER
from ..headers.ip cimport IP_PROTOCOL_ICMP, IP_PROTOCOL_UDP
from ..headers.ip4 cimport IP4_DEFAULT_TTL, IP4_HEADER
from ..headers.udp cimport UDP_HEADER
from ..machine.platform cimport debug_assert, get16, get32, load64, put16, store64, with_room
from ..observe.drops cimport count_drop, drop
from ..packet.packet cimport packet_checksum, packet_new, packet_release
from ..state.network cimport FLOW_PING, FLOW_UDP, Flow, Node, Reply, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_ICMP_NO_LISTENER, DROP_IP4_NO_ROUTE, DROP_POOL_EMPTY
from ..state.records cimport POSTED_FLOW_DONE
from ..time.events cimport TIMER_FLOWS, never, node_timer, post
from .ip4_output cimport ip4_output, ip4_source, ip4_write_header
from .udp_output cimport udp_checksum

cdef enum:
    UDP_STAMP = 16                 # sequence and time of sending, at the head of the payload
    SAMPLES = 1 << 20
    REPLIES = 1 << 16


cdef inline void flow_sample(Flow *flow, int64_t delay_ns) noexcept nogil:
    cdef uint32_t i
    if flow.received_packets == 1 or delay_ns < flow.delay_min_ns:
        flow.delay_min_ns = delay_ns
    if flow.received_packets == 1 or delay_ns > flow.delay_max_ns:
        flow.delay_max_ns = delay_ns
    flow.sample_seen += 1
    if (flow.sample_seen - 1) % flow.sample_stride:
        return
    if flow.sample_count == SAMPLES:
        for i in range(SAMPLES // 2):
            flow.samples[i] = flow.samples[2 * i]
        flow.sample_count = SAMPLES // 2
        flow.sample_stride *= 2
        if (flow.sample_seen - 1) % flow.sample_stride:
            return
    flow.samples = <int64_t *>with_room(
        flow.samples, flow.sample_count, &flow.sample_capacity, 64, sizeof(int64_t)
    )
    flow.samples[flow.sample_count] = delay_ns
    flow.sample_count += 1


cdef inline void flow_received(
    Flow *flow, uint64_t sequence, uint32_t bytes, int64_t sent_ns, int64_t time_ns
) noexcept nogil:
    flow.received_packets += 1
    flow.received_bytes += bytes
    if flow.received_packets == 1:
        flow.first_received_ns = time_ns
    flow.last_received_ns = time_ns
    if sequence < flow.next_expected:
        flow.reordered_packets += 1
    else:
        flow.next_expected = sequence + 1
    flow_sample(flow, time_ns - sent_ns)


cdef inline void flow_finish(Worker *worker, Flow *flow, int64_t time_ns) noexcept nogil:
    if not flow.done:
        flow.done = 1
        flow.due_ns = never()
        debug_assert(time_ns >= worker.quiet_ns)
        post(worker, time_ns, POSTED_FLOW_DONE, flow.index)


cdef inline bint flow_has_more(Flow *flow) noexcept nogil:
    return (flow.count == 0 or flow.sent_packets < flow.count) and flow.due_ns < flow.stop_ns


cdef inline int64_t flow_quiet_until(Flow *flow) noexcept nogil:
    """A time before which the flow is not done, whatever arrives: when its last packet is sent, or sooner."""
    cdef int64_t last_ns = never()
    cdef uint64_t left
    if flow.waiting or flow.probes_per_ttl:  # any answer may be the last
        return 0
    if flow.count:
        left = flow.count - flow.sent_packets - 1
        if left < (<uint64_t>1 << 62) // flow.interval_ns:  # else it is never
            last_ns = flow.due_ns + <int64_t>left * flow.interval_ns
    if flow.stop_ns - flow.interval_ns - 1 < last_ns:
        last_ns = flow.stop_ns - flow.interval_ns - 1
    return last_ns if last_ns > flow.due_ns else flow.due_ns


cdef inline void flow_check_done(Worker *worker, Flow *flow, int64_t time_ns) noexcept nogil:
    """A flow that has sent all and heard of all is done before its time is up."""
    if flow.waiting and flow.received_packets + flow.unreachable_packets >= flow.sent_packets:
        flow_finish(worker, flow, time_ns)


cdef inline void flow_arm(Worker *worker, Flow *flow, int64_t now_ns) noexcept nogil:
    """Set the timer: for the next packet, or for the time to stop waiting for answers."""
    cdef int64_t patience_ns
    if not flow_has_more(flow):
        flow.waiting = 1
        patience_ns = flow.timeout_ns
        if patience_ns < 2 * flow.delay_max_ns:
            patience_ns = 2 * flow.delay_max_ns
        flow.due_ns = now_ns + patience_ns
        if flow.kind == FLOW_UDP and flow.sink is NULL:
            flow.due_ns = now_ns
    node_timer(worker, flow.node, flow.due_ns, TIMER_FLOWS + flow.index)


cdef inline void flow_start(Worker *worker, Flow *flow, int64_t now_ns) noexcept nogil:
    flow.due_ns = flow.start_ns if flow.start_ns > now_ns else now_ns
    flow_arm(worker, flow, now_ns)
    flow_check_done(worker, flow, now_ns)


cdef inline Packet *flow_packet(Worker *worker, Flow *flow, uint32_t header_length) noexcept nogil:
    """A packet with room for all headers and a payload that is the same in every run."""
    cdef uint32_t length = ETHER_HEADER + IP4_HEADER + header_length + flow.size_bytes
    cdef Packet *packet = packet_new(&worker.pool, length)
    if packet is NULL:
        count_drop(flow.node, DROP_POOL_EMPTY)
        return NULL
    packet.length = packet.total_length = length
    memset(packet.data, 0, length)
    return packet


cdef inline void flow_send_ping(Worker *worker, Flow *flow, uint32_t source, int64_t time_ns) noexcept nogil:
    cdef Packet *packet = flow_packet(worker, flow, ICMP_HEADER)
    cdef uint32_t ttl = flow.ttl
    cdef uint32_t i
    cdef uint8_t *icmp
    if packet is NULL:
        return
    if flow.probes_per_ttl:
        ttl = 1 + <uint32_t>flow.sent_packets // flow.probes_per_ttl
    icmp = packet.data + ETHER_HEADER + IP4_HEADER
    icmp[0] = ICMP_ECHO
    put16(icmp + 4, flow.identifier)
    put16(icmp + 6, <uint16_t>flow.sent_packets)
    for i in range(flow.size_bytes):
        icmp[ICMP_HEADER + i] = <uint8_t>i
    put16(
        icmp + 2,
        <uint16_t>~packet_checksum(packet, ETHER_HEADER + IP4_HEADER, ICMP_HEADER + flow.size_bytes, 0)
    )
    ip4_write_header(
        flow.node, packet.data + ETHER_HEADER, packet.length - ETHER_HEADER, IP_PROTOCOL_ICMP, <uint8_t>ttl,
        source, flow.destination
    )
    ip4_output(worker, flow.node, packet, time_ns)


cdef inline void flow_send_udp(Worker *worker, Flow *flow, uint32_t source, int64_t time_ns) noexcept nogil:
    cdef Packet *packet = flow_packet(worker, flow, UDP_HEADER)
    cdef uint8_t *udp
    cdef uint32_t length = UDP_HEADER + flow.size_bytes
    cdef uint32_t checksum
    if packet is NULL:
        return
    udp = packet.data + ETHER_HEADER + IP4_HEADER
    put16(udp, flow.identifier)
    put16(udp + 2, flow.identifier)
    put16(udp + 4, <uint16_t>length)
    store64(udp + UDP_HEADER, flow.sent_packets)
    store64(udp + UDP_HEADER + 8, <uint64_t>time_ns)
    ip4_write_header(
        flow.node, packet.data + ETHER_HEADER, IP4_HEADER + length, IP_PROTOCOL_UDP, IP4_DEFAULT_TTL, source,
        flow.destination
    )
    checksum = udp_checksum(packet, ETHER_HEADER + IP4_HEADER, length)
    put16(udp + 6, <uint16_t>(~checksum) if <uint16_t>(~checksum) else 0xFFFF)
    ip4_output(worker, flow.node, packet, time_ns)


cdef inline void flow_timer(Worker *worker, Flow *flow, int64_t time_ns) noexcept nogil:
    """The flow's time has come: to send the next packet, or to stop waiting."""
    cdef uint32_t source
    if flow.done or time_ns < flow.due_ns:
        return
    if flow.waiting:
        flow_finish(worker, flow, time_ns)
        return
    if flow.sent_packets == 0:
        flow.first_sent_ns = time_ns
    flow.last_sent_ns = time_ns
    source = ip4_source(flow.node, flow.destination)
    if source == 0:
        count_drop(flow.node, DROP_IP4_NO_ROUTE)
        flow.unreachable_packets += 1
    elif flow.kind == FLOW_PING:
        flow_send_ping(worker, flow, source, time_ns)
    else:
        flow_send_udp(worker, flow, source, time_ns)
    flow.sent_packets += 1
    flow.sent_bytes += flow.size_bytes
    flow.due_ns = time_ns + flow.interval_ns
    flow.carried_remainder += flow.interval_remainder
    if flow.rate_bps and flow.carried_remainder >= flow.rate_bps:
        flow.carried_remainder -= flow.rate_bps
        flow.due_ns += 1
    flow_arm(worker, flow, time_ns)
    flow_check_done(worker, flow, time_ns)


cdef inline Flow *flow_by_identifier(Flow *flow, uint32_t kind, uint32_t identifier) noexcept nogil:
    while flow is not NULL:
        if flow.kind == kind and flow.identifier == identifier:
            return flow
        flow = flow.next
    return NULL


cdef inline void flow_note_reply(
    Flow *flow, uint64_t sequence, uint32_t responder, uint8_t icmp_type, uint8_t icmp_code, uint8_t ttl,
    int64_t rtt_ns
) noexcept nogil:
    cdef Reply *reply
    if not flow.keep_replies or flow.reply_count == REPLIES:
        return
    flow.replies = <Reply *>with_room(
        flow.replies, flow.reply_count, &flow.reply_capacity, 8, sizeof(Reply)
    )
    reply = &flow.replies[flow.reply_count]
    reply.sequence = <uint32_t>sequence
    reply.responder = responder
    reply.icmp_type = icmp_type
    reply.icmp_code = icmp_code
    reply.ttl = ttl
    reply.rtt_ns = rtt_ns
    flow.reply_count += 1


cdef inline bint flow_sequence(Flow *flow, uint32_t sequence, uint64_t *full) noexcept nogil:
    """The number of a request from its 16 bits on the wire: the latest one that was sent with them."""
    cdef uint64_t back
    if flow.sent_packets == 0:
        return False
    back = (flow.sent_packets - 1 - sequence) & 0xFFFF
    if back >= flow.sent_packets:
        return False
    full[0] = flow.sent_packets - 1 - back
    return True


cdef inline void flow_end_sweep(Flow *flow, uint64_t sequence) noexcept nogil:
    """The destination has answered a probe: none with a higher TTL needs to be sent."""
    cdef uint64_t count = (sequence // flow.probes_per_ttl + 1) * flow.probes_per_ttl
    if count < flow.sent_packets:
        count = flow.sent_packets
    if count < flow.count:
        flow.count = count


cdef inline void flow_echo_reply(
    Worker *worker, Node *node, Packet *packet, uint32_t header_length
) noexcept nogil:
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef uint8_t *icmp = ip + header_length
    cdef Flow *flow = flow_by_identifier(node.flows, FLOW_PING, get16(icmp + 4))
    cdef uint64_t sequence = 0
    cdef int64_t sent_ns
    if flow is NULL or not flow_sequence(flow, get16(icmp + 6), &sequence):
        drop(worker, node, packet, DROP_ICMP_NO_LISTENER)
        return
    sent_ns = flow.first_sent_ns + <int64_t>sequence * flow.interval_ns
    flow_received(flow, sequence, get16(ip + 2) - header_length - ICMP_HEADER, sent_ns, packet.time_ns)
    flow_note_reply(flow, sequence, get32(ip + 12), ICMP_ECHO_REPLY, 0, ip[8], packet.time_ns - sent_ns)
    if flow.probes_per_ttl:
        flow_end_sweep(flow, sequence)
        flow.waiting = not flow_has_more(flow)
    flow_check_done(worker, flow, packet.time_ns)
    packet_release(&worker.pool, packet)


cdef inline void flow_icmp_error(
    Worker *worker, Node *node, Packet *packet, uint8_t *icmp, uint8_t *quoted
) noexcept nogil:
    """An error about one of our packets; `quoted` is its IP header, with 8 bytes behind it."""
    cdef uint8_t *inner = quoted + (quoted[0] & 15) * 4
    cdef Flow *flow = NULL
    cdef uint64_t sequence = 0
    if quoted[9] == IP_PROTOCOL_ICMP and inner[0] == ICMP_ECHO:
        flow = flow_by_identifier(node.flows, FLOW_PING, get16(inner + 4))
        if flow is not NULL and not flow_sequence(flow, get16(inner + 6), &sequence):
            flow = NULL
    elif quoted[9] == IP_PROTOCOL_UDP:
        flow = flow_by_identifier(node.flows, FLOW_UDP, get16(inner))
    if flow is NULL:
        drop(worker, node, packet, DROP_ICMP_NO_LISTENER)
        return
    flow.unreachable_packets += 1
    if flow.kind == FLOW_PING:
        flow_note_reply(
            flow, sequence, get32(packet.data + ETHER_HEADER + 12), icmp[0], icmp[1],
            packet.data[ETHER_HEADER + 8],
            packet.time_ns - flow.first_sent_ns - <int64_t>sequence * flow.interval_ns,
        )
    flow_check_done(worker, flow, packet.time_ns)
    packet_release(&worker.pool, packet)


cdef inline Flow *flow_of_datagram(Node *node, uint8_t *udp) noexcept nogil:
    """The flow that sent a datagram, by its ports and length; NULL for what came from elsewhere."""
    cdef uint32_t port = get16(udp + 2)
    cdef Flow *flow = node.sinks
    while flow is not NULL:
        if flow.identifier == port:
            return flow if get16(udp) == port and get16(udp + 4) == UDP_HEADER + flow.size_bytes else NULL
        flow = flow.next_sink
    return NULL


cdef inline void flow_datagram(Worker *worker, Flow *flow, Packet *packet, uint8_t *udp) noexcept nogil:
    """A datagram for a flow's sink; its stamp is known to be in one piece with the header."""
    flow_received(
        flow, load64(udp + UDP_HEADER), get16(udp + 4) - UDP_HEADER, <int64_t>load64(udp + UDP_HEADER + 8),
        packet.time_ns
    )
    flow_check_done(worker, flow, packet.time_ns)
    packet_release(&worker.pool, packet)
