# Network devices that are there already (a card, an end of a veth), bridged to a port by a packet socket
# (packet(7)).
#
# The socket is set up in Python: bound to the device, promiscuous, without copies of what leaves, with virtio
# headers. It is read and written many frames a call. The kernel takes VLAN tags off and tells them apart
# (PACKET_AUXDATA); they are put back here, so that a frame looks as it did on the wire. On the way out tags
# just stand in the frame.

from libc.errno cimport EAGAIN, EINTR, EINVAL, ENETDOWN, ENOBUFS, ENODEV, ENOMEM, ENXIO, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memmove, memset

from ..headers.ether cimport ETHER_HEADER, ETHER_TYPE_VLAN, VLAN_TAG
from ..machine.platform cimport is_unlikely, put16
from ..observe.drops cimport count_drop, drop
from ..state.network cimport Interface, Node, READING_BATCH, Worker
from ..state.packets cimport Packet
from ..state.reasons cimport DROP_ETHER_TOO_LONG, DROP_ETHER_TRUNCATED, DROP_POOL_EMPTY, DROP_VNET_HEADER
from .frames cimport (
    FRAME_PARTS, frame_enter, frame_join, frame_left, frame_parts, frame_refused, frame_understand, iovec,
    reading_prepare, reading_take,
)

cdef extern from "<sys/socket.h>" nogil:
    cdef struct timespec
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    cdef struct cmsghdr:
        int cmsg_level
        int cmsg_type
    enum:
        MSG_DONTWAIT
        MSG_TRUNC
        SOL_PACKET
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    uint8_t *CMSG_DATA(cmsghdr *control)
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, timespec *timeout)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)


cdef extern from "<linux/if_packet.h>" nogil:
    cdef struct tpacket_auxdata:
        uint32_t tp_status
        uint16_t tp_vlan_tci
        uint16_t tp_vlan_tpid
    enum:
        PACKET_AUXDATA
        TP_STATUS_VLAN_VALID
        TP_STATUS_VLAN_TPID_VALID


cdef enum:
    # a packet socket's headers lack the last field of a TAP's, which neither uses
    NIC_VNET_HEADER = 10
    CONTROL_WORDS = 8              # that hold one message of auxiliary data
    WRITE_BATCH = 64               # frames that are handed over in one call, …
    WRITE_PARTS = 1024             # … and the pieces of memory that all of them may lie in

# Frames that were read together. They lie in the worker's readings.
cdef struct NicBatch:
    mmsghdr messages[READING_BATCH]
    iovec parts[READING_BATCH][2]
    uint64_t controls[READING_BATCH][CONTROL_WORDS]
    int count
    bint emptied                   # the device had no more
    bint lost                      # it is down or no more

# Frames that wait for the call that hands them over.
cdef struct Writing:
    mmsghdr messages[WRITE_BATCH]
    iovec parts[WRITE_PARTS]
    uint8_t headers[WRITE_BATCH][NIC_VNET_HEADER]
    Packet *packets[WRITE_BATCH]
    uint32_t count
    uint32_t parts_used


cdef inline void put_tag_back(Packet *packet, msghdr *message) noexcept nogil:
    """Give a frame the VLAN tag that the kernel took off it, if it did."""
    cdef cmsghdr *control = CMSG_FIRSTHDR(message)
    cdef tpacket_auxdata *auxiliary
    cdef uint16_t protocol = ETHER_TYPE_VLAN
    if control is NULL or control.cmsg_level != SOL_PACKET or control.cmsg_type != PACKET_AUXDATA:
        return
    auxiliary = <tpacket_auxdata *>CMSG_DATA(control)
    if not auxiliary.tp_status & TP_STATUS_VLAN_VALID:
        return
    if auxiliary.tp_status & TP_STATUS_VLAN_TPID_VALID:
        protocol = auxiliary.tp_vlan_tpid
    memmove(packet.data - VLAN_TAG, packet.data, ETHER_HEADER - 2)
    packet.data -= VLAN_TAG
    put16(packet.data + ETHER_HEADER - 2, protocol)
    put16(packet.data + ETHER_HEADER, auxiliary.tp_vlan_tci)
    packet.length += VLAN_TAG
    packet.total_length += VLAN_TAG
    packet.network_offset += VLAN_TAG
    packet.transport_offset += VLAN_TAG
    packet.header_length += VLAN_TAG


cdef inline void nic_take(Worker *worker, Node *node, Packet *packet, msghdr *message) noexcept nogil:
    if is_unlikely(message.msg_flags & MSG_TRUNC):
        drop(worker, node, packet, DROP_ETHER_TOO_LONG)
    elif is_unlikely(packet.length < ETHER_HEADER):
        drop(worker, node, packet, DROP_ETHER_TRUNCATED)
    elif frame_understand(worker, node, packet, NIC_VNET_HEADER):
        put_tag_back(packet, message)
        frame_enter(worker, node, packet)


cdef inline void nic_read(Worker *worker, Node *node, NicBatch *batch) noexcept nogil:
    """Fetch what the device has, at most a batch."""
    cdef unsigned int prepared = 0
    cdef msghdr *message
    batch.count = 0
    batch.emptied = batch.lost = False
    while prepared < READING_BATCH and reading_prepare(
        worker, &worker.readings[prepared], NIC_VNET_HEADER, batch.parts[prepared]
    ):
        memset(&batch.messages[prepared], 0, sizeof(mmsghdr))
        message = &batch.messages[prepared].msg_hdr
        message.msg_iov = batch.parts[prepared]
        message.msg_iovlen = 2
        message.msg_control = batch.controls[prepared]
        message.msg_controllen = sizeof(batch.controls[0])
        prepared += 1
    if is_unlikely(prepared == 0):
        count_drop(node, DROP_POOL_EMPTY)
        return
    batch.count = recvmmsg(node.own.device.fd, batch.messages, prepared, MSG_DONTWAIT, NULL)
    batch.emptied = batch.count < <int>prepared
    if batch.count < 0:
        if errno == EINVAL:  # a frame that no virtio header can tell of; the kernel has dropped it
            count_drop(node, DROP_VNET_HEADER)
        else:
            batch.lost = errno != EAGAIN and errno != EINTR and errno != ENOBUFS and errno != ENOMEM


cdef inline void nic_enter(Worker *worker, Node *node, NicBatch *batch, int64_t time_ns) noexcept nogil:
    """Send the frames of a batch into the network, all of them at one logical time."""
    cdef Packet *packet
    cdef int i
    for i in range(batch.count):
        if batch.messages[i].msg_len > NIC_VNET_HEADER:
            packet = reading_take(&worker.readings[i], batch.messages[i].msg_len - NIC_VNET_HEADER)
            packet.time_ns = time_ns
            nic_take(worker, node, packet, &batch.messages[i].msg_hdr)


cdef inline void writing_hand_over(Worker *worker, Node *node, Writing *writing) noexcept nogil:
    """Give the device what waits for it; a frame that it refuses does not keep it from the next."""
    cdef uint32_t done = 0
    cdef int sent
    while done < writing.count:
        sent = sendmmsg(node.own.device.fd, &writing.messages[done], writing.count - done, MSG_DONTWAIT)
        if sent > 0:
            while sent:
                frame_left(worker, writing.packets[done])
                done += 1
                sent -= 1
        elif errno != EINTR:
            if errno == ENETDOWN or errno == ENXIO or errno == ENODEV:
                worker.failed_device = node
            frame_refused(worker, node, writing.packets[done])
            done += 1
    writing.count = 0
    writing.parts_used = 0


cdef inline void nic_vector(
    Worker *worker, Interface *interface, Packet **vector, uint32_t count
) noexcept nogil:
    """Hand a vector of frames to the device."""
    cdef Node *node = interface.node
    cdef Writing writing
    cdef Packet *packet
    cdef iovec *parts
    cdef uint32_t pieces
    cdef uint32_t i = 0
    cdef uint32_t k
    writing.count = 0
    writing.parts_used = 0
    while i < count:
        packet = frame_join(worker, node, vector, count, &i)
        if writing.count == WRITE_BATCH or writing.parts_used + FRAME_PARTS > WRITE_PARTS:
            writing_hand_over(worker, node, &writing)
        k = writing.count
        parts = &writing.parts[writing.parts_used]
        pieces = frame_parts(packet, writing.headers[k], NIC_VNET_HEADER, parts)
        if pieces == 0:
            frame_refused(worker, node, packet)
            continue
        memset(&writing.messages[k], 0, sizeof(mmsghdr))
        writing.messages[k].msg_hdr.msg_iov = parts
        writing.messages[k].msg_hdr.msg_iovlen = pieces
        writing.packets[k] = packet
        writing.parts_used += pieces
        writing.count += 1
    writing_hand_over(worker, node, &writing)
