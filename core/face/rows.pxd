# What Python sees of the engine's structures: rows, dictionaries and names, made of the copies that an
# Operation brings.

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, qsort
from libc.string cimport memset

from ..headers.ether cimport mac_store
from ..machine.platform cimport load32, load64
from ..observe.lateness cimport lateness_bucket_from
from ..state.network cimport (
    FLOW_PING, Flow, Interface, LATENESS_BUCKETS, LateStretch, Lateness, MacEntry, NEIGHBOR_INCOMPLETE,
    NEIGHBOR_PROBE, Neighbor, Pipe, READING_BATCH, ROUTE_CONNECTED, ROUTE_GATEWAY, ROUTE_LOCAL, Reply, Route4,
    Worker,
)
from ..state.reasons cimport drop_reasons
from ..state.shapers cimport Shaper
from .operations cimport LateRow, Operation


cdef inline tuple route_row(Route4 *route):
    cdef str kind = "unreachable"
    if route.kind == ROUTE_LOCAL:
        kind = "local"
    elif route.kind == ROUTE_CONNECTED:
        kind = "connected"
    elif route.kind == ROUTE_GATEWAY:
        kind = "gateway"
    return (
        route.prefix, route.length, kind,
        route.gateway if route.kind == ROUTE_GATEWAY else None,
        route.interface.index if route.interface is not NULL else None,
    )


cdef inline list take_routes(Operation *operation):
    cdef uint32_t i
    cdef list rows = [route_row(&(<Route4 *>operation.rows)[i]) for i in range(operation.row_count)]
    free(operation.rows)
    return rows


cdef inline list take_indices(Operation *operation):
    cdef list rows = [(<uint32_t *>operation.rows)[i] for i in range(operation.row_count)]
    free(operation.rows)
    return rows


cdef inline list take_neighbors(Operation *operation, int64_t now_ns):
    """(interface, address, MAC or None, state, age in ns), in the order of interfaces and addresses."""
    cdef Neighbor *neighbor
    cdef str state
    cdef uint32_t i
    cdef list rows = []
    for i in range(operation.row_count):
        neighbor = &(<Neighbor *>operation.rows)[i]
        mac = None
        state = "incomplete"
        if neighbor.state != NEIGHBOR_INCOMPLETE:
            mac = PyBytes_FromStringAndSize(<char *>neighbor.header, 6)
            state = "probe" if neighbor.state == NEIGHBOR_PROBE else "reachable"
        rows.append((neighbor.interface.index, neighbor.address, mac, state, now_ns - neighbor.confirmed_ns))
    free(operation.rows)
    rows.sort(key=lambda row: row[:2])
    return rows


cdef inline list take_macs(Operation *operation, int64_t now_ns):
    """(MAC, interface, age in ns), in the order of MACs."""
    cdef MacEntry *entry
    cdef uint8_t mac[6]
    cdef uint32_t i
    cdef list rows = []
    for i in range(operation.row_count):
        entry = &(<MacEntry *>operation.rows)[i]
        mac_store(mac, entry.mac)
        rows.append((
            PyBytes_FromStringAndSize(<char *>mac, 6), operation.node.ports[entry.port].index,
            now_ns - entry.seen_ns
        ))
    free(operation.rows)
    rows.sort()
    return rows


cdef inline int compare_samples(const void *a, const void *b) noexcept nogil:
    cdef int64_t x = (<const int64_t *>a)[0]
    cdef int64_t y = (<const int64_t *>b)[0]
    return (x > y) - (x < y)


cdef inline uint64_t nearest_rank(uint64_t count, uint64_t percent) noexcept nogil:
    """The place of a percentile among `count` sorted samples."""
    return (count * percent + 99) // 100 - 1


cdef inline dict take_flow(Operation *operation):
    cdef Flow *flow = &operation.flow_copy
    cdef int64_t *samples = <int64_t *>operation.rows
    cdef bint received = flow.received_packets > 0
    median_ns = p99_ns = None
    if operation.row_count:
        qsort(samples, operation.row_count, sizeof(int64_t), compare_samples)
        median_ns = samples[nearest_rank(operation.row_count, 50)]
        p99_ns = samples[nearest_rank(operation.row_count, 99)]
    free(operation.rows)
    return {
        "kind": "ping" if flow.kind == FLOW_PING else "udp",
        "done": bool(flow.done),
        "sent_packets": flow.sent_packets,
        "sent_bytes": flow.sent_bytes,
        "received_packets": flow.received_packets,
        "received_bytes": flow.received_bytes,
        "reordered_packets": flow.reordered_packets,
        "unreachable_packets": flow.unreachable_packets,
        "first_sent_ns": flow.first_sent_ns if flow.sent_packets else None,
        "last_sent_ns": flow.last_sent_ns if flow.sent_packets else None,
        "first_received_ns": flow.first_received_ns if received else None,
        "last_received_ns": flow.last_received_ns if received else None,
        "delay_min_ns": flow.delay_min_ns if received else None,
        "delay_median_ns": median_ns,
        "delay_p99_ns": p99_ns,
        "delay_max_ns": flow.delay_max_ns if received else None,
    }


cdef inline list take_reply_rows(Operation *operation):
    cdef Reply *reply
    cdef uint32_t i
    cdef list rows = []
    for i in range(operation.row_count):
        reply = &(<Reply *>operation.rows)[i]
        rows.append({
            "sequence": reply.sequence, "responder": reply.responder, "icmp_type": reply.icmp_type,
            "icmp_code": reply.icmp_code, "ttl": reply.ttl, "rtt_ns": reply.rtt_ns,
        })
    free(operation.rows)
    return rows


cdef inline list take_frame_rows(Operation *operation):
    """(time in ns, bytes) of each frame."""
    cdef uint8_t *next = <uint8_t *>operation.rows
    cdef uint32_t i, length
    cdef list frames = []
    for i in range(operation.row_count):
        length = load32(next + 8)
        frames.append((<int64_t>load64(next), PyBytes_FromStringAndSize(<char *>next + 12, length)))
        next += 12 + length
    free(operation.rows)
    return frames


cdef inline dict take_drops(Operation *operation):
    """Drops by reason, those that there were."""
    cdef uint64_t *drops = <uint64_t *>operation.rows
    cdef dict found = {}
    cdef int place
    for place, reason in enumerate(drop_reasons()):
        if drops[place]:
            found[reason] = drops[place]
    free(operation.rows)
    return found


cdef inline dict worker_counters(Worker *worker):
    cdef uint32_t reading_packets = 0
    cdef uint32_t i
    for i in range(READING_BATCH):
        reading_packets += (worker.readings[i].buffer is not NULL) + (worker.readings[i].spill is not NULL)
    return {
        "hop_packets": worker.hop_packets,
        "vectors": worker.vectors,
        "copied_bytes": worker.pool.copied_bytes,
        "captured_bytes": worker.captured_bytes,
        "packets_in_use": worker.pool.in_use - reading_packets,
        "pool_bytes": worker.pool.bytes,
        "pool_drop_packets": worker.pool.failed,
        "device_read_packets": worker.device_read_packets,
        "device_write_packets": worker.device_write_packets,
        "device_write_drop_packets": worker.device_write_drop_packets,
        "lost_events": worker.posted_lost,
    }


cdef inline dict pipe_counters(Operation *operation):
    cdef Pipe *pipe = &operation.pipe_copy
    cdef Shaper *shaper = &operation.shaper
    if pipe.shaper is NULL:
        memset(shaper, 0, sizeof(Shaper))
        operation.drop_probability = operation.average_bytes = 0
        shaper.packets = pipe.tail - pipe.service if pipe.bandwidth_bps else 0
        shaper.bytes = pipe.queue_bytes
    return {
        "sent_packets": operation.sender_copy.tx_packets,
        "sent_bytes": operation.sender_copy.tx_bytes,
        "delivered_packets": operation.interface_copy.rx_packets,
        "delivered_bytes": operation.interface_copy.rx_bytes,
        "queue_drop_packets": pipe.queue_drop_packets,
        "early_drop_packets": shaper.early_drop_packets,
        "loss_packets": pipe.loss_packets,
        "down_drop_packets": pipe.down_drop_packets,
        "loop_drop_packets": pipe.loop_drop_packets,
        "in_flight_packets": operation.in_flight,
        "waiting_packets": shaper.packets,
        "waiting_bytes": shaper.bytes,
        "marked_packets": shaper.marked_packets,
        "duplicate_packets": shaper.duplicate_packets,
        "corrupted_packets": shaper.corrupted_packets,
        "reordered_packets": shaper.reordered_packets,
        "average_bytes": operation.average_bytes,
        "drop_probability": operation.drop_probability / 18446744073709551616.0,
    }


cdef inline dict lateness_counters(Lateness *lateness):
    """A pipe's lateness, and its buckets that are not empty as (least ns, packets)."""
    cdef uint32_t i
    cdef list buckets = []
    for i in range(LATENESS_BUCKETS):
        if lateness.buckets[i]:
            buckets.append((lateness_bucket_from(i), lateness.buckets[i]))
    return {"late_packets": lateness.late_packets, "worst_ns": lateness.worst_ns, "buckets": buckets}


cdef inline list take_late_stretches(Operation *operation):
    """(pipe, node of the device, from, until, packets, late packets, worst in ns), in the order of time; a
    pipe or a node.
    """
    cdef LateStretch *stretch
    cdef Lateness *lateness
    cdef uint32_t i
    cdef list rows = []
    for i in range(operation.row_count):
        stretch = &(<LateRow *>operation.rows)[i].stretch
        lateness = (<LateRow *>operation.rows)[i].lateness
        rows.append((
            lateness.pipe.index if lateness.pipe is not NULL else None,
            lateness.device.index if lateness.device is not NULL else None,
            stretch.from_ns, stretch.until_ns, stretch.packets, stretch.late_packets, stretch.worst_ns,
        ))
    free(operation.rows)
    rows.sort(key=lambda row: row[2:])
    return rows


cdef inline dict interface_counters(Interface *interface):
    return {
        "rx_packets": interface.rx_packets, "rx_bytes": interface.rx_bytes,
        "tx_packets": interface.tx_packets, "tx_bytes": interface.tx_bytes,
        "capture_lost_packets": interface.capture_lost_packets,
    }
