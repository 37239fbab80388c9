# IPv4 addresses: what one may stand for, and which interface has or reaches it.

from libc.stdint cimport uint32_t

from ..state.network cimport Interface, ROUTE_CONNECTED, Route4


cdef inline bint is_one_host(uint32_t address) noexcept nogil:
    """Not 0/8, 127/8, a group or the reserved class E (RFC 1812, section 5.3.7)."""
    cdef uint32_t first = address >> 24
    return (first - 1 < 223) & (first != 127)  # from 1 to 223; 0 less 1 is far above. Without a branch


cdef inline bint route_is_broadcast(Route4 *route, uint32_t destination) noexcept nogil:
    """Whether a destination is its subnet's network or broadcast address (not on /31 and /32: RFC 3021)."""
    if route.kind != ROUTE_CONNECTED or route.length >= 31:
        return False
    return destination == route.prefix or destination == (route.prefix | ~route.mask)


cdef inline uint32_t interface_source(Interface *interface, uint32_t destination) noexcept nogil:
    """The interface's address on the destination's subnet, else its first one; 0 where it has none."""
    cdef uint32_t i
    for i in range(interface.address_count):
        if ((interface.addresses[i].address ^ destination) & interface.addresses[i].mask) == 0:
            return interface.addresses[i].address
    return interface.addresses[0].address if interface.address_count else 0


cdef inline bint interface_has(Interface *interface, uint32_t address) noexcept nogil:
    cdef uint32_t i
    for i in range(interface.address_count):
        if interface.addresses[i].address == address:
            return True
    return False


cdef inline bint interface_reaches(Interface *interface, uint32_t address) noexcept nogil:
    """Whether an address lies on one of the interface's subnets."""
    cdef uint32_t i
    for i in range(interface.address_count):
        if ((interface.addresses[i].address ^ address) & interface.addresses[i].mask) == 0:
            return True
    return False
