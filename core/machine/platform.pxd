# The few things that C has and Cython lacks: branch hints, prefetch, unaligned and network-order access,
# atomics for the mailboxes, and assertions that exist in the debug build only.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef MANYSTACK_PLATFORM
    #define MANYSTACK_PLATFORM
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <time.h>

    #ifdef MANYSTACK_DEBUG
    #define MANYSTACK_DEBUG_BUILD 1
    #define debug_assert(condition) ((condition) ? (void)0 : manystack_assertion_failed(#condition, __LINE__))
    static void manystack_assertion_failed(const char *condition, int line) {
        fprintf(
            stderr, "manystack: assertion failed at line %d of the generated code: %s\\n", line, condition
        );
        abort();
    }
    #else
    #define MANYSTACK_DEBUG_BUILD 0
    #define debug_assert(condition) ((void)0)
    #endif

    #define is_likely(condition) __builtin_expect(!!(condition), 1)
    #define is_unlikely(condition) __builtin_expect(!!(condition), 0)
    #define prefetch(address) __builtin_prefetch(address)
    #define highest_bit(value) (63 - (uint32_t)__builtin_clzll(value))
    #define lowest_bit(value) ((uint32_t)__builtin_ctz(value))

    static inline uint16_t load16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
    static inline uint32_t load32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
    static inline uint64_t load64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
    static inline void store16(void *p, uint16_t v) { memcpy(p, &v, 2); }
    static inline void store32(void *p, uint32_t v) { memcpy(p, &v, 4); }
    static inline void store64(void *p, uint64_t v) { memcpy(p, &v, 8); }
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the engine reads packets on little-endian machines only"
    #endif
    static inline uint16_t get16(const void *p) { return __builtin_bswap16(load16(p)); }
    static inline uint32_t get32(const void *p) { return __builtin_bswap32(load32(p)); }
    static inline void put16(void *p, uint16_t v) { store16(p, __builtin_bswap16(v)); }
    static inline void put32(void *p, uint32_t v) { store32(p, __builtin_bswap32(v)); }

    #define atomic_load32(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define atomic_store32(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define atomic_load64(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define atomic_store64(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define atomic_add64(p, v) __atomic_add_fetch((p), (v), __ATOMIC_ACQ_REL)
    #define full_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)

    /* The engine's own tables are small beside packets; without memory for them nothing can go on. */
    static void *must_resize(void *block, size_t bytes) {
        void *resized = realloc(block, bytes);
        if (!resized) { fprintf(stderr, "manystack: out of memory\\n"); abort(); }
        return resized;
    }
    /* A list with room for one more than the `count` items that it holds; the first time, for `first`. */
    static inline void *with_room(
        void *list, uint32_t count, uint32_t *capacity, uint32_t first, size_t item_bytes
    ) {
        if (__builtin_expect(count != *capacity, 1)) return list;
        *capacity = count ? 2 * count : first;
        return must_resize(list, *capacity * item_bytes);
    }
    /* Where a search for a key begins in a table of so many places, a power of two (Knuth's multiplicative
       hashing; the multiplier is 2^64 divided by the golden ratio). */
    static inline uint32_t first_place(uint64_t key, uint32_t places) {
        return (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) & (places - 1);
    }
    static void *must_zero(size_t bytes) {
        void *block = calloc(1, bytes);
        if (!block) { fprintf(stderr, "manystack: out of memory\\n"); abort(); }
        return block;
    }
    static inline int64_t host_clock_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    /* Address space for a flat table whose entries never move; pages come with the first use. */
    static void *reserve_table(size_t bytes) {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
        return table == MAP_FAILED ? NULL : table;
    }
    static void release_table(void *table, size_t bytes) { if (table) munmap(table, bytes); }
    #endif
    """
    ctypedef unsigned long long uint128_t "unsigned __int128"  # is wider than Cython knows; never for Python
    const bint DEBUG_BUILD "MANYSTACK_DEBUG_BUILD"
    void debug_assert(bint condition) noexcept nogil
    bint is_likely(bint condition) noexcept nogil
    bint is_unlikely(bint condition) noexcept nogil
    void prefetch(const void *address) noexcept nogil
    uint32_t highest_bit(uint64_t value) noexcept nogil
    uint32_t lowest_bit(uint32_t value) noexcept nogil
    uint16_t load16(const void *p) noexcept nogil
    uint32_t load32(const void *p) noexcept nogil
    uint64_t load64(const void *p) noexcept nogil
    void store16(void *p, uint16_t v) noexcept nogil
    void store32(void *p, uint32_t v) noexcept nogil
    void store64(void *p, uint64_t v) noexcept nogil
    uint16_t get16(const void *p) noexcept nogil
    uint32_t get32(const void *p) noexcept nogil
    void put16(void *p, uint16_t v) noexcept nogil
    void put32(void *p, uint32_t v) noexcept nogil
    uint32_t atomic_load32(uint32_t *p) noexcept nogil
    void atomic_store32(uint32_t *p, uint32_t v) noexcept nogil
    uint64_t atomic_load64(uint64_t *p) noexcept nogil
    void atomic_store64(uint64_t *p, uint64_t v) noexcept nogil
    uint64_t atomic_add64(uint64_t *p, int64_t v) noexcept nogil
    void full_fence() noexcept nogil
    void *must_resize(void *block, size_t bytes) noexcept nogil
    void *with_room(
        void *list, uint32_t count, uint32_t *capacity, uint32_t first, size_t item_bytes
    ) noexcept nogil
    uint32_t first_place(uint64_t key, uint32_t places) noexcept nogil
    void *must_zero(size_t bytes) noexcept nogil
    int64_t host_clock_ns() noexcept nogil
    void *reserve_table(size_t bytes) noexcept nogil
    void release_table(void *table, size_t bytes) noexcept nogil
