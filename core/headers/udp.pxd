# UDP (RFC 768).

cdef enum:
    UDP_HEADER = 8                 # bytes
    UDP_CHECKSUM = 6               # its offset
