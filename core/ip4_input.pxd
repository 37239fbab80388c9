# IPv4 into a node (RFC 791, RFC 1122, RFC 1812): the checks at the door, delivery, forwarding.
#
# ip4_input() is the whole path of one packet, in the order of RFC 1812, section 5.2. ip4_router_vector() is the same
# path for what routers see most: a whole vector of good packets for known neighbours. Whatever is unusual about a
# packet leaves it to ip4_input(), so that each rule stands once.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from .ether cimport (
    ETHER_HEADER, ETHER_TYPE_ARP, ETHER_TYPE_IP4, MAC_GROUP_BIT, VLAN_TAG, ether_destination, interface_send_vector,
)
from .flow cimport (
    UDP_HEADER, UDP_STAMP, flow_datagram, flow_echo_reply, flow_icmp_error, flow_of_datagram, udp_checksum,
)
from .icmp cimport (
    ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_HEADER, ICMP_PARAMETER_PROBLEM, ICMP_REDIRECT, ICMP_TIME_EXCEEDED,
    ICMP_UNREACHABLE, REDIRECT_HOST, UNREACHABLE_FRAGMENTATION_NEEDED, UNREACHABLE_HOST, UNREACHABLE_NET,
    UNREACHABLE_PORT, UNREACHABLE_PROTOCOL, UNREACHABLE_SOURCE_ROUTE, icmp_echo_reply, icmp_error, is_one_host,
)
from .ip4_output cimport (
    IP_DONT_FRAGMENT, IP_HEADER, IP_MORE_FRAGMENTS, IP_OFFSET_MASK, IP_OPTION_END, IP_OPTION_NOP, IP_PROTOCOL_ICMP,
    IP_PROTOCOL_UDP, ip4_send, route_is_broadcast, route_neighbor,
)
from .layout cimport (
    CHECKSUM_IP_VALID, CHECKSUM_UDP_PARTIAL, DROP_ETHER_OTHER_HOST, DROP_ETHER_SOURCE_MULTICAST, DROP_ETHER_TOO_LONG,
    DROP_ETHER_TRUNCATED, DROP_ETHER_TYPE_UNKNOWN, DROP_ICMP_CHECKSUM, DROP_ICMP_TRUNCATED, DROP_ICMP_TYPE_UNKNOWN,
    DROP_IP_BROADCAST, DROP_IP_CHECKSUM, DROP_IP_DESTINATION_MARTIAN, DROP_IP_FRAGMENTATION_NEEDED,
    DROP_IP_FRAGMENT_NOT_REASSEMBLED, DROP_IP_HEADER_LENGTH, DROP_IP_MULTICAST, DROP_IP_NOT_FORWARDING,
    DROP_IP_NO_ROUTE, DROP_IP_PROTOCOL_UNKNOWN, DROP_IP_ROUTE_UNREACHABLE, DROP_IP_SOURCE_MARTIAN,
    DROP_IP_SOURCE_ROUTE, DROP_IP_TOTAL_LENGTH, DROP_IP_TRUNCATED, DROP_IP_TTL, DROP_IP_VERSION,
    DROP_NEIGHBOR_TABLE_FULL, DROP_POOL_EMPTY, DROP_UDP_CHECKSUM, DROP_UDP_LENGTH, DROP_UDP_PORT_UNREACHABLE,
    DROP_UDP_TRUNCATED, HEADER_PLAIN, KIND_ROUTER, ROUTE_CONNECTED, ROUTE_GATEWAY, ROUTE_LOCAL, ROUTE_UNREACHABLE, Flow, Interface,
    Neighbor, Node, Packet, Route, RouteTable, Worker,
)
from .neighbor cimport arp_input, header_write, interface_has, interface_reaches, neighbor_find
from .packet cimport ones_complement_sum, packet_checksum, packet_release, packet_trim
from .platform cimport get16, get32, is_unlikely, load16, load32, prefetch, store32
from .route cimport route_at, route_lookup, route_place, route_set, route_table_settle
from .schedule cimport count_drop, drop, own_header, read_header
from .segment cimport packet_segment, wire_bytes, wire_frame_bytes, wire_segments

cdef enum:
    IP_OPTION_LOOSE_ROUTE = 131
    IP_OPTION_STRICT_ROUTE = 137
    IP_BROADCAST = 0xFFFFFFFFu
    REDIRECTED_ROUTES = 1024
    ETHER_TYPE_IP4_RAW = 0x0008    # as a little-endian word of the frame
    ONE_HOST = 0xFFFFFFFFu         # no route's place


cdef inline void icmp_redirect_input(Node *node, Interface *interface, uint8_t *ip, uint8_t *icmp) noexcept nogil:
    """A host believes the gateway that it uses about a better one on the same link (RFC 1122, section 3.2.2.2)."""
    cdef uint32_t gateway = get32(icmp + 4)
    cdef uint32_t destination = get32(icmp + ICMP_HEADER + 16)
    cdef Route *route = route_lookup(&node.table, destination)
    if (
        node.kind == KIND_ROUTER or interface is NULL or route is NULL or route.kind != ROUTE_GATEWAY
        or route.interface != interface or route.gateway != get32(ip + 12) or not interface_reaches(interface, gateway)
        or interface_has(interface, gateway) or node.table.count >= REDIRECTED_ROUTES
    ):
        return
    route_set(&node.table, destination, 32, ROUTE_GATEWAY, gateway, interface)


cdef inline void icmp_input(
    Worker *worker, Node *node, Interface *interface, Packet *packet, uint32_t header_length, bint broadcast
) noexcept nogil:
    cdef uint32_t length = get16(packet.data + ETHER_HEADER + 2) - header_length
    cdef uint32_t quoted_length
    cdef uint32_t wanted
    cdef uint8_t icmp_type
    cdef uint8_t *icmp
    if length < ICMP_HEADER:
        drop(worker, node, packet, DROP_ICMP_TRUNCATED)
        return
    # Enough for the longest that is read: an error's header, and the quoted IP header with 8 bytes.
    wanted = length if length < ICMP_HEADER + 60 + 8 else ICMP_HEADER + 60 + 8
    packet = read_header(worker, node, packet, ETHER_HEADER + header_length + wanted)
    if packet is NULL:
        return
    icmp = packet.data + ETHER_HEADER + header_length
    if packet_checksum(packet, ETHER_HEADER + header_length, length, 0) != 0xFFFF:
        drop(worker, node, packet, DROP_ICMP_CHECKSUM)
        return
    icmp_type = icmp[0]
    if icmp_type == ICMP_ECHO:
        if broadcast:  # RFC 1122, section 3.2.2.6 leaves the choice; silence does not amplify
            drop(worker, node, packet, DROP_IP_BROADCAST)
        else:
            icmp_echo_reply(worker, node, packet, header_length)
    elif icmp_type == ICMP_ECHO_REPLY:
        flow_echo_reply(worker, node, packet, header_length)
    elif (
        icmp_type == ICMP_UNREACHABLE or icmp_type == ICMP_TIME_EXCEEDED
        or icmp_type == ICMP_PARAMETER_PROBLEM or icmp_type == ICMP_REDIRECT
    ):
        quoted_length = 0
        if length >= ICMP_HEADER + IP_HEADER:
            quoted_length = (icmp[ICMP_HEADER] & 15) * 4
        if quoted_length < IP_HEADER or length < ICMP_HEADER + quoted_length + 8:
            drop(worker, node, packet, DROP_ICMP_TRUNCATED)
        elif icmp_type == ICMP_REDIRECT:
            icmp_redirect_input(node, interface, packet.data + ETHER_HEADER, icmp)
            packet_release(&worker.pool, packet)
        else:
            flow_icmp_error(worker, node, packet, icmp, icmp + ICMP_HEADER)
    else:
        drop(worker, node, packet, DROP_ICMP_TYPE_UNKNOWN)


cdef inline void udp_input(Worker *worker, Node *node, Packet *packet, uint32_t header_length, bint broadcast) noexcept nogil:
    cdef uint32_t length = get16(packet.data + ETHER_HEADER + 2) - header_length
    cdef uint32_t wanted
    cdef uint32_t datagram
    cdef uint8_t *udp
    cdef Flow *flow
    if length < UDP_HEADER:
        drop(worker, node, packet, DROP_UDP_TRUNCATED)
        return
    wanted = length if length < UDP_HEADER + UDP_STAMP else UDP_HEADER + UDP_STAMP
    packet = read_header(worker, node, packet, ETHER_HEADER + header_length + wanted)
    if packet is NULL:
        return
    udp = packet.data + ETHER_HEADER + header_length
    datagram = get16(udp + 4)
    if datagram < UDP_HEADER or datagram > length:
        drop(worker, node, packet, DROP_UDP_LENGTH)
        return
    if (
        load16(udp + 6) and not packet.header_state & CHECKSUM_UDP_PARTIAL
        and udp_checksum(packet, ETHER_HEADER + header_length, datagram) != 0xFFFF
    ):
        drop(worker, node, packet, DROP_UDP_CHECKSUM)
        return
    flow = flow_of_datagram(node, udp)
    if flow is not NULL and datagram >= UDP_HEADER + UDP_STAMP:
        flow_datagram(worker, flow, packet, udp)
        return
    if not broadcast:
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_PORT, 0, packet.time_ns)
    drop(worker, node, packet, DROP_UDP_PORT_UNREACHABLE)


cdef inline void ip4_local(Worker *worker, Node *node, Interface *interface, Packet *packet, bint broadcast) noexcept nogil:
    """Deliver a packet whose IP header is known to be good. `interface` is NULL for what the node sent to itself."""
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef uint32_t header_length = (ip[0] & 15) * 4
    if get16(ip + 6) & (IP_MORE_FRAGMENTS | IP_OFFSET_MASK):
        drop(worker, node, packet, DROP_IP_FRAGMENT_NOT_REASSEMBLED)
    elif ip[9] == IP_PROTOCOL_ICMP:
        icmp_input(worker, node, interface, packet, header_length, broadcast)
    elif ip[9] == IP_PROTOCOL_UDP:
        udp_input(worker, node, packet, header_length, broadcast)
    else:
        if not broadcast:
            icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_PROTOCOL, 0, packet.time_ns)
        drop(worker, node, packet, DROP_IP_PROTOCOL_UNKNOWN)


cdef inline bint has_source_route(uint8_t *ip, uint32_t header_length) noexcept nogil:
    cdef uint32_t i = IP_HEADER
    while i < header_length and ip[i] != IP_OPTION_END:
        if ip[i] == IP_OPTION_LOOSE_ROUTE or ip[i] == IP_OPTION_STRICT_ROUTE:
            return True
        if ip[i] == IP_OPTION_NOP:
            i += 1
        elif i + 1 < header_length and ip[i + 1] >= 2:
            i += ip[i + 1]
        else:
            return False
    return False


cdef inline void ip4_decrement_ttl(uint8_t *ip) noexcept nogil:
    """TTL - 1, and the checksum with it: RFC 1624, eqn. 3: HC' = ~(~HC + ~m + m'), where m' = m - 0x0100, so HC' = HC + 0x0100.

    The four bytes from TTL on are read in the machine's (little-endian) order: the low one is TTL, the high two are the checksum, + 0x0001
    there, and once more where that comes to 0xFFFF or carries.
    """
    cdef uint32_t old = load32(ip + 8)
    store32(ip + 8, old + 0xFFFF + (<uint32_t>(old >= 0xFFFE0000u) << 16))


cdef inline void ip4_forward(
    Worker *worker, Node *node, Interface *interface, Packet *packet, Route *route, uint32_t header_length
) noexcept nogil:
    """RFC 1812, section 5.2.3 on: the packet is good, and for somebody else."""
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef uint32_t destination = get32(ip + 16)
    cdef int64_t time_ns = packet.time_ns
    cdef Neighbor *neighbor
    if route is NULL:
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_NET, 0, time_ns)
        drop(worker, node, packet, DROP_IP_NO_ROUTE)
        return
    if route.kind == ROUTE_UNREACHABLE:
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_HOST, 0, time_ns)
        drop(worker, node, packet, DROP_IP_ROUTE_UNREACHABLE)
        return
    if ip[8] <= 1:
        icmp_error(worker, node, packet, ICMP_TIME_EXCEEDED, 0, 0, time_ns)
        drop(worker, node, packet, DROP_IP_TTL)
        return
    neighbor = route_neighbor(node, route, destination, time_ns)
    if neighbor is NULL:
        drop(worker, node, packet, DROP_NEIGHBOR_TABLE_FULL)
        return
    if wire_frame_bytes(packet) - ETHER_HEADER > neighbor.interface.mtu and get16(ip + 6) & IP_DONT_FRAGMENT:
        # RFC 1191, section 4: the next hop's MTU is in the low half of the word
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_FRAGMENTATION_NEEDED, neighbor.interface.mtu, time_ns)
        drop(worker, node, packet, DROP_IP_FRAGMENTATION_NEEDED)
        return
    if neighbor.interface == interface and interface_reaches(interface, get32(ip + 12)):
        icmp_error(worker, node, packet, ICMP_REDIRECT, REDIRECT_HOST, neighbor.address, time_ns)  # 5.2.7.2
        neighbor = route_neighbor(node, route, destination, time_ns)  # in a full table, the source may have taken its place
        if neighbor is NULL:
            drop(worker, node, packet, DROP_NEIGHBOR_TABLE_FULL)
            return
    packet = own_header(worker, node, packet, ETHER_HEADER + header_length)
    if packet is NULL:
        return
    ip4_decrement_ttl(packet.data + ETHER_HEADER)
    ip4_send(worker, node, neighbor, packet, time_ns)


cdef inline Neighbor *fast_neighbor(Node *node, Route *route, uint32_t destination) noexcept nogil:
    """The adjacency for a destination by its route, if it is known already and plainly forwarded to; else NULL."""
    if route is NULL or not is_one_host(destination):
        return NULL
    if route.kind == ROUTE_GATEWAY:
        return route.neighbor
    if route.kind == ROUTE_CONNECTED and not route_is_broadcast(route, destination):
        return neighbor_find(node, route.interface, destination)
    return NULL


cdef inline bint passes_whole(
    Node *node, Interface *interface, Packet *packet, uint32_t header_length, bint link_broadcast
) noexcept nogil:
    """Whether a super-frame is plainly forwarded, so that its segments need not be looked at one by one."""
    cdef uint8_t *ip = packet.data + ETHER_HEADER
    cdef Neighbor *neighbor
    if node.kind != KIND_ROUTER or link_broadcast or ip[8] <= 1:
        return False
    neighbor = fast_neighbor(node, route_lookup(&node.table, get32(ip + 16)), get32(ip + 16))
    return (
        neighbor is not NULL and neighbor.interface != interface
        and wire_frame_bytes(packet) - ETHER_HEADER <= neighbor.interface.mtu
        and (header_length == IP_HEADER or not has_source_route(ip, header_length))
    )


cdef inline void ether_input_segments(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    """Handle each wire segment of a super-frame by itself."""
    cdef uint32_t segments = wire_segments(packet)
    cdef uint32_t i
    cdef Packet *segment
    for i in range(segments):
        segment = packet_segment(&worker.pool, packet, i, segments)
        if segment is NULL:
            count_drop(interface.node, DROP_POOL_EMPTY)
        else:
            ether_input(worker, interface, segment)
    packet_release(&worker.pool, packet)


cdef inline void ip4_input(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    """One IPv4 packet from the link, through every check. RFC 1812, section 5.2.2 for those of the header."""
    cdef Node *node = interface.node
    cdef uint8_t *ip
    cdef uint32_t header_length, total_length, destination
    cdef bint link_broadcast = (packet.data[0] & MAC_GROUP_BIT) != 0
    cdef Route *route
    if packet.total_length < ETHER_HEADER + IP_HEADER:
        drop(worker, node, packet, DROP_IP_TRUNCATED)
        return
    packet = read_header(worker, node, packet, ETHER_HEADER + IP_HEADER)
    if packet is NULL:
        return
    ip = packet.data + ETHER_HEADER
    if ip[0] >> 4 != 4:
        drop(worker, node, packet, DROP_IP_VERSION)
        return
    header_length = (ip[0] & 15) * 4
    if header_length < IP_HEADER or ETHER_HEADER + header_length > packet.total_length:
        drop(worker, node, packet, DROP_IP_HEADER_LENGTH)
        return
    packet = read_header(worker, node, packet, ETHER_HEADER + header_length)
    if packet is NULL:
        return
    ip = packet.data + ETHER_HEADER
    total_length = get16(ip + 2)
    if total_length < header_length or total_length > packet.total_length - ETHER_HEADER:
        drop(worker, node, packet, DROP_IP_TOTAL_LENGTH)
        return
    if not packet.header_state & CHECKSUM_IP_VALID:
        if ones_complement_sum(ip, header_length) != 0xFFFF:
            drop(worker, node, packet, DROP_IP_CHECKSUM)
            return
        packet.header_state |= CHECKSUM_IP_VALID
    if packet.total_length > ETHER_HEADER + total_length:  # the link's padding
        packet_trim(&worker.pool, packet, ETHER_HEADER + total_length)
    packet.network_offset = <uint8_t>ETHER_HEADER
    packet.transport_offset = <uint16_t>(ETHER_HEADER + header_length)
    if is_unlikely(packet.segment_size) and not passes_whole(node, interface, packet, header_length, link_broadcast):
        ether_input_segments(worker, interface, packet)
        return
    destination = get32(ip + 16)
    if not is_one_host(get32(ip + 12)):
        drop(worker, node, packet, DROP_IP_SOURCE_MARTIAN)
        return
    if destination == IP_BROADCAST:
        ip4_local(worker, node, interface, packet, True)
        return
    if not is_one_host(destination):
        if destination >> 28 == 14:
            drop(worker, node, packet, DROP_IP_MULTICAST)
        else:
            drop(worker, node, packet, DROP_IP_DESTINATION_MARTIAN)
        return
    if header_length > IP_HEADER and has_source_route(ip, header_length):  # RFC 7126, sections 4.3 and 4.4
        icmp_error(worker, node, packet, ICMP_UNREACHABLE, UNREACHABLE_SOURCE_ROUTE, 0, packet.time_ns)
        drop(worker, node, packet, DROP_IP_SOURCE_ROUTE)
        return
    route = route_lookup(&node.table, destination)
    if route is not NULL and route.kind == ROUTE_LOCAL:
        ip4_local(worker, node, interface, packet, link_broadcast)
    elif route is not NULL and route_is_broadcast(route, destination):
        if route.interface == interface:
            ip4_local(worker, node, interface, packet, True)
        else:  # RFC 2644: directed broadcasts are not forwarded
            drop(worker, node, packet, DROP_IP_BROADCAST)
    elif link_broadcast:  # RFC 1812, section 5.3.4
        drop(worker, node, packet, DROP_IP_BROADCAST)
    elif node.kind != KIND_ROUTER:
        drop(worker, node, packet, DROP_IP_NOT_FORWARDING)
    else:
        ip4_forward(worker, node, interface, packet, route, header_length)


cdef inline void ether_input(Worker *worker, Interface *interface, Packet *packet) noexcept nogil:
    """One frame from the link, at a node with a stack."""
    cdef Node *node = interface.node
    cdef uint64_t destination
    cdef uint32_t ether_type
    packet.input_port = <uint16_t>(interface.port + 1)
    if packet.total_length < ETHER_HEADER:
        drop(worker, node, packet, DROP_ETHER_TRUNCATED)
        return
    if wire_frame_bytes(packet) > interface.mtu + ETHER_HEADER + VLAN_TAG:
        if packet.segment_size:  # the last segment may be short enough
            ether_input_segments(worker, interface, packet)
        else:
            drop(worker, node, packet, DROP_ETHER_TOO_LONG)
        return
    packet = read_header(worker, node, packet, ETHER_HEADER)
    if packet is NULL:
        return
    if packet.data[6] & MAC_GROUP_BIT:
        drop(worker, node, packet, DROP_ETHER_SOURCE_MULTICAST)
        return
    destination = ether_destination(packet.data)
    if destination != interface.mac and not destination & MAC_GROUP_BIT:
        drop(worker, node, packet, DROP_ETHER_OTHER_HOST)
        return
    ether_type = get16(packet.data + 12)
    if ether_type == ETHER_TYPE_IP4:
        ip4_input(worker, interface, packet)
    elif ether_type == ETHER_TYPE_ARP:
        arp_input(worker, interface, packet)
    else:
        drop(worker, node, packet, DROP_ETHER_TYPE_UNKNOWN)


cdef inline bint header_is_plain(Packet *packet) noexcept nogil:
    """Whether nothing in a frame's Ethernet and IP headers, wherever it goes, keeps it from being forwarded: no options, no padding, one good source."""
    cdef uint8_t *frame = packet.data
    cdef uint8_t *ip = frame + ETHER_HEADER
    return (
        load16(frame + 12) == ETHER_TYPE_IP4_RAW
        and not frame[6] & MAC_GROUP_BIT
        and ip[0] == 0x45
        and get16(ip + 2) + ETHER_HEADER == packet.total_length
        and is_one_host(get32(ip + 12))
        and (packet.header_state & CHECKSUM_IP_VALID or ones_complement_sum(ip, IP_HEADER) == 0xFFFF)
    )


# Who the last frame of an interface went on to. What is to go there, too, is not looked up.
cdef struct Onward:
    Neighbor *neighbor             # NULL: unknown
    uint32_t gateway               # route_place() of the route to it, for every host; ONE_HOST: for this destination alone
    uint32_t destination
    uint32_t longest               # bytes of IP that pass whole


cdef inline void onward_set(Onward *onward, Interface *interface, Neighbor *neighbor, uint32_t gateway) noexcept nogil:
    onward.neighbor = neighbor
    onward.gateway = gateway
    onward.longest = 0
    if neighbor is not NULL and neighbor.interface != interface and neighbor.interface.output is not NULL:
        onward.longest = interface.mtu if interface.mtu < neighbor.interface.mtu else neighbor.interface.mtu


cdef inline void onward_find(Onward *onward, Interface *interface, uint32_t place) noexcept nogil:
    cdef Route *route = route_at(&interface.node.table, place)
    cdef Neighbor *neighbor = fast_neighbor(interface.node, route, onward.destination)
    onward_set(onward, interface, neighbor, place if neighbor is not NULL and route.kind == ROUTE_GATEWAY else ONE_HOST)


cdef inline Onward onward_recent(Interface *interface) noexcept nogil:
    """Where the last frames by a port of this side went on to, in a route table that is settled now."""
    cdef RouteTable *table = &interface.node.table
    cdef uint32_t side = interface.port & 1
    cdef Onward onward
    if is_unlikely(table.dirty):
        route_table_settle(table)
    onward.destination = table.recent_destinations[side]
    onward_set(&onward, interface, table.recent_neighbors[side], ONE_HOST)
    return onward


cdef inline void onward_keep(Interface *interface, Onward *onward) noexcept nogil:
    """Remember that for the next frames."""
    cdef uint32_t side = interface.port & 1
    interface.node.table.recent_neighbors[side] = onward.neighbor
    interface.node.table.recent_destinations[side] = onward.destination


cdef inline bint goes_onward(Interface *interface, Packet *packet, Onward *onward) noexcept nogil:
    """Whether a frame at a router is a good packet for a known neighbour, who is found, and nobody else holds it."""
    cdef uint8_t *frame = packet.data
    cdef uint8_t *ip = frame + ETHER_HEADER
    cdef uint32_t destination
    cdef uint32_t place
    if is_unlikely(packet.length < ETHER_HEADER + IP_HEADER):
        return False
    destination = get32(ip + 16)
    if destination != onward.destination or onward.neighbor is NULL:
        onward.destination = destination
        place = route_place(&interface.node.table, destination)
        if is_unlikely(place != onward.gateway or not is_one_host(destination)):
            onward_find(onward, interface, place)
    return (
        wire_frame_bytes(packet) - ETHER_HEADER <= onward.longest
        and onward.neighbor.usable_until_ns >= packet.time_ns
        and ether_destination(frame) == interface.mac
        and ip[8] > 1
        and packet.parent is NULL
        and packet.references == 1
        and (packet.header_state & HEADER_PLAIN or header_is_plain(packet))
    )


cdef inline void rewrite_onward(Packet *packet, Neighbor *neighbor) noexcept nogil:
    """Make of a frame that goes_onward() the one for the next link."""
    packet.header_state |= CHECKSUM_IP_VALID | HEADER_PLAIN
    ip4_decrement_ttl(packet.data + ETHER_HEADER)
    header_write(packet.data, neighbor)


# The last frames of a vector, which are still to be sent out of one interface.
cdef struct Departure:
    Interface *output              # which has a link; NULL: there are none
    uint32_t first                 # from this one on
    uint64_t packets               # wire segments that those are, and their bytes
    uint64_t bytes


cdef inline void ip4_router_vector(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count, Departure *departure
) noexcept nogil:
    """A vector of frames at a router's interface, in order. Those that leave last are left to the caller to send."""
    cdef Onward onward = onward_recent(interface)
    cdef Interface *output = NULL
    cdef uint32_t first = 0        # frames from here on leave together, by `output`: so many packets and bytes
    cdef uint64_t packets = 0
    cdef uint64_t bytes = 0
    cdef bint plain
    cdef uint32_t i
    cdef Packet *packet
    for i in range(count):
        packet = vector[i]
        if i + 8 < count:
            prefetch(vector[i + 8].data)
        plain = goes_onward(interface, packet, &onward)
        if is_unlikely(not plain or onward.neighbor.interface != output):
            interface_send_vector(worker, output, vector + first, i - first, packets, bytes)
            packets = bytes = 0
            first = i
            if is_unlikely(not plain):
                ether_input(worker, interface, packet)
                onward_set(&onward, interface, NULL, ONE_HOST)  # what it did may have changed neighbours
                output = NULL
                first = i + 1
                continue
            output = onward.neighbor.interface
            prefetch(output.output)  # the pipe, which is needed at the vector's end
        packets += wire_segments(packet)
        bytes += wire_bytes(packet)
        rewrite_onward(packet, onward.neighbor)
    onward_keep(interface, &onward)
    departure.output = output
    departure.first = first
    departure.packets = packets
    departure.bytes = bytes
