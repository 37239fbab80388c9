# The engine: its tables of nodes, interfaces, pipes and flows, its clock, and the face that Python sees.
#
# This module alone is compiled; the folders beside it hold headers of inline functions, so that the whole
# path of a packet is one compilation. All state hangs off a Switch, and no two of them meet.

import os
import threading

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport INT64_MAX, INT64_MIN, UINT64_MAX, int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from .face.operations cimport (
    Operation, do_add_route, do_announce, do_begin_echo, do_capture, do_copy_drops, do_copy_flow,
    do_copy_interface, do_copy_late_stretches, do_copy_lateness, do_copy_macs, do_copy_neighbors,
    do_copy_pipe, do_copy_proof, do_copy_routes, do_copy_worker, do_count_memory, do_delete_route, do_inject,
    do_list_loopbacks, do_lookup, do_open_echo, do_open_loopback, do_remove_flow, do_set_link_up, do_set_pipe,
    do_start_flow, do_stop_flow, do_take_frames, do_take_replies, do_tell_arrivals,
)
from .face.rows cimport (
    interface_counters, lateness_counters, pipe_counters, route_row, take_drops, take_flow, take_frame_rows,
    take_indices, take_late_stretches, take_macs, take_neighbors, take_reply_rows, take_routes,
    worker_counters,
)
from .face.shaping cimport discipline_numbers, probability_threshold, read_shaping
from .headers.ether cimport mac_load
from .link.pipe cimport pipe_reverse
from .machine.platform cimport (
    atomic_load32, atomic_load64, atomic_store32, atomic_store64, host_clock_ns, must_resize,
)
from .machine.ring cimport ring_copy, ring_readable
from .observe.lateness cimport (
    LATE_NS, LATE_PERCENT, device_lateness, is_device, pipe_find_lateness, waits_new,
)
from .observe.proof cimport pipe_proof
from .packet.pool cimport ROOM_LARGE
from .packet.vnet cimport VNET_HEADER
from .run.loop cimport TAG_TIMER, TAG_WAKE, worker_loop
from .run.tables cimport (
    FLOW_LIMIT, INTERFACE_LIMIT, NODE_LIMIT, PIPE_LIMIT, interface_new, link_new, node_new, tables_close,
    tables_open, worker_new,
)
from .run.waiting cimport new_epoll_fd, new_event_fd, new_timer_fd, signal_fd, watch_fd
from .run.worker cimport next_event_ns, worker_enter, worker_run
from .stack.address cimport interface_reaches, is_one_host
from .stack.echo cimport echo_find
from .stack.flow cimport UDP_STAMP
from .stack.loopback cimport is_loopback
from .stack.route cimport prefix_mask, route_find, route_set
from .state.network cimport (
    Address4, Command, Echo, FLOW_PING, FLOW_UDP, Flow, Interface, KIND_HOST, KIND_HUB, KIND_NIC, KIND_PORT,
    KIND_ROUTER, KIND_SWITCH, KIND_TAP, LOOPBACK_INDEX, LOOPBACK_PORT, Node, OBSERVE_PROOF, PORT_LIMIT, Pipe,
    ROUTE_CONNECTED, ROUTE_GATEWAY, ROUTE_LOCAL, ROUTE_UNREACHABLE, Tables, Worker, sem_t,
)
from .state.reasons cimport capture_reasons, drop_reasons
from .state.records cimport (
    POSTED_DEVICE_GONE, POSTED_FLOW_DONE, POSTED_LINK_CHANGED, POSTED_NEIGHBOR_FAILED, Posted, Ring,
)
from .time.clock cimport clock_now
from .time.events cimport never

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
LONGEST_FRAME = ROOM_LARGE
LOOPBACK = <uint32_t>LOOPBACK_INDEX

cdef enum:
    RING_OF_EVENTS = 0
    RING_OF_CAPTURES = 1
    FIRST_UDP_PORT = 49152
    RUN_SLICE_NS = 50000000        # of real time between two looks at Python's signals
    SETTLE_NS = 1000000000         # of real time that a call may take to bring all nodes to one time

LONGEST_NS = 10**15                # that is added to a time: 11 days
_LAST_NS = 4 * 10**18              # 126 years: with all that may be added it is still a time

ctypedef void (*operation_function)(Worker *worker, void *argument) noexcept nogil


cdef must_lie(what, value, least, most, unit=""):
    if not least <= value <= most:
        raise ValueError(f"{what} {value}: allowed are {least} to {most}{unit}")


include "face/calls.pxi"
include "face/answers.pxi"
include "face/flows.pxi"


cdef class Switch(SwitchFlows):
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

    def loopback(self, node_index):
        cdef Operation operation
        operation.node = self._node(node_index)
        if operation.node.kind != KIND_HOST and operation.node.kind != KIND_ROUTER:
            raise ValueError("only hosts and routers have a loopback interface")
        self._call(do_open_loopback, &operation)
        return operation.interface.index

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
        if interface.port == LOOPBACK_PORT and prefix_length != 32:
            raise ValueError("an address of a loopback interface stands alone: its prefix length is 32")
        if not is_one_host(address):
            raise ValueError("an interface's address is that of one host, not 0/8, 127/8, a group or class E")
        place = route_find(&node.table, address, 32)
        if place >= 0 and node.table.routes[place].kind == ROUTE_LOCAL:
            raise ValueError("the node has this address already")
        interface.addresses = <Address4 *>must_resize(
            interface.addresses, (interface.address_count + 1) * sizeof(Address4)
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
        if node.kind != kind or node.port_count != 1 or node.own.device.fd >= 0:
            raise ValueError(f"a device is attached once, to a {name} node that has its interface")
        if not self.real_time:
            raise ValueError(f"a {name} device needs real time: the host behind it lives in no other")
        if watch_fd(self.worker.epoll_fd, fd, node_index) != 0:
            raise OSError(f"the descriptor of the {name} device cannot be waited for")
        node.own.device.fd = fd
        node.own.device.takes_udp = takes_udp
        waits_new(self.worker, node)
        self.worker.watched_devices += 1

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
        if not 0 <= delay_ns <= LONGEST_NS:
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
            &operation.shaper, self.tables_read, {} if shaping is None else shaping,
            operation.loss_threshold, bandwidth_bps,
        )
        self._change(do_set_pipe, &operation)

    def is_device_gone(self, node):
        cdef Node *context = self._node(node)
        return is_device(context) and bool(context.own.device.gone)

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

    def close(self):
        self.stop()
        with self.lock:
            self._free()
        self.tables_read.clear()

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

    @property
    def lost_events(self):
        return atomic_load64(&self._open().posted_lost)
