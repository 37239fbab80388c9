# What both versions of IP share: the protocols that may follow (IANA, "Protocol Numbers").

cdef enum:
    IP_PROTOCOL_HOP_BY_HOP = 0     # IPv6's extension headers stand among them
    IP_PROTOCOL_ICMP = 1
    IP_PROTOCOL_TCP = 6
    IP_PROTOCOL_UDP = 17
    IP_PROTOCOL_DCCP = 33
    IP_PROTOCOL_ROUTING = 43
    IP_PROTOCOL_FRAGMENT = 44
    IP_PROTOCOL_AUTHENTICATION = 51
    IP_PROTOCOL_DESTINATION = 60
    IP_PROTOCOL_SCTP = 132
    IP_PROTOCOL_MOBILITY = 135
    IP_PROTOCOL_UDP_LITE = 136
