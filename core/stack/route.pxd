# A node's route table: longest prefix match over IPv4.
#
# The routes are an array, longest prefixes first. What packets are looked up in (the forwarding information
# base, FIB) is made of it at the first look-up after a change, so that a thousand changes cost one:
# - A handful of routes is compared with the address all at once, so that the time does not depend on which of
#   them holds it.
# - Above that, a trie takes one byte of the address a step; an entry is 0, an index into the array plus one,
#   or the place of
#   the next block with the top bit set.
# Both name the same one of all routes to one gateway: however many there are, what a packet needs of them
# stays in the cache, and packets that go the same way are known by it.

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memmove, memset

from ..machine.platform cimport (
    debug_assert, first_place, is_unlikely, lowest_bit, must_resize, must_zero, with_room,
)
from ..state.network cimport Interface, ROUTE_GATEWAY, Route4, RouteTable4

cdef extern from *:
    """
    #ifndef MANYSTACK_ROUTE
    #define MANYSTACK_ROUTE
    /* A bit for each of up to 32 prefixes, which stand behind as many masks: whether it holds the address.
       Four at a time, without a branch. */
    static inline uint32_t holders(const uint32_t *masks, uint32_t prefixes, uint32_t address) {
        typedef uint32_t four __attribute__((vector_size(16)));
        four found = {0}, bits = {1, 2, 4, 8}, mask, prefix;
        for (uint32_t i = 0; i < prefixes; i += 4, bits <<= 4) {
            memcpy(&mask, masks + i, sizeof mask);
            memcpy(&prefix, masks + prefixes + i, sizeof prefix);
            found |= (four)((address & mask) == prefix) & bits;
        }
        return found[0] | found[1] | found[2] | found[3];
    }
    #endif
    """
    uint32_t holders(const uint32_t *masks, uint32_t prefixes, uint32_t address) noexcept nogil


cdef enum:
    HANDFUL = 16
    HANDFUL_BYTES = HANDFUL * 8    # masks and prefixes
    TRIE_BLOCK = 256
    TRIE_DEEPER = 0x80000000u


cdef inline uint32_t prefix_mask(uint32_t length) noexcept nogil:
    return 0 if length == 0 else <uint32_t>0xFFFFFFFFu << (32 - length)


cdef inline int route_find(RouteTable4 *table, uint32_t prefix, uint32_t length) noexcept nogil:
    """The place of exactly this prefix, or -1 - the place where it belongs."""
    cdef int low = 0
    cdef int high = <int>table.count
    cdef int middle
    cdef Route4 *route
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


cdef inline void forget_recent(RouteTable4 *table) noexcept nogil:
    """Look up anew what has been looked up before."""
    table.recent_neighbors[0] = table.recent_neighbors[1] = NULL


cdef inline void routes_changed(RouteTable4 *table) noexcept nogil:
    table.dirty = 1
    forget_recent(table)


cdef inline Route4 *route_set(
    RouteTable4 *table, uint32_t prefix, uint32_t length, uint32_t kind, uint32_t gateway,
    Interface *interface
) noexcept nogil:
    """Add a route, or replace the one of the same prefix."""
    cdef int place = route_find(table, prefix, length)
    cdef Route4 *route
    if place < 0:
        place = -1 - place
        table.routes = <Route4 *>with_room(table.routes, table.count, &table.capacity, 4, sizeof(Route4))
        memmove(
            &table.routes[place + 1], &table.routes[place], (table.count - <uint32_t>place) * sizeof(Route4)
        )
        table.count += 1
    route = &table.routes[place]
    memset(route, 0, sizeof(Route4))
    route.prefix = prefix
    route.mask = prefix_mask(length)
    route.length = <unsigned char>length
    route.kind = <unsigned char>kind
    route.gateway = gateway
    route.interface = interface
    routes_changed(table)
    return route


cdef inline void route_remove(RouteTable4 *table, uint32_t place) noexcept nogil:
    table.count -= 1
    memmove(&table.routes[place], &table.routes[place + 1], (table.count - place) * sizeof(Route4))
    routes_changed(table)


cdef inline uint32_t trie_block(RouteTable4 *table, uint32_t fill) noexcept nogil:
    """Add a block of equal entries; its place."""
    cdef uint32_t block = table.trie_blocks * TRIE_BLOCK
    cdef uint32_t i
    table.fib = <uint32_t *>with_room(
        table.fib, table.trie_blocks, &table.trie_capacity, 4, TRIE_BLOCK * sizeof(uint32_t)
    )
    for i in range(TRIE_BLOCK):
        table.fib[block + i] = fill
    table.trie_blocks += 1
    return block


cdef inline void trie_insert(RouteTable4 *table, uint32_t place, uint32_t target) noexcept nogil:
    """Insert a route, after all shorter ones; who finds it is to find the one at `target`."""
    cdef uint32_t prefix = table.routes[place].prefix
    cdef int length = table.routes[place].length
    cdef uint32_t block = 0
    cdef int shift = 24
    cdef uint32_t slot, entry, i
    while length > 8:
        slot = block + (prefix >> shift & 255)
        entry = table.fib[slot]
        if not entry & TRIE_DEEPER:
            entry = trie_block(table, entry) | TRIE_DEEPER
            table.fib[slot] = entry
        block = entry ^ TRIE_DEEPER
        shift -= 8
        length -= 8
    slot = block + (prefix >> shift & 255)
    for i in range(<uint32_t>1 << (8 - length)):
        table.fib[slot + i] = target + 1


cdef inline uint32_t first_alike(
    RouteTable4 *table, uint32_t *firsts, uint32_t mask, uint32_t place
) noexcept nogil:
    """The first route that was seen to lead to the same gateway as this one; `firsts` is a hash table of
    them, places plus one.
    """
    cdef Route4 *route = &table.routes[place]
    cdef Route4 *other
    cdef uint32_t slot
    if route.kind != ROUTE_GATEWAY:
        return place
    slot = first_place(<uint64_t>route.interface.port << 32 | route.gateway, mask + 1)
    while firsts[slot & mask]:
        other = &table.routes[firsts[slot & mask] - 1]
        if other.gateway == route.gateway and other.interface == route.interface:
            return firsts[slot & mask] - 1
        slot += 1
    firsts[slot & mask] = place + 1
    return place


cdef inline void route_table_settle(RouteTable4 *table) noexcept nogil:
    """Make what packets are looked up in anew, after a change."""
    cdef uint32_t place = table.count
    cdef uint32_t slots = 2 * HANDFUL
    cdef uint32_t target, i
    cdef uint32_t *firsts
    free(table.fib)
    table.fib = NULL
    table.trie_blocks = table.trie_capacity = 0
    table.dirty = 0
    while slots < 2 * table.count:
        slots *= 2
    firsts = <uint32_t *>must_zero(slots * sizeof(uint32_t))
    if table.count <= HANDFUL:
        table.fib = <uint32_t *>must_resize(NULL, HANDFUL_BYTES)
        for i in range(HANDFUL):  # what is left free holds no address
            table.fib[i] = table.routes[i].mask if i < table.count else 0
            table.fib[HANDFUL + i] = table.routes[i].prefix if i < table.count else 1
    else:
        trie_block(table, 0)
    while place:  # from the shortest prefixes, which stand last, to the longest
        place -= 1
        target = first_alike(table, firsts, slots - 1, place)
        if table.trie_blocks:
            trie_insert(table, place, target)
        else:
            table.routes[place].alike = <unsigned char>(target + 1)
    free(firsts)


cdef inline uint32_t route_place(RouteTable4 *table, uint32_t address) noexcept nogil:
    """route_lookup() in a table that has been settled since it was changed: the place plus one of what it
    finds, or 0.
    """
    cdef uint32_t entry
    debug_assert(not table.dirty)
    if table.trie_blocks == 0:
        entry = holders(table.fib, HANDFUL, address)
        return table.routes[lowest_bit(entry)].alike if entry else 0
    entry = table.fib[address >> 24]
    # Not a loop: what most packets do at each step is what the CPU expects there.
    if entry & TRIE_DEEPER:
        entry = table.fib[(entry ^ TRIE_DEEPER) + (address >> 16 & 255)]
        if entry & TRIE_DEEPER:
            entry = table.fib[(entry ^ TRIE_DEEPER) + (address >> 8 & 255)]
            if entry & TRIE_DEEPER:
                entry = table.fib[(entry ^ TRIE_DEEPER) + (address & 255)]
    return entry


cdef inline Route4 *route_at(RouteTable4 *table, uint32_t place) noexcept nogil:
    """The route that route_place() has found, or NULL."""
    return &table.routes[place - 1] if place else NULL


cdef inline Route4 *route_lookup(RouteTable4 *table, uint32_t address) noexcept nogil:
    """Where packets for an address go: its route, or another one to the same gateway.

    NULL where there is none.
    """
    if is_unlikely(table.dirty):
        route_table_settle(table)
    return route_at(table, route_place(table, address))
