# Proof of a run: for each pipe a chain of hashes over all that arrives by it, in the pipe's order; where it
# is wanted, each arrival is told as well, with its hash and its first bytes.
#
# Two runs that end with the same chain have carried the same bytes over the pipe at the same nanoseconds. A
# packet is what it is on its way, whole: a super-frame counts once, a partial checksum as it stands. How its
# bytes lie in segments, which build it is and who compiled it make no difference. It guards against
# accidents, not against forgers.
#
# The hash of a packet is NH, the sum of products of pairs of keyed words, over blocks of 256 bytes (UMAC:
# Black, Halevi, Krawczyk, Krovetz, Rogaway, CRYPTO 1999; RFC 4418, section 5.2), on 64-bit words. Two
# different blocks of one length have the same sum with a probability of 2^-64. Sums, lengths and times are
# chained by folded multiplication: a product of 128 bits, its halves xored (Makarov's mum-hash, Wang's
# wyhash). The keys are the first draws of SplitMix64 from 0.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from ..machine.platform cimport is_likely, is_unlikely, load64, prefetch, uint128_t
from ..machine.ring cimport ring_begin, ring_publish, ring_write
from ..packet.packet cimport packet_copy_bytes
from ..state.network cimport LOOPBACK_INDEX, Pipe, Proof, Worker
from ..state.packets cimport Packet
from ..state.records cimport EventHeader

cdef enum:
    BLOCK_BYTES = 256
    BLOCK_KEYS = BLOCK_BYTES // 8  # a key for each word; three more for what is chained
    WORD_BYTES = 8
    RECORD_ARRIVAL = 1             # EventHeader, then the first bytes of the packet
    TOLD_BYTES = 128


cdef inline uint64_t multiply_fold(uint64_t a, uint64_t b) noexcept nogil:
    cdef uint128_t product = <uint128_t>a * b
    return <uint64_t>product ^ <uint64_t>(product >> 64)


cdef inline uint64_t last_word(const uint8_t *end, uint32_t bytes) noexcept nogil:
    """The last `bytes` (1 to 8) before `end` as a little-endian word, followed by zeros."""
    return load64(end - WORD_BYTES) >> (64 - 8 * bytes)


cdef inline uint128_t block_sum(const uint64_t *keys, const uint8_t *block, uint32_t length) noexcept nogil:
    """NH of one block, as if zeros followed.

    What lies in the 8 bytes before it is read, and does not matter.
    """
    cdef uint128_t total = 0
    cdef const uint8_t *end = block + length
    cdef uint64_t low
    cdef uint64_t high = 0
    while length >= 2 * WORD_BYTES:
        total += <uint128_t>(load64(block) + keys[0]) * (load64(block + WORD_BYTES) + keys[1])
        block += 2 * WORD_BYTES
        keys += 2
        length -= 2 * WORD_BYTES
    if length:
        if length > WORD_BYTES:
            low = load64(block)
            high = last_word(end, length - WORD_BYTES)
        else:
            low = last_word(end, length)
        total += <uint128_t>(low + keys[0]) * (high + keys[1])
    return total


cdef inline uint64_t block_chain(
    const uint64_t *keys, uint64_t state, const uint8_t *block, uint32_t length
) noexcept nogil:
    cdef uint128_t total = block_sum(keys, block, length)
    return multiply_fold(
        state ^ <uint64_t>total ^ keys[BLOCK_KEYS], <uint64_t>(total >> 64) ^ keys[BLOCK_KEYS + 1]
    )


cdef inline uint64_t packet_shape(Packet *packet) noexcept nogil:
    """What a packet's hash begins with: how many bytes it has, and how they are to be cut."""
    return <uint64_t>packet.total_length << 32 | packet.segment_size


cdef inline uint64_t large_packet_hash(const uint64_t *keys, Packet *packet) noexcept nogil:
    """As packet_hash(), for any number of segments and blocks."""
    cdef uint8_t gathered[WORD_BYTES + BLOCK_BYTES]
    cdef uint64_t state = packet_shape(packet)
    cdef uint32_t left = packet.total_length
    cdef uint32_t offset = 0
    cdef uint32_t here
    while left:
        here = left if left < BLOCK_BYTES else BLOCK_BYTES
        while offset >= packet.length:
            offset -= packet.length
            packet = packet.next
        packet_copy_bytes(packet, offset, gathered + WORD_BYTES, here)
        state = block_chain(keys, state, gathered + WORD_BYTES, here)
        offset += here
        left -= here
    return state


cdef inline uint64_t packet_hash(const uint64_t *keys, Packet *packet) noexcept nogil:
    """The hash of a packet's bytes, and of how they are to be cut."""
    if is_likely(packet.length == packet.total_length and packet.length <= BLOCK_BYTES):
        # metadata lies before the bytes
        return block_chain(keys, packet_shape(packet), packet.data, packet.length)
    return large_packet_hash(keys, packet)


cdef inline uint64_t event_chain(
    const uint64_t *keys, uint64_t chain, uint64_t hash, uint64_t time_ns
) noexcept nogil:
    """The chain with one more arrival at its end."""
    return multiply_fold(chain ^ hash, time_ns + keys[BLOCK_KEYS + 2])


cdef inline void event_tell(Worker *worker, Pipe *pipe, Packet *packet, uint64_t hash) noexcept nogil:
    """Write an arrival into the event ring."""
    cdef EventHeader header
    cdef Packet *segment = packet
    cdef uint32_t left = packet.total_length if packet.total_length < TOLD_BYTES else TOLD_BYTES
    cdef uint32_t here
    header.time_ns = packet.time_ns
    header.hash = hash
    header.pipe = pipe.index
    header.total_bytes = packet.total_length
    if not ring_begin(&worker.event_ring, RECORD_ARRIVAL, sizeof(EventHeader) + left):
        return
    ring_write(&worker.event_ring, &header, sizeof(EventHeader))
    while left:
        here = segment.length if segment.length < left else left
        ring_write(&worker.event_ring, segment.data, here)
        left -= here
        segment = segment.next
    ring_publish(worker, &worker.event_ring)


cdef inline Proof *pipe_proof(Worker *worker, Pipe *pipe) noexcept nogil:
    if is_unlikely(pipe.index & LOOPBACK_INDEX):
        return &pipe.receiver.node.stack.loopback_proof
    return &worker.proofs[pipe.index]


cdef inline void proof_vector(Worker *worker, Pipe *pipe, Packet **vector, uint32_t count) noexcept nogil:
    cdef Proof *proof = pipe_proof(worker, pipe)
    cdef bint told = worker.event_ring.capacity != 0
    cdef uint64_t chain = proof.chain
    cdef uint64_t hash
    cdef uint32_t i
    for i in range(count):
        if i + 4 < count:
            prefetch(vector[i + 4].data)
        hash = packet_hash(worker.proof_keys, vector[i])
        chain = event_chain(worker.proof_keys, chain, hash, <uint64_t>vector[i].time_ns)
        if is_unlikely(told):
            event_tell(worker, pipe, vector[i], hash)
    proof.chain = chain
    proof.packets += count
