# corrupt: one bit of a frame, each equally likely, is turned over; the frame arrives all the same, and
# whoever looks at its checksums finds out. A checksum that is still to be finished is finished before. Only
# the bytes up to the bit are copied, as others may hold the same packet.

from libc.stdint cimport uint64_t, uint8_t

from ...machine.random cimport random_below
from ...observe.drops cimport count_drop
from ...packet.packet cimport packet_own_header
from ...packet.segment cimport packet_finish_checksum
from ...state.network cimport Pipe, Worker
from ...state.packets cimport Packet
from ...state.reasons cimport DROP_POOL_EMPTY


cdef inline Packet *packet_corrupt(Worker *worker, Pipe *pipe, Packet *packet) noexcept nogil:
    """The packet with a bit turned over; NULL where there is no memory for that: it is dropped and
    counted.
    """
    cdef uint64_t bit
    packet = packet_finish_checksum(&worker.pool, packet)
    if packet is not NULL:
        bit = random_below(&pipe.shaper.corrupt_state, <uint64_t>packet.total_length * 8)
        packet = packet_own_header(&worker.pool, packet, <unsigned int>(bit >> 3) + 1)
    if packet is NULL:
        count_drop(pipe.sender.node, DROP_POOL_EMPTY)
        return NULL
    packet.data[bit >> 3] ^= <uint8_t>(1 << (bit & 7))
    packet.header_state = 0
    pipe.shaper.corrupted_packets += 1
    return packet
