# Tables that pipes share: distributions and recordings, of which a network has few for many pipes. A table
# never changes once it is filled, and counts who holds it; whoever lets go of it last frees it. Workers let
# go of tables on their own threads, so the count is atomic.

from libc.stdint cimport uint64_t
from libc.stdlib cimport free

from ..state.shapers cimport Shared
from .platform cimport atomic_add64, must_zero


cdef inline void *shared_new(uint64_t bytes) noexcept nogil:
    """A table of so many bytes, its head among them, held by the caller."""
    cdef Shared *shared = <Shared *>must_zero(bytes)
    shared.holders = 1
    shared.bytes = bytes
    return shared


cdef inline void *shared_hold(void *table) noexcept nogil:
    atomic_add64(&(<Shared *>table).holders, 1)
    return table


cdef inline void shared_release(void *table) noexcept nogil:
    """Let go of a table; NULL is none."""
    if table is not NULL and atomic_add64(&(<Shared *>table).holders, -1) == 0:
        free(table)


cdef inline uint64_t shared_bytes(void *table) noexcept nogil:
    return (<Shared *>table).bytes if table is not NULL else 0
