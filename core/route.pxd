# A node's route table (FIB): longest prefix match over IPv4.
#
# A handful of routes is a sorted array, longest prefixes first, that is read in order. Above that, a trie takes one
# byte of the address a step; an entry is 0, an index into the array plus one, or the number of the next block with
# the top bit set. The trie is made anew at the first look-up after a change, so that a thousand changes cost one.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.stdlib cimport free
from libc.string cimport memmove, memset

from .layout cimport Interface, Route, RouteTable
from .platform cimport is_unlikely, must_resize

cdef enum:
    HANDFUL = 16
    TRIE_BLOCK = 256
    TRIE_DEEPER = 0x80000000u


cdef inline uint32_t prefix_mask(uint32_t length) noexcept nogil:
    return 0 if length == 0 else <uint32_t>0xFFFFFFFFu << (32 - length)


cdef inline int route_find(RouteTable *table, uint32_t prefix, uint32_t length) noexcept nogil:
    """The place of exactly this prefix, or -1 - the place where it belongs."""
    cdef int low = 0
    cdef int high = <int>table.count
    cdef int middle
    cdef Route *route
    while low < high:
        middle = (low + high) // 2
        route = &table.routes[middle]
        if route.length == length and route.prefix == prefix:
            return middle
        if route.length > length or (route.length == length and route.prefix < prefix):
            low = middle + 1
        else:
            high = middle
    return -1 - low


cdef inline void forget_recent(RouteTable *table) noexcept nogil:
    """Look up anew what has been looked up before."""
    table.recent_neighbors[0] = table.recent_neighbors[1] = NULL


cdef inline void routes_changed(RouteTable *table) noexcept nogil:
    table.dirty = 1
    forget_recent(table)


cdef inline Route *route_set(
    RouteTable *table, uint32_t prefix, uint32_t length, uint32_t kind, uint32_t gateway, Interface *interface
) noexcept nogil:
    """Add a route, or replace the one of the same prefix."""
    cdef int place = route_find(table, prefix, length)
    cdef Route *route
    if place < 0:
        place = -1 - place
        if table.count == table.capacity:
            table.capacity = table.capacity * 2 if table.capacity else 4
            table.routes = <Route *>must_resize(table.routes, table.capacity * sizeof(Route))
        memmove(&table.routes[place + 1], &table.routes[place], (table.count - <uint32_t>place) * sizeof(Route))
        table.count += 1
    route = &table.routes[place]
    memset(route, 0, sizeof(Route))
    route.prefix = prefix
    route.mask = prefix_mask(length)
    route.length = <unsigned char>length
    route.kind = <unsigned char>kind
    route.gateway = gateway
    route.interface = interface
    routes_changed(table)
    return route


cdef inline void route_remove(RouteTable *table, uint32_t place) noexcept nogil:
    table.count -= 1
    memmove(&table.routes[place], &table.routes[place + 1], (table.count - place) * sizeof(Route))
    routes_changed(table)


cdef inline uint32_t trie_block(RouteTable *table, uint32_t fill) noexcept nogil:
    cdef uint32_t block = table.trie_blocks
    cdef uint32_t i
    if block == table.trie_capacity:
        table.trie_capacity = table.trie_capacity * 2 if table.trie_capacity else 4
        table.trie = <uint32_t *>must_resize(table.trie, <size_t>table.trie_capacity * TRIE_BLOCK * sizeof(uint32_t))
    for i in range(TRIE_BLOCK):
        table.trie[block * TRIE_BLOCK + i] = fill
    table.trie_blocks += 1
    return block


cdef inline void trie_insert(RouteTable *table, uint32_t place) noexcept nogil:
    """Insert a route, after all shorter ones."""
    cdef uint32_t prefix = table.routes[place].prefix
    cdef int length = table.routes[place].length
    cdef uint32_t block = 0
    cdef int shift = 24
    cdef uint32_t slot, entry, i
    while length > 8:
        slot = block * TRIE_BLOCK + (prefix >> shift & 255)
        entry = table.trie[slot]
        if not entry & TRIE_DEEPER:
            entry = trie_block(table, entry) | TRIE_DEEPER
            table.trie[slot] = entry
        block = entry & ~<uint32_t>TRIE_DEEPER
        shift -= 8
        length -= 8
    slot = block * TRIE_BLOCK + (prefix >> shift & 255)
    for i in range(<uint32_t>1 << (8 - length)):
        table.trie[slot + i] = place + 1


cdef inline void route_table_settle(RouteTable *table) noexcept nogil:
    """Make the trie anew after a change."""
    cdef uint32_t place = table.count
    table.dirty = 0
    table.trie_blocks = 0
    if table.count <= HANDFUL:
        free(table.trie)
        table.trie = NULL
        table.trie_capacity = 0
        return
    trie_block(table, 0)
    while place:  # from the shortest prefixes, which stand last, to the longest
        place -= 1
        trie_insert(table, place)


cdef inline Route *route_lookup(RouteTable *table, uint32_t address) noexcept nogil:
    """The route of the longest prefix that holds the address; NULL where there is none."""
    cdef uint32_t i, entry
    cdef int shift = 24
    if is_unlikely(table.dirty):
        route_table_settle(table)
    if table.trie is NULL:
        for i in range(table.count):
            if (address & table.routes[i].mask) == table.routes[i].prefix:
                return &table.routes[i]
        return NULL
    entry = table.trie[address >> 24]
    while entry & TRIE_DEEPER:
        shift -= 8
        entry = table.trie[(entry & ~<uint32_t>TRIE_DEEPER) * TRIE_BLOCK + (address >> shift & 255)]
    return &table.routes[entry - 1] if entry else NULL
