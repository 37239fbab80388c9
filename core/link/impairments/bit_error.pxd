# bit_error: each bit of a frame goes wrong with the same probability b, and one wrong bit loses the frame, as
# its checksum fails: P(loss) = 1 - (1 - b)^(8 L), L being the frame's bytes with its overhead (as FreeBSD's
# ng_pipe counts).
#
# The power is taken by squaring in fixed point of 1/2^64: the same on every machine. The relative error of P
# is below 10^-6 for b of 10^-12 and more.

from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t

from ...machine.random cimport multiply_high, random_happens
from ...state.shapers cimport BitErrors


cdef inline uint64_t survival_power(uint64_t survival, uint64_t bits) noexcept nogil:
    """survival^bits, both survivals in 1/2^64 (UINT64_MAX: as good as 1)."""
    cdef uint64_t result = UINT64_MAX
    while bits:
        if bits & 1:
            result = multiply_high(result, survival)
        survival = multiply_high(survival, survival)
        bits >>= 1
    return result


cdef inline bint bit_error_happens(BitErrors *errors, uint32_t bytes) noexcept nogil:
    """Whether a frame of so many bytes on the wire has a wrong bit."""
    if errors.survival == 0:
        return False
    if bytes != errors.cached_bytes:
        errors.cached_bytes = bytes
        errors.cached_threshold = UINT64_MAX - survival_power(errors.survival, <uint64_t>bytes * 8)
    return random_happens(&errors.random_state, errors.cached_threshold)
