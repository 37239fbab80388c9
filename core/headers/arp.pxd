# ARP for IPv4 over Ethernet (RFC 826).

cdef enum:
    ARP_LENGTH = 28                # bytes of a whole message
    ARP_REQUEST = 1
    ARP_REPLY = 2
