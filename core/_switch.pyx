# The engine: its tables of nodes, interfaces, pipes and flows, its clock, and the face that Python sees.
#
# This module alone is compiled; the rooms beside it are headers of inline functions, so that the whole path of a
# packet is one compilation. All state hangs off a Switch, and no two of them meet.

import os
import threading

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport INT64_MAX, INT64_MIN, UINT64_MAX, int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from .clock cimport clock_now
from .control cimport (
    Operation, do_add_route, do_announce, do_capture, do_copy_drops, do_copy_flow, do_copy_interface,
    do_copy_late_stretches, do_copy_lateness, do_copy_macs, do_copy_neighbors, do_copy_pipe, do_copy_proof,
    do_copy_routes, do_copy_worker, do_count_memory, do_delete_route, do_inject, do_lookup, do_remove_flow,
    do_set_link_up, do_set_pipe, do_start_flow, do_stop_flow, do_take_frames, do_take_replies, do_tell_arrivals,
)
from .face cimport (
    capture_reasons, drop_reasons, interface_counters, lateness_counters, pipe_counters, route_row, take_drops,
    take_flow, take_frame_rows, take_late_stretches, take_macs, take_neighbors, take_reply_rows,
    take_routes, worker_counters,
)
from .ether cimport mac_load
from .icmp cimport is_one_host
from .lateness cimport LATE_NS, LATE_PERCENT, pipe_find_lateness, waits_new
from .layout cimport (
    FLOW_PING, FLOW_UDP, KIND_HOST, KIND_HUB, KIND_NIC, KIND_PORT, KIND_ROUTER, KIND_SWITCH, KIND_TAP,
    OBSERVE_PROOF, PORT_LIMIT, POSTED_DEVICE_GONE, POSTED_FLOW_DONE, POSTED_LINK_CHANGED, POSTED_NEIGHBOR_FAILED, ROUTE_CONNECTED,
    ROUTE_GATEWAY, ROUTE_LOCAL, ROUTE_UNREACHABLE, Address, Command, Flow, Interface, Node, Pipe, Posted, Ring, Tables,
    Worker, sem_t,
)
from .neighbor cimport interface_reaches
from .pipe cimport pipe_reverse
from .platform cimport atomic_load32, atomic_load64, atomic_store32, atomic_store64, host_clock_ns, must_resize
from .ring cimport ring_copy, ring_readable
from .route cimport prefix_mask, route_find, route_set
from .schedule cimport never
from .shaping cimport discipline_numbers, probability_threshold, read_shaping
from .tables cimport (
    FLOW_LIMIT, INTERFACE_LIMIT, NODE_LIMIT, PIPE_LIMIT, interface_new, link_new, node_new, tables_close, tables_open,
    worker_new,
)
from .vnet cimport VNET_HEADER
from .worker cimport (
    TAG_TIMER, TAG_WAKE, new_epoll_fd, new_event_fd, new_timer_fd, next_event_ns, signal_fd, watch_fd, worker_enter,
    worker_loop, worker_run,
)

cdef extern from "<semaphore.h>" nogil:
    int sem_init(sem_t *semaphore, int shared, unsigned int value)
    int sem_wait(sem_t *semaphore)
    int sem_destroy(sem_t *semaphore)

NEVER = INT64_MAX
HOST = KIND_HOST
ROUTER = KIND_ROUTER
SWITCH = KIND_SWITCH
HUB = KIND_HUB
TAP = KIND_TAP
NIC = KIND_NIC
PORT = KIND_PORT
FLOW_DONE = POSTED_FLOW_DONE
LINK_CHANGED = POSTED_LINK_CHANGED
NEIGHBOR_FAILED = POSTED_NEIGHBOR_FAILED
DEVICE_GONE = POSTED_DEVICE_GONE
EVENT_RING = RING_OF_EVENTS
CAPTURE_RING = RING_OF_CAPTURES
DROP_REASONS = drop_reasons()
DISCIPLINES = tuple(discipline_numbers())
LATE_ABOVE_NS = LATE_NS
LATE_ABOVE_PERCENT = LATE_PERCENT
CAPTURE_REASONS = capture_reasons()

cdef enum:
    RING_OF_EVENTS = 0
    RING_OF_CAPTURES = 1
    FIRST_UDP_PORT = 49152
    UDP_STAMP_BYTES = 16
    RUN_SLICE_NS = 50000000        # of real time between two looks at Python's signals

_LONGEST_NS = 10**15               # that is added to a time: 11 days
_LONGEST_FRAME = 65664
_LAST_NS = 4 * 10**18              # 126 years: with all that may be added it is still a time

ctypedef void (*operation_function)(Worker *worker, void *argument) noexcept nogil


cdef class Switch:
    cdef Worker *worker
    cdef Tables tables
    cdef uint32_t next_flow
    cdef bint real_time
    cdef bint announced
    cdef bint midway
    cdef int64_t dilation
    cdef object thread
    cdef object lock
    cdef dict tables_read          # that pipes share, by what they were made of: see shaping.pxd
    cdef public object drain

    def __cinit__(
        self, *, bint real_time=False, dilation=1, pool_limit_bytes=1 << 30, ring_bytes=1 << 27, judged_ns=1000000000,
        bint proof=False,
    ):
        must_lie("dilation (real seconds for one emulated second)", dilation, 1, 1000000)
        must_lie("pool limit", pool_limit_bytes, 0, INT64_MAX, " bytes")
        must_lie("judged time", judged_ns, 1, _LONGEST_NS, " ns")
        if not 4096 <= ring_bytes <= 1 << 40 or ring_bytes & ring_bytes - 1:
            raise ValueError(f"ring of {ring_bytes} bytes: allowed are powers of two from 4096")
        self.lock = threading.Lock()
        self.tables_read = {}
        self.real_time = real_time
        self.dilation = dilation
        if not tables_open(&self.tables, proof):
            raise MemoryError("the engine needs about 600 MB of address space (not memory): raise the limit (ulimit -v)")
        self.worker = worker_new(&self.tables)
        self.worker.pool.limit_bytes = pool_limit_bytes
        self.worker.ring_bytes = ring_bytes
        self.worker.event_ring.event_fd = new_event_fd()
        self.worker.capture_ring.event_fd = new_event_fd()
        self.worker.judged_ns = judged_ns
        self.worker.clock.dilation = dilation if real_time else 0
        self.worker.event_fd = new_event_fd()
        self.worker.wake_fd = new_event_fd()
        self.worker.epoll_fd = new_epoll_fd()
        self.worker.timer_fd = new_timer_fd()
        watch_fd(self.worker.epoll_fd, self.worker.wake_fd, TAG_WAKE)
        watch_fd(self.worker.epoll_fd, self.worker.timer_fd, TAG_TIMER)

    def __dealloc__(self):
        self._free()

    def close(self):
        self.stop()
        with self.lock:
            self._free()
        self.tables_read.clear()

    cdef void _free(self):
        cdef Worker *worker = self.worker
        cdef uint64_t lost
        if worker is NULL:
            return
        self.worker = NULL
        for descriptor in (
            worker.event_fd, worker.wake_fd, worker.epoll_fd, worker.timer_fd,
            worker.event_ring.event_fd, worker.capture_ring.event_fd,
        ):
            if descriptor >= 0:
                os.close(descriptor)
        lost = tables_close(&self.tables, worker)
        if lost:
            print(f"manystack: {lost} packets were lost track of: please report this as a bug")

    # Indices and calls.

    cdef Worker *_open(self) except NULL:
        if self.worker is NULL:
            raise RuntimeError("this engine has been closed")
        return self.worker

    cdef Node *_node(self, index) except NULL:
        self._open()
        if not 0 <= index < self.tables.node_count:
            raise ValueError(f"there is no node {index}: this engine has {self.tables.node_count}")
        return &self.worker.nodes[<uint32_t>index]

    cdef Interface *_interface(self, index) except NULL:
        self._open()
        if not 0 <= index < self.tables.interface_count:
            raise ValueError(f"there is no interface {index}: this engine has {self.tables.interface_count}")
        return &self.tables.interfaces[<uint32_t>index]

    cdef Pipe *_pipe(self, index) except NULL:
        self._open()
        if not 0 <= index < self.tables.pipe_count:
            raise ValueError(f"there is no pipe {index}: this engine has {self.tables.pipe_count}")
        return &self.tables.pipes[<uint32_t>index]

    cdef Flow *_flow(self, index) except NULL:
        self._open()
        if not 0 <= index < FLOW_LIMIT or not self.worker.flows[<uint32_t>index].used:
            raise ValueError(f"there is no flow {index}")
        return &self.worker.flows[<uint32_t>index]

    cdef void _call(self, operation_function function, Operation *operation) noexcept:
        """Carry an operation out on the worker: by mailbox while its thread runs, else here."""
        cdef Command command
        cdef Worker *worker = self.worker
        with self.lock:
            if self.thread is None:
                worker_enter(worker, clock_now(&worker.clock))
                function(worker, operation)
                return
            command.run = function
            command.argument = operation
            sem_init(&command.done, 0, 0)
            worker.mailbox.slots[worker.mailbox.tail & 63] = &command
            atomic_store32(&worker.mailbox.tail, worker.mailbox.tail + 1)
            signal_fd(worker.wake_fd)
            with nogil:
                while sem_wait(&command.done) != 0:
                    pass
            sem_destroy(&command.done)

    cdef void _change(self, operation_function function, Operation *operation) noexcept:
        """As _call(), for what has to find all nodes at one time."""
        if self.thread is None:
            self._settle()
        self._call(function, operation)

    cdef void _settle(self) noexcept:
        """Bring all nodes to one time, where a run was left midway: some may be ahead of others."""
        cdef Worker *worker = self.worker
        cdef int64_t target_ns
        if not self.midway:
            return
        target_ns = max(worker.ahead_ns, worker.clock.now_ns)
        with self.lock, nogil:
            while not worker_run(worker, target_ns, False, 0):
                worker.drain_due = 0  # until the next record: a ring grows meanwhile
            worker.clock.now_ns = target_ns
        self.midway = False

    # Building.

    def add_node(self, kind):
        self._open()
        self._must_not_run("add a node")
        if not 0 <= kind <= KIND_PORT:
            raise ValueError(f"there is no node kind {kind}")
        if self.tables.node_count == NODE_LIMIT:
            raise ValueError(f"an engine holds at most {NODE_LIMIT} nodes")
        self.worker.node_count = self.tables.node_count + 1
        return node_new(&self.tables, kind).index

    def add_interface(self, node_index, bytes mac not None, mtu=1500):
        cdef Node *node = self._node(node_index)
        self._must_not_run("add an interface")
        if len(mac) != 6 or mac[0] & 1:
            raise ValueError("a MAC address is 6 bytes, of which the first is even (a single station)")
        if not 68 <= mtu <= 65535:
            raise ValueError(f"MTU {mtu}: allowed are 68 to 65535 bytes (RFC 791)")
        if (node.kind == KIND_TAP or node.kind == KIND_NIC or node.kind == KIND_PORT) and node.port_count:
            raise ValueError("a TAP, NIC or PORT node has one interface")
        if node.port_count == PORT_LIMIT:
            raise ValueError(f"a node has at most {PORT_LIMIT} interfaces")
        if self.tables.interface_count == INTERFACE_LIMIT:
            raise ValueError(f"an engine holds at most {INTERFACE_LIMIT} interfaces")
        return interface_new(&self.tables, node, mac_load(mac), mtu).index

    def add_address(self, interface_index, address, prefix_length):
        cdef Interface *interface = self._interface(interface_index)
        cdef Node *node = interface.node
        cdef uint32_t mask
        cdef int place
        self._must_not_run("add an address")
        must_lie("address", address, 0, 0xFFFFFFFF)
        must_lie("prefix length", prefix_length, 0, 32)
        mask = prefix_mask(prefix_length)
        if node.kind != KIND_HOST and node.kind != KIND_ROUTER:
            raise ValueError("only hosts and routers have addresses")
        if not is_one_host(address):
            raise ValueError("an interface's address is that of one host, not 0/8, 127/8, a group or class E")
        place = route_find(&node.table, address, 32)
        if place >= 0 and node.table.routes[place].kind == ROUTE_LOCAL:
            raise ValueError("the node has this address already")
        interface.addresses = <Address *>must_resize(
            interface.addresses, (interface.address_count + 1) * sizeof(Address)
        )
        interface.addresses[interface.address_count].address = address
        interface.addresses[interface.address_count].mask = mask
        interface.address_count += 1
        if prefix_length < 32 and route_find(&node.table, address & mask, prefix_length) < 0:
            route_set(&node.table, address & mask, prefix_length, ROUTE_CONNECTED, 0, interface)
        route_set(&node.table, address, 32, ROUTE_LOCAL, 0, interface)

    def add_link(self, interface_a, interface_b, seed_ab=0, seed_ba=0):
        cdef Interface *a = self._interface(interface_a)
        cdef Interface *b = self._interface(interface_b)
        cdef Pipe *pipe
        self._must_not_run("add a link")
        must_lie("seed", seed_ab, 0, UINT64_MAX)
        must_lie("seed", seed_ba, 0, UINT64_MAX)
        if a == b:
            raise ValueError("a link joins two interfaces, not one with itself")
        if a.output is not NULL or b.output is not NULL:
            raise ValueError("an interface has one link at most")
        if self.tables.pipe_count + 2 > PIPE_LIMIT:
            raise ValueError(f"an engine holds at most {PIPE_LIMIT // 2} links")
        pipe = link_new(&self.tables, a, b, seed_ab, seed_ba)
        if self.worker.proofs is not NULL:
            pipe.observed |= OBSERVE_PROOF
            pipe_reverse(pipe).observed |= OBSERVE_PROOF
        return pipe.index, pipe_reverse(pipe).index

    def attach_tap(self, node, int fd, *, takes_udp=True):
        self._attach(node, KIND_TAP, fd, takes_udp)

    def attach_nic(self, node, int fd, *, takes_udp=True):
        self._attach(node, KIND_NIC, fd, takes_udp)

    def _attach(self, node_index, kind, int fd, bint takes_udp):
        cdef Node *node = self._node(node_index)
        name = "TAP" if kind == KIND_TAP else "NIC"
        self._must_not_run(f"attach a {name} device")
        if node.kind != kind or node.port_count != 1 or node.device_fd >= 0:
            raise ValueError(f"a device is attached once, to a {name} node that has its interface")
        if not self.real_time:
            raise ValueError(f"a {name} device needs real time: the host behind it lives in no other")
        if watch_fd(self.worker.epoll_fd, fd, node_index) != 0:
            raise OSError(f"the descriptor of the {name} device cannot be waited for")
        node.device_fd = fd
        node.takes_udp = takes_udp
        waits_new(self.worker, node)

    def _must_not_run(self, what):
        if self.thread is not None:
            raise RuntimeError(f"cannot {what} while the engine runs: build before start()")
        self._settle()

    # Live changes.

    def set_pipe(
        self, pipe, *, bandwidth_bps=0, overhead_bytes=0, delay_ns=0, double loss=0.0,
        queue_limit_packets=None, queue_limit_bytes=None, shaping=None,
    ):
        cdef Operation operation
        operation.pipe = self._pipe(pipe)
        if not 0 <= delay_ns <= _LONGEST_NS:
            raise ValueError(f"delay {delay_ns} ns: allowed are 0 to 1,000,000 s")
        if bandwidth_bps != 0 and not 100 <= bandwidth_bps <= 1000000000000:
            raise ValueError(f"bandwidth {bandwidth_bps} bit/s: allowed are 100 to 10^12, or 0 for no limit")
        must_lie("overhead", overhead_bytes, -65535, 65535, " bytes")
        must_lie("queue limit", queue_limit_packets or 0, 0, UINT64_MAX, " packets")
        must_lie("queue limit", queue_limit_bytes or 0, 0, UINT64_MAX, " bytes")
        operation.bandwidth_bps = bandwidth_bps
        operation.overhead_bytes = overhead_bytes
        operation.delay_ns = delay_ns
        operation.loss_threshold = probability_threshold("loss", loss)
        operation.queue_limit_packets = UINT64_MAX if queue_limit_packets is None else queue_limit_packets
        operation.queue_limit_bytes = UINT64_MAX if queue_limit_bytes is None else queue_limit_bytes
        operation.shaped = shaping is not None
        read_shaping(
            &operation.shaper, self.tables_read, {} if shaping is None else shaping, operation.loss_threshold, bandwidth_bps
        )
        self._change(do_set_pipe, &operation)

    def set_link_up(self, pipe, bint up):
        cdef Operation operation
        operation.pipe = self._pipe(pipe)
        operation.up = up
        self._change(do_set_link_up, &operation)

    def add_route(self, node, prefix, prefix_length, gateway):
        cdef Operation operation
        cdef Node *context = self._node(node)
        cdef uint32_t i
        must_lie("prefix", prefix, 0, 0xFFFFFFFF)
        must_lie("prefix length", prefix_length, 0, 32)
        if <uint32_t>prefix & ~prefix_mask(prefix_length):
            raise ValueError("a prefix has no bits set after its length")
        must_lie("gateway", gateway or 0, 0, 0xFFFFFFFF)
        operation.node = context
        operation.prefix = prefix
        operation.prefix_length = prefix_length
        operation.gateway = 0
        operation.interface = NULL
        operation.route_kind = ROUTE_UNREACHABLE
        if gateway is not None:
            operation.route_kind = ROUTE_GATEWAY
            operation.gateway = gateway
            for i in range(context.port_count):
                if interface_reaches(context.ports[i], operation.gateway):
                    operation.interface = context.ports[i]
                    break
            if operation.interface is NULL:
                raise ValueError("the gateway lies on none of the node's subnets")
        self._change(do_add_route, &operation)
        if not operation.found:
            raise ValueError("the prefix is one of the node's own subnets or addresses")

    def delete_route(self, node, prefix, prefix_length):
        cdef Operation operation
        operation.node = self._node(node)
        must_lie("prefix", prefix, 0, 0xFFFFFFFF)
        must_lie("prefix length", prefix_length, 0, 32)
        operation.prefix = prefix
        operation.prefix_length = prefix_length
        self._change(do_delete_route, &operation)
        return bool(operation.found)

    # What is there.

    def routes(self, node):
        cdef Operation operation
        operation.node = self._node(node)
        self._call(do_copy_routes, &operation)
        return take_routes(&operation)

    def lookup(self, node, address):
        cdef Operation operation
        operation.node = self._node(node)
        must_lie("address", address, 0, 0xFFFFFFFF)
        operation.prefix = address
        self._call(do_lookup, &operation)
        return route_row(&operation.route_copy)[2:] if operation.found else ("none", None, None)

    def neighbors(self, node):
        cdef Operation operation
        operation.node = self._node(node)
        self._change(do_copy_neighbors, &operation)
        return take_neighbors(&operation, clock_now(&self.worker.clock))

    def mac_table(self, node):
        cdef Operation operation
        operation.node = self._node(node)
        self._change(do_copy_macs, &operation)
        return take_macs(&operation, clock_now(&self.worker.clock))

    # Flows.

    cdef Flow *_new_flow(
        self, Operation *operation, node_index, destination, start_ns, stop_ns
    ) except NULL:
        """Reserve a place for a flow, and give what it will be, to be filled in: the worker copies it to its place."""
        cdef Node *node = self._node(node_index)
        cdef Flow *flow = &operation.flow_copy
        cdef uint32_t index, k
        if node.kind != KIND_HOST and node.kind != KIND_ROUTER:
            raise ValueError("only hosts and routers send traffic of their own")
        must_lie("destination", destination, 0, 0xFFFFFFFF)
        must_lie("start", start_ns, INT64_MIN, INT64_MAX, " ns")
        must_lie("stop", stop_ns, INT64_MIN, INT64_MAX, " ns")
        if not is_one_host(destination):
            raise ValueError("traffic goes to the address of one host")
        # A place is used again as late as can be, so that nothing that is still under way is taken for the new flow's.
        for k in range(FLOW_LIMIT):
            index = (self.next_flow + k) % FLOW_LIMIT
            if not self.worker.flows[index].used:
                self.next_flow = index + 1
                self.worker.flows[index].used = 1
                operation.flow = &self.worker.flows[index]
                memset(flow, 0, sizeof(Flow))
                flow.used = 1
                flow.index = index
                flow.node = node
                flow.destination = destination
                flow.start_ns = start_ns
                flow.stop_ns = stop_ns
                flow.sample_stride = 1
                if index >= self.worker.flow_high:
                    self.worker.flow_high = index + 1
                return flow
        raise ValueError(f"an engine holds at most {FLOW_LIMIT} flows")

    def add_ping(
        self, node, destination, *, interval_ns, count, size_bytes=56, start_ns=0, stop_ns=INT64_MAX, timeout_ns=5000000000,
        ttl=64, probes_per_ttl=0, bint keep_replies=False,
    ):
        cdef Operation operation
        cdef Flow *flow
        must_lie("interval", interval_ns, 1, _LONGEST_NS, " ns")
        must_lie("timeout", timeout_ns, 1, _LONGEST_NS, " ns")
        must_lie("count", count, 0, UINT64_MAX)
        must_lie("size", size_bytes, 0, 65507, " bytes")
        must_lie("TTL", ttl, 1, 255)
        must_lie("probes per TTL", probes_per_ttl, 0, 100)
        flow = self._new_flow(&operation, node, destination, start_ns, stop_ns)
        flow.kind = FLOW_PING
        flow.identifier = <uint32_t>(flow.index + 1) & 0xFFFF
        flow.size_bytes = size_bytes
        flow.interval_ns = interval_ns
        flow.count = ttl * probes_per_ttl if probes_per_ttl else count
        flow.timeout_ns = timeout_ns
        flow.ttl = <uint8_t>ttl
        flow.probes_per_ttl = probes_per_ttl
        flow.keep_replies = keep_replies
        self._change(do_start_flow, &operation)
        return flow.index

    def add_udp(
        self, node, destination, *, rate_bps, size_bytes, start_ns=0, stop_ns=INT64_MAX, sink=None,
    ):
        cdef Operation operation
        cdef Flow *flow
        cdef Node *sink_node = NULL
        cdef uint64_t nanobits
        if not 1 <= rate_bps <= 1000000000000:
            raise ValueError(f"rate {rate_bps} bit/s: allowed are 1 to 10^12")
        if not UDP_STAMP_BYTES <= size_bytes <= 65507:
            raise ValueError(f"size {size_bytes} bytes: allowed are {UDP_STAMP_BYTES} to 65507 (a stamp takes the first)")
        nanobits = <uint64_t>size_bytes * 8 * 1000000000
        if sink is not None:
            sink_node = self._node(sink)
        flow = self._new_flow(&operation, node, destination, start_ns, stop_ns)
        flow.kind = FLOW_UDP
        flow.identifier = <uint32_t>(FIRST_UDP_PORT + flow.index) & 0xFFFF
        flow.sink = sink_node
        flow.size_bytes = size_bytes
        flow.rate_bps = rate_bps
        flow.interval_ns = nanobits // flow.rate_bps
        flow.interval_remainder = nanobits % flow.rate_bps
        flow.timeout_ns = 1000000000
        self._change(do_start_flow, &operation)
        return flow.index

    def flow(self, flow, *, bint quantiles=True):
        cdef Operation operation
        operation.flow = self._flow(flow)
        operation.found = quantiles
        self._call(do_copy_flow, &operation)
        return take_flow(&operation)

    def take_replies(self, flow):
        cdef Operation operation
        operation.flow = self._flow(flow)
        self._call(do_take_replies, &operation)
        return take_reply_rows(&operation)

    def stop_flow(self, flow):
        cdef Operation operation
        operation.flow = self._flow(flow)
        self._change(do_stop_flow, &operation)

    def remove_flow(self, flow):
        cdef Operation operation
        operation.flow = self._flow(flow)
        self._change(do_remove_flow, &operation)

    # Frames by hand.

    cdef Node *_port(self, index) except NULL:
        cdef Node *node = self._node(index)
        if node.kind != KIND_PORT or node.port_count != 1:
            raise ValueError("frames are put in and taken out by hand at PORT nodes that have their interface")
        return node

    def inject(self, node, const uint8_t[::1] frame not None, count=1, bytes vnet_header=None):
        cdef Operation operation
        operation.node = self._port(node)
        operation.vnet_header = NULL
        if vnet_header is not None:
            if len(vnet_header) != VNET_HEADER:
                raise ValueError(f"a virtio header has {VNET_HEADER} bytes")
            operation.vnet_header = <const uint8_t *><const char *>vnet_header
        if not 1 <= frame.shape[0] <= 65664:
            raise ValueError("a frame has 1 to 65664 bytes")
        must_lie("count", count, 0, 0xFFFFFFFF)
        operation.frame = &frame[0]
        operation.frame_length = <uint32_t>frame.shape[0]
        operation.repeat = count
        self._change(do_inject, &operation)
        return operation.row_count

    def take_frames(self, node):
        cdef Operation operation
        operation.node = self._port(node)
        self._change(do_take_frames, &operation)
        return take_frame_rows(&operation)

    def discard_frames(self, node, bint discard):
        self._port(node).discard_frames = discard

    # Time.

    @property
    def now_ns(self):
        return clock_now(&self._open().clock)

    @property
    def next_event_ns(self):
        cdef int64_t next_ns
        self._open()
        if self.thread is not None:
            raise RuntimeError("cannot look ahead while the engine runs")
        self._announce()
        next_ns = next_event_ns(self.worker)
        return None if next_ns == never() else next_ns

    cdef void _announce(self) noexcept:
        cdef Operation operation
        cdef uint32_t i
        if self.announced:
            return
        self.announced = True
        worker_enter(self.worker, clock_now(&self.worker.clock))
        for i in range(self.tables.interface_count):
            operation.interface = &self.tables.interfaces[i]
            if operation.interface.address_count and operation.interface.output is not NULL:
                do_announce(self.worker, &operation)

    def run(self, until_ns, *, bint stop_on_event=False, int64_t wall_limit_ns=0):
        cdef Worker *worker = self._open()
        cdef int64_t limit_ns = host_clock_ns() + wall_limit_ns
        cdef int64_t slice_ns, target_ns
        cdef bint finished = False
        if self.real_time:
            raise RuntimeError("run() is for virtual time; in real time, start() the engine's own thread")
        must_lie("time", until_ns, INT64_MIN, _LAST_NS, " ns")
        if until_ns < worker.clock.now_ns:
            raise ValueError(f"time does not go back: it is {worker.clock.now_ns} ns already")
        target_ns = until_ns
        with self.lock:
            self._announce()
            self.midway = True
            posted = worker.posted_tail
            while not finished:
                slice_ns = host_clock_ns() + RUN_SLICE_NS
                if wall_limit_ns and slice_ns > limit_ns:
                    slice_ns = limit_ns
                with nogil:
                    finished = worker_run(worker, target_ns, stop_on_event, slice_ns)
                if finished:
                    break
                if worker.instant_ns > worker.clock.now_ns:
                    worker.clock.now_ns = worker.instant_ns
                if worker.drain_due:
                    worker.drain_due = 0
                    if self.drain is not None:
                        self.drain()
                if stop_on_event and worker.posted_tail != posted:
                    target_ns = worker.instant_ns  # finish the instant, so that it is whole
                elif wall_limit_ns and host_clock_ns() >= limit_ns:
                    return False
                PyErr_CheckSignals()
            worker.clock.now_ns = target_ns
            self.midway = False
            return target_ns == until_ns

    def settle(self):
        self._open()
        self._settle()

    def start(self):
        cdef Worker *worker = self._open()
        cdef uint32_t i
        if not self.real_time:
            raise RuntimeError("start() is for real time; in virtual time, run() the engine")
        if self.thread is not None:
            raise RuntimeError("the engine runs already")
        worker.stop_flag = 0
        if worker.clock.epoch_ns < 0:
            worker.clock.epoch_ns = host_clock_ns()
        for i in range(self.tables.pipe_count):
            pipe_find_lateness(worker, &self.tables.pipes[i])
        self._announce()
        thread = threading.Thread(target=self._loop, name="manystack data path", daemon=True)
        self.thread = thread
        thread.start()

    def _loop(self):
        with nogil:
            worker_loop(self.worker)

    def stop(self):
        thread = self.thread
        if self.worker is NULL or thread is None:
            return
        with self.lock:
            atomic_store32(&self.worker.stop_flag, 1)
            signal_fd(self.worker.wake_fd)
            thread.join()
            self.thread = None

    @property
    def event_fd(self):
        return self._open().event_fd

    def take_events(self):
        cdef Worker *worker = self._open()
        cdef Posted *posted
        events = []
        while worker.posted_head != atomic_load32(&worker.posted_tail):
            posted = &worker.posted[worker.posted_head & (worker.posted_capacity - 1)]
            events.append((posted.time_ns, posted.kind, posted.index))
            atomic_store32(&worker.posted_head, worker.posted_head + 1)
        return events

    # Records: what the data path tells in full.

    cdef Ring *_ring(self, ring) except NULL:
        cdef Worker *worker = self._open()
        if ring == RING_OF_EVENTS:
            return &worker.event_ring
        if ring == RING_OF_CAPTURES:
            return &worker.capture_ring
        raise ValueError(f"there is no ring {ring}")

    def take_records(self, ring):
        cdef Ring *source = self._ring(ring)
        cdef uint64_t length = ring_readable(source)
        cdef bytes records = PyBytes_FromStringAndSize(NULL, length)
        cdef uint8_t *target = <uint8_t *><char *>records
        if length:
            with nogil:
                ring_copy(source, source.head, target, length)
            atomic_store64(&source.head, source.head + length)
        return records

    @property
    def recorded_ns(self):
        cdef Worker *worker = self._open()
        if self.real_time:
            return <int64_t>atomic_load64(<uint64_t *>&worker.recorded_ns)
        return worker.instant_ns

    def lost_records(self, ring):
        return self._ring(ring).lost_records

    def ring_fd(self, ring):
        return self._ring(ring).event_fd

    def capture(self, interface, snap_bytes):
        cdef Operation operation
        operation.interface = self._interface(interface)
        must_lie("snap length", snap_bytes, 0, _LONGEST_FRAME, " bytes")
        operation.snap_bytes = snap_bytes
        self._change(do_capture, &operation)
        if not operation.found:
            raise MemoryError("a capture needs 128 MB of address space (not memory): raise the limit (ulimit -v)")

    def tell_arrivals(self):
        cdef Operation operation
        self._open()
        if self.worker.proofs is NULL:
            raise ValueError("arrivals are told by a switch that was made with proof=True")
        self._change(do_tell_arrivals, &operation)
        if not operation.found:
            raise MemoryError("telling arrivals needs 128 MB of address space (not memory): raise the limit (ulimit -v)")

    # Counters.

    def statistics(self):
        cdef Operation operation
        cdef Worker copy
        operation.worker_copy = &copy
        self._open()
        self._call(do_copy_worker, &operation)
        return worker_counters(&copy)

    def pipe_statistics(self, pipe):
        cdef Operation operation
        operation.pipe = self._pipe(pipe)
        self._call(do_copy_pipe, &operation)
        return pipe_counters(&operation)

    def lateness(self, pipe):
        cdef Operation operation
        operation.pipe = self._pipe(pipe)
        self._call(do_copy_lateness, &operation)
        return lateness_counters(&operation.lateness_copy) if operation.found else None

    def device_lateness(self, node):
        cdef Operation operation
        operation.pipe = NULL
        operation.node = self._node(node)
        self._call(do_copy_lateness, &operation)
        return lateness_counters(&operation.lateness_copy) if operation.found else None

    def late_stretches(self, since_ns=0, *, bint under_way=True):
        cdef Operation operation
        self._open()
        must_lie("time", since_ns, INT64_MIN, INT64_MAX, " ns")
        operation.since_ns = since_ns
        operation.found = under_way
        self._call(do_copy_late_stretches, &operation)
        return take_late_stretches(&operation)

    def pipe_proof(self, pipe):
        cdef Operation operation
        operation.pipe = self._pipe(pipe)
        self._call(do_copy_proof, &operation)
        return operation.proof_copy.chain, operation.proof_copy.packets

    def interface_statistics(self, interface):
        cdef Operation operation
        operation.interface = self._interface(interface)
        self._call(do_copy_interface, &operation)
        return interface_counters(&operation.interface_copy)

    def node_drops(self, node):
        cdef Operation operation
        operation.node = self._node(node)
        self._call(do_copy_drops, &operation)
        return take_drops(&operation)

    def memory_bytes(self, node):
        cdef Operation operation
        operation.node = self._node(node)
        self._call(do_count_memory, &operation)
        return operation.memory_bytes


cdef must_lie(what, value, least, most, unit=""):
    if not least <= value <= most:
        raise ValueError(f"{what} {value}: allowed are {least} to {most}{unit}")
