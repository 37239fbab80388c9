# IPv4 out of a node (RFC 791): headers, the way to a neighbour, fragments.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint8_t

from ..headers.ether cimport ETHER_HEADER
from ..headers.ip4 cimport (
    IP4_HEADER, IP4_MORE_FRAGMENTS, IP4_OFFSET_MASK, IP4_OPTION_COPY, IP4_OPTION_END, IP4_OPTION_NOP,
    ip4_write_checksum,
)
from ..machine.platform cimport get16, get32, is_likely, put16, put32
from ..observe.drops cimport count_drop, drop
from ..packet.packet cimport packet_copy_bytes, packet_new, packet_release, packet_slice
from ..packet.segment cimport packet_finish_checksum, wire_frame_bytes
from ..state.network cimport (
    Neighbor, Node, ROUTE_CONNECTED, ROUTE_GATEWAY, ROUTE_LOCAL, ROUTE_UNREACHABLE, Route4, Worker,
)
from ..state.packets cimport CHECKSUM_IP4_VALID, Packet
from ..state.reasons cimport (
    DROP_IP4_BROADCAST, DROP_IP4_NO_ROUTE, DROP_IP4_ROUTE_UNREACHABLE, DROP_IP4_SOURCE_MARTIAN,
    DROP_IP4_TOTAL_LENGTH, DROP_NEIGHBOR_TABLE_FULL, DROP_POOL_EMPTY,
)
from .address cimport interface_source, route_is_broadcast
from .loopback cimport LOOPBACK_ADDRESS, is_loopback, loopback_send, packet_is_own
from .neighbor cimport neighbor_get, neighbor_send
from .route cimport route_lookup


cdef inline void ip4_write_header(
    Node *node, uint8_t *ip, uint32_t total_length, uint8_t protocol, uint8_t ttl, uint32_t source,
    uint32_t destination
) noexcept nogil:
    """A header without options for a packet of the node's own."""
    ip[0] = 0x45
    ip[1] = 0
    put16(ip + 2, <uint16_t>total_length)
    put16(ip + 4, node.ip_identification)
    node.ip_identification += 1
    put16(ip + 6, 0)
    ip[8] = ttl
    ip[9] = protocol
    put32(ip + 12, source)
    put32(ip + 16, destination)
    ip4_write_checksum(ip, IP4_HEADER)


cdef inline Neighbor *route_neighbor(
    Node *node, Route4 *route, uint32_t destination, int64_t time_ns
) noexcept nogil:
    """Who takes packets for `destination` by a route that leads somewhere; NULL where the node knows too
    many.
    """
    if route.kind == ROUTE_CONNECTED:
        return neighbor_get(node, route.interface, destination, time_ns)
    if route.neighbor is NULL:
        route.neighbor = neighbor_get(node, route.interface, route.gateway, time_ns)
    return route.neighbor


cdef inline uint32_t ip4_source(Node *node, uint32_t destination) noexcept nogil:
    """The address that the node sends to `destination` from; 0 where it has no way there."""
    cdef Route4 *route = route_lookup(&node.table, destination)
    if is_loopback(destination):
        return LOOPBACK_ADDRESS
    if route is NULL or route.interface is NULL:
        return 0
    if route.kind == ROUTE_LOCAL:
        return destination
    return interface_source(route.interface, route.gateway if route.kind == ROUTE_GATEWAY else destination)


cdef inline void fragment_options(uint8_t *ip, uint32_t header_length) noexcept nogil:
    """Blank the options that only the first fragment carries (RFC 791, section 3.1, "copied" flag)."""
    cdef uint32_t i = IP4_HEADER
    cdef uint32_t length, k
    while i < header_length and ip[i] != IP4_OPTION_END:
        if ip[i] == IP4_OPTION_NOP:
            i += 1
            continue
        length = ip[i + 1] if i + 1 < header_length else 0
        if length < 2 or i + length > header_length:
            return
        if not ip[i] & IP4_OPTION_COPY:
            for k in range(length):
                ip[i + k] = IP4_OPTION_NOP
        i += length


cdef inline void ip4_fragment(
    Worker *worker, Node *node, Neighbor *neighbor, Packet *packet, int64_t time_ns
) noexcept nogil:
    """Send a packet that is too long for its link in pieces: new headers before views of the old bytes."""
    cdef uint32_t header_length, payload, flags_and_offset, step, here, flags
    cdef uint32_t done = 0
    cdef Packet *fragment
    cdef Packet *body
    cdef uint8_t *header
    packet = packet_finish_checksum(&worker.pool, packet)  # a fragment has no room for a promise
    if packet is NULL:
        count_drop(node, DROP_POOL_EMPTY)
        return
    header = packet.data + ETHER_HEADER
    header_length = (header[0] & 15) * 4
    payload = get16(header + 2) - header_length
    flags_and_offset = get16(header + 6)
    step = (neighbor.interface.mtu - header_length) & ~<uint32_t>7
    # a fragment of what cannot have been a packet
    if (flags_and_offset & IP4_OFFSET_MASK) * 8 + payload > 65535:
        drop(worker, node, packet, DROP_IP4_TOTAL_LENGTH)
        return
    while done < payload:
        here = payload - done if payload - done < step else step
        fragment = packet_new(&worker.pool, ETHER_HEADER + header_length)
        body = packet_slice(&worker.pool, packet, ETHER_HEADER + header_length + done, here)
        if fragment is NULL or body is NULL:
            if fragment is not NULL:
                packet_release(&worker.pool, fragment)
            if body is not NULL:
                packet_release(&worker.pool, body)
            count_drop(node, DROP_POOL_EMPTY)
            break
        header = fragment.data + ETHER_HEADER
        packet_copy_bytes(packet, 0, fragment.data, ETHER_HEADER + header_length)
        flags = flags_and_offset & IP4_MORE_FRAGMENTS
        if done + here < payload:
            flags = IP4_MORE_FRAGMENTS
        put16(header + 2, <uint16_t>(header_length + here))
        put16(header + 6, <uint16_t>(flags | ((flags_and_offset & IP4_OFFSET_MASK) + done // 8)))
        if done:
            fragment_options(header, header_length)
        ip4_write_checksum(header, header_length)
        fragment.length = ETHER_HEADER + header_length
        fragment.total_length = fragment.length + here
        fragment.next = body
        fragment.time_ns = time_ns
        fragment.input_port = packet.input_port
        fragment.header_state = CHECKSUM_IP4_VALID
        neighbor_send(worker, node, neighbor, fragment, time_ns)
        done += here
    packet_release(&worker.pool, packet)


cdef inline void ip4_send(
    Worker *worker, Node *node, Neighbor *neighbor, Packet *packet, int64_t time_ns
) noexcept nogil:
    """Send a finished packet to a neighbour, in fragments where it is longer than the link allows."""
    if is_likely(wire_frame_bytes(packet) <= neighbor.interface.mtu + ETHER_HEADER):
        neighbor_send(worker, node, neighbor, packet, time_ns)
    else:
        ip4_fragment(worker, node, neighbor, packet, time_ns)


cdef inline void ip4_output(Worker *worker, Node *node, Packet *packet, int64_t time_ns) noexcept nogil:
    """Send a packet of the node's own: 14 free bytes, then a finished IP header without options."""
    cdef uint32_t destination = get32(packet.data + ETHER_HEADER + 16)
    cdef Route4 *route = route_lookup(&node.table, destination)
    cdef Neighbor *neighbor
    packet.time_ns = time_ns
    packet.header_state = CHECKSUM_IP4_VALID
    if route is not NULL and route.kind == ROUTE_LOCAL and not packet_is_own(packet):
        # An answer to what came by a link from one of the node's own addresses: nobody has sent that
        # (RFC 1812, section 5.3.8; Linux does not accept it either).
        drop(worker, node, packet, DROP_IP4_SOURCE_MARTIAN)
        return
    packet.input_port = 0
    if is_loopback(destination) or (route is not NULL and route.kind == ROUTE_LOCAL):
        loopback_send(worker, node, packet, time_ns)
    elif route is NULL:
        drop(worker, node, packet, DROP_IP4_NO_ROUTE)
    elif route.kind == ROUTE_UNREACHABLE:
        drop(worker, node, packet, DROP_IP4_ROUTE_UNREACHABLE)
    elif route_is_broadcast(route, destination):
        drop(worker, node, packet, DROP_IP4_BROADCAST)
    else:
        neighbor = route_neighbor(node, route, destination, time_ns)
        if neighbor is NULL:
            drop(worker, node, packet, DROP_NEIGHBOR_TABLE_FULL)
        else:
            ip4_send(worker, node, neighbor, packet, time_ns)
