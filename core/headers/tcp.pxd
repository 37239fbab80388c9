# TCP (RFC 9293): offsets of fields, and flags.

cdef enum:
    TCP_HEADER = 20                # bytes, without options
    TCP_DATA_OFFSET = 12           # the header's length in units of four bytes, in the upper half of the byte
    TCP_FLAGS = 13
    TCP_CHECKSUM = 16
    TCP_FIN = 0x01
    TCP_PSH = 0x08
    TCP_ACK = 0x10
    TCP_CWR = 0x80
