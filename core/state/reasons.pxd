# Why packets are dropped: at nodes (DropReason) and on links (LinkDrop). A reason keeps its number and its
# name, by which files and people know it; the next one takes the next number.

cdef enum:
    DROP_REASON_LIMIT = 250        # room for so many: with those of links, and none, they fit into a byte


cdef enum DropReason:
    DROP_NO_LINK = 0
    DROP_POOL_EMPTY = 1
    DROP_ETHER_TRUNCATED = 2
    DROP_ETHER_TOO_LONG = 3
    DROP_ETHER_SOURCE_MULTICAST = 4
    DROP_ETHER_OTHER_HOST = 5
    DROP_ETHER_TYPE_UNKNOWN = 6
    DROP_ETHER_RESERVED_GROUP = 7
    DROP_BRIDGE_SAME_PORT = 8
    DROP_ARP_TRUNCATED = 9
    DROP_ARP_MALFORMED = 10
    DROP_ARP_NOT_FOR_US = 11
    DROP_NEIGHBOR_QUEUE_FULL = 12
    DROP_NEIGHBOR_TABLE_FULL = 13
    DROP_NEIGHBOR_UNREACHABLE = 14
    DROP_IP4_TRUNCATED = 15
    DROP_IP4_VERSION = 16
    DROP_IP4_HEADER_LENGTH = 17
    DROP_IP4_TOTAL_LENGTH = 18
    DROP_IP4_CHECKSUM = 19
    DROP_IP4_SOURCE_MARTIAN = 20
    DROP_IP4_DESTINATION_MARTIAN = 21
    DROP_IP4_SOURCE_ROUTE = 22
    DROP_IP4_TTL = 23
    DROP_IP4_NO_ROUTE = 24
    DROP_IP4_ROUTE_UNREACHABLE = 25
    DROP_IP4_NOT_FORWARDING = 26
    DROP_IP4_BROADCAST = 27
    DROP_IP4_MULTICAST = 28
    DROP_IP4_FRAGMENTATION_NEEDED = 29
    DROP_IP4_FRAGMENT_NOT_REASSEMBLED = 30
    DROP_IP4_PROTOCOL_UNKNOWN = 31
    DROP_ICMP_TRUNCATED = 32
    DROP_ICMP_CHECKSUM = 33
    DROP_ICMP_TYPE_UNKNOWN = 34
    DROP_ICMP_NO_LISTENER = 35
    DROP_ICMP_RATE_LIMITED = 36
    DROP_UDP_TRUNCATED = 37
    DROP_UDP_LENGTH = 38
    DROP_UDP_CHECKSUM = 39
    DROP_UDP_PORT_UNREACHABLE = 40
    DROP_DEVICE_WRITE = 41
    DROP_VNET_HEADER = 42
    DROP_REASON_COUNT = 43


cdef enum LinkDrop:
    LINK_QUEUE_FULL = 1 + DROP_REASON_LIMIT
    LINK_EARLY_DROP                # by a discipline, with room left
    LINK_LOSS
    LINK_DOWN
    LINK_LOOP


cdef inline tuple drop_reasons():
    """The name of each DropReason, in the order of their numbers."""
    cdef dict names = {
        DROP_NO_LINK: "no_link",
        DROP_POOL_EMPTY: "pool_empty",
        DROP_ETHER_TRUNCATED: "ether_truncated",
        DROP_ETHER_TOO_LONG: "ether_too_long",
        DROP_ETHER_SOURCE_MULTICAST: "ether_source_multicast",
        DROP_ETHER_OTHER_HOST: "ether_other_host",
        DROP_ETHER_TYPE_UNKNOWN: "ether_type_unknown",
        DROP_ETHER_RESERVED_GROUP: "ether_reserved_group",
        DROP_BRIDGE_SAME_PORT: "bridge_same_port",
        DROP_ARP_TRUNCATED: "arp_truncated",
        DROP_ARP_MALFORMED: "arp_malformed",
        DROP_ARP_NOT_FOR_US: "arp_not_for_us",
        DROP_NEIGHBOR_QUEUE_FULL: "neighbor_queue_full",
        DROP_NEIGHBOR_TABLE_FULL: "neighbor_table_full",
        DROP_NEIGHBOR_UNREACHABLE: "neighbor_unreachable",
        DROP_IP4_TRUNCATED: "ip4_truncated",
        DROP_IP4_VERSION: "ip4_version",
        DROP_IP4_HEADER_LENGTH: "ip4_header_length",
        DROP_IP4_TOTAL_LENGTH: "ip4_total_length",
        DROP_IP4_CHECKSUM: "ip4_checksum",
        DROP_IP4_SOURCE_MARTIAN: "ip4_source_martian",
        DROP_IP4_DESTINATION_MARTIAN: "ip4_destination_martian",
        DROP_IP4_SOURCE_ROUTE: "ip4_source_route",
        DROP_IP4_TTL: "ip4_ttl",
        DROP_IP4_NO_ROUTE: "ip4_no_route",
        DROP_IP4_ROUTE_UNREACHABLE: "ip4_route_unreachable",
        DROP_IP4_NOT_FORWARDING: "ip4_not_forwarding",
        DROP_IP4_BROADCAST: "ip4_broadcast",
        DROP_IP4_MULTICAST: "ip4_multicast",
        DROP_IP4_FRAGMENTATION_NEEDED: "ip4_fragmentation_needed",
        DROP_IP4_FRAGMENT_NOT_REASSEMBLED: "ip4_fragment_not_reassembled",
        DROP_IP4_PROTOCOL_UNKNOWN: "ip4_protocol_unknown",
        DROP_ICMP_TRUNCATED: "icmp_truncated",
        DROP_ICMP_CHECKSUM: "icmp_checksum",
        DROP_ICMP_TYPE_UNKNOWN: "icmp_type_unknown",
        DROP_ICMP_NO_LISTENER: "icmp_no_listener",
        DROP_ICMP_RATE_LIMITED: "icmp_rate_limited",
        DROP_UDP_TRUNCATED: "udp_truncated",
        DROP_UDP_LENGTH: "udp_length",
        DROP_UDP_CHECKSUM: "udp_checksum",
        DROP_UDP_PORT_UNREACHABLE: "udp_port_unreachable",
        DROP_DEVICE_WRITE: "device_write",
        DROP_VNET_HEADER: "vnet_header",
    }
    return tuple([names[reason] for reason in range(DROP_REASON_COUNT)])


cdef inline tuple capture_reasons():
    """Names of what a captured frame was dropped for, by CaptureHeader.reason - 1."""
    cdef tuple reasons = drop_reasons()
    cdef tuple of_links = ("queue_full", "early_drop", "loss", "link_down", "link_loop")
    return (*reasons, *["unknown"] * (DROP_REASON_LIMIT - DROP_REASON_COUNT), *of_links)
