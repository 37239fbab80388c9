# ICMP for IPv4 (RFC 792): types, codes, the header.

from libc.stdint cimport uint32_t

cdef enum:
    ICMP_HEADER = 8                # bytes
    ICMP_ECHO_REPLY = 0
    ICMP_UNREACHABLE = 3
    ICMP_SOURCE_QUENCH = 4
    ICMP_REDIRECT = 5
    ICMP_ECHO = 8
    ICMP_TIME_EXCEEDED = 11
    ICMP_PARAMETER_PROBLEM = 12
    UNREACHABLE_NET = 0
    UNREACHABLE_HOST = 1
    UNREACHABLE_PROTOCOL = 2
    UNREACHABLE_PORT = 3
    UNREACHABLE_FRAGMENTATION_NEEDED = 4
    UNREACHABLE_SOURCE_ROUTE = 5
    REDIRECT_HOST = 1


cdef inline bint icmp_is_error(uint32_t icmp_type) noexcept nogil:
    return (
        icmp_type == ICMP_UNREACHABLE or icmp_type == ICMP_SOURCE_QUENCH or icmp_type == ICMP_REDIRECT
        or icmp_type == ICMP_TIME_EXCEEDED or icmp_type == ICMP_PARAMETER_PROBLEM
    )
