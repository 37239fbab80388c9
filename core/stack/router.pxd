# What routers see most: a whole vector of good IPv4 packets for known neighbours.
#
# It is the path of ip4_input.pxd and ip4_forward.pxd with the checks of one packet taken together. Whatever
# is unusual about a packet leaves it to ether_input(), so that each rule stands once, there.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from ..headers.checksum cimport ones_complement_sum
from ..headers.ether cimport ETHER_HEADER, ETHER_TYPE_IP4_RAW, MAC_GROUP_BIT, ether_destination
from ..headers.ip4 cimport IP4_HEADER, ip4_decrement_ttl
from ..link.interface cimport interface_send_vector
from ..machine.platform cimport get16, get32, is_unlikely, load16, prefetch
from ..packet.segment cimport wire_bytes, wire_frame_bytes, wire_segments
from ..state.network cimport Interface, Neighbor, ROUTE_GATEWAY, Route4, RouteTable4, Worker
from ..state.packets cimport CHECKSUM_IP4_VALID, HEADER_PLAIN_IP4, Packet
from .address cimport is_one_host
from .ether_input cimport ether_input
from .ip4_forward cimport fast_neighbor
from .neighbor cimport header_write
from .route cimport route_at, route_place, route_table_settle

cdef enum:
    ONE_HOST = 0xFFFFFFFFu         # no route's place


cdef inline bint header_is_plain(Packet *packet) noexcept nogil:
    """Whether nothing in a frame's Ethernet and IP headers, wherever it goes, keeps it from being
    forwarded: no options, no padding, one good source.
    """
    cdef uint8_t *frame = packet.data
    cdef uint8_t *ip = frame + ETHER_HEADER
    return (
        load16(frame + 12) == ETHER_TYPE_IP4_RAW
        and not frame[6] & MAC_GROUP_BIT
        and ip[0] == 0x45
        and get16(ip + 2) + ETHER_HEADER == packet.total_length
        and is_one_host(get32(ip + 12))
        and (packet.header_state & CHECKSUM_IP4_VALID or ones_complement_sum(ip, IP4_HEADER) == 0xFFFF)
    )


# Who the last frame of an interface went on to. What is to go there, too, is not looked up.
cdef struct Onward:
    Neighbor *neighbor             # NULL: unknown
    # route_place() of the route to it, for every host; ONE_HOST: for this destination alone
    uint32_t gateway
    uint32_t destination
    uint32_t longest               # bytes of IP that pass whole


cdef inline void onward_set(
    Onward *onward, Interface *interface, Neighbor *neighbor, uint32_t gateway
) noexcept nogil:
    onward.neighbor = neighbor
    onward.gateway = gateway
    onward.longest = 0
    if neighbor is not NULL and neighbor.interface != interface and neighbor.interface.output is not NULL:
        onward.longest = interface.mtu if interface.mtu < neighbor.interface.mtu else neighbor.interface.mtu


cdef inline void onward_find(Onward *onward, Interface *interface, uint32_t place) noexcept nogil:
    cdef Route4 *route = route_at(&interface.node.table, place)
    cdef Neighbor *neighbor = fast_neighbor(interface.node, route, onward.destination)
    onward_set(
        onward, interface, neighbor,
        place if neighbor is not NULL and route.kind == ROUTE_GATEWAY else ONE_HOST,
    )


cdef inline Onward onward_recent(Interface *interface) noexcept nogil:
    """Where the last frames by a port of this side went on to, in a route table that is settled now."""
    cdef RouteTable4 *table = &interface.node.table
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
    """Whether a frame at a router is a good packet for a known neighbour, who is found, and nobody else
    holds it.
    """
    cdef uint8_t *frame = packet.data
    cdef uint8_t *ip = frame + ETHER_HEADER
    cdef uint32_t destination
    cdef uint32_t place
    if is_unlikely(packet.length < ETHER_HEADER + IP4_HEADER):
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
        and (packet.header_state & HEADER_PLAIN_IP4 or header_is_plain(packet))
    )


cdef inline void rewrite_onward(Packet *packet, Neighbor *neighbor) noexcept nogil:
    """Make of a frame that goes_onward() the one for the next link."""
    packet.header_state |= CHECKSUM_IP4_VALID | HEADER_PLAIN_IP4
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
    """A vector of frames at a router's interface, in order.

    Those that leave last are left to the caller to send.
    """
    cdef Onward onward = onward_recent(interface)
    cdef Interface *output = NULL
    # frames from here on leave together, by `output`: so many packets and bytes
    cdef uint32_t first = 0
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
