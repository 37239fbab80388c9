# Real time: the loop of a data path's thread, which keeps to the host's clock. It handles what is due
# (worker.pxd), serves the mailbox, reads the devices, and sleeps until shortly before the next event.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..device.frames cimport device_lost
from ..device.nic cimport nic_read
from ..device.tap cimport tap_read
from ..machine.platform cimport atomic_load32, atomic_store32, atomic_store64, host_clock_ns, is_unlikely
from ..machine.ring cimport ring_wakes
from ..observe.lateness cimport waits_begin, waits_end
from ..state.network cimport Command, KIND_TAP, Node, Worker, sem_t
from ..time.clock cimport clock_now, clock_to_host
from ..time.events cimport never
from .urgency cimport Priority, priority_reckon, priority_review, priority_take
from .waiting cimport drain_fd, give_way, set_timer_fd, signal_fd, unwatch_fd, wait_fds
from .worker cimport next_event_ns, worker_enter, worker_run

cdef extern from "<semaphore.h>" nogil:
    int sem_post(sem_t *semaphore)


cdef enum:
    BUSY_NS = 10000000             # after which a load that never ends lets the control thread have a word
    BEHIND_POOL_BYTES = 1 << 26    # of packets, above which an engine that is behind takes no more in
    # a sleep ends this much early, and the rest is spun: timers are late by tens of µs
    SPIN_NS = 50000
    TAG_WAKE = 0xFFFFFFFFu
    TAG_TIMER = 0xFFFFFFFEu
    READY_FDS = 64


cdef inline void mailbox_serve(Worker *worker) noexcept nogil:
    """Carry out what the control thread has asked for, after all that comes before it."""
    cdef Command *command
    cdef int64_t now_ns
    while worker.mailbox.head != atomic_load32(&worker.mailbox.tail):
        command = worker.mailbox.slots[worker.mailbox.head & 63]
        now_ns = clock_now(&worker.clock)
        if worker_run(worker, now_ns, False, host_clock_ns() + BUSY_NS):
            # else it is done at the instant that was come to, before what is overdue
            worker_enter(worker, now_ns)
        command.run(worker, command.argument)
        atomic_store32(&worker.mailbox.head, worker.mailbox.head + 1)
        sem_post(&command.done)


cdef inline void device_read(Worker *worker, Node *node, int64_t time_ns) noexcept nogil:
    """Take in what a device has, until the next thing falls due."""
    cdef int64_t waited_ns = waits_begin(worker, node)
    cdef uint64_t before = worker.device_read_packets
    cdef int64_t next_ns
    cdef bint emptied
    if node.kind == KIND_TAP:
        next_ns = next_event_ns(worker)
        if next_ns != never():
            next_ns = clock_to_host(&worker.clock, next_ns)
        emptied = tap_read(worker, node, time_ns, next_ns)
    else:
        emptied = nic_read(worker, node, time_ns)
    waits_end(worker, node, waited_ns, <uint32_t>(worker.device_read_packets - before), emptied)
    if node.own.device.gone:
        unwatch_fd(worker.epoll_fd, node.own.device.fd)


cdef inline void worker_loop(Worker *worker) noexcept nogil:
    """Keep to the host's clock until told to stop: handle what is due, read the devices, sleep until the
    next event.
    """
    cdef uint64_t tags[READY_FDS]
    cdef int64_t now_ns, next_ns
    cdef int64_t armed_ns = -1
    cdef int64_t wake_host_ns, looking_host_ns
    cdef uint64_t posted = atomic_load32(&worker.posted_head) + worker.posted_lost
    cdef bint wait, behind
    cdef int ready, i
    cdef Priority priority
    give_way()
    priority_take(&priority)
    priority.owed_ns = 0
    priority.seen_ns = host_clock_ns()
    if worker.looked_host_ns == 0:
        worker.looked_host_ns = host_clock_ns()
    while not atomic_load32(&worker.stop_flag):
        mailbox_serve(worker)
        now_ns = clock_now(&worker.clock)
        behind = not worker_run(worker, now_ns, False, host_clock_ns() + BUSY_NS)
        atomic_store64(<uint64_t *>&worker.recorded_ns, <uint64_t>(worker.instant_ns if behind else now_ns))
        priority_review(&priority, host_clock_ns(), behind)
        if is_unlikely(worker.failed_device is not NULL):
            device_lost(worker, worker.failed_device, worker.instant_ns)
            worker.failed_device = NULL
        # who has just read all is to learn what was lost, too
        if worker.posted_tail + worker.posted_lost != posted:
            posted = worker.posted_tail + worker.posted_lost
            signal_fd(worker.event_fd)
        if is_unlikely(worker.event_ring.capacity and ring_wakes(&worker.event_ring)):
            signal_fd(worker.event_ring.event_fd)
        if is_unlikely(worker.capture_ring.capacity and ring_wakes(&worker.capture_ring)):
            signal_fd(worker.capture_ring.event_fd)
        next_ns = next_event_ns(worker)
        wait = True
        if next_ns != never():
            wake_host_ns = clock_to_host(&worker.clock, next_ns) - SPIN_NS
            wait = wake_host_ns > host_clock_ns()
            if wait and wake_host_ns != armed_ns:
                set_timer_fd(worker.timer_fd, wake_host_ns)
                armed_ns = wake_host_ns
        elif armed_ns != -1:
            set_timer_fd(worker.timer_fd, 0)
            armed_ns = -1
        looking_host_ns = host_clock_ns()
        ready = wait_fds(worker.epoll_fd, tags, READY_FDS, False)
        if not ready and wait:  # a call that waits does not tell what had been there before it
            priority_reckon(&priority, looking_host_ns, True)
            ready = wait_fds(worker.epoll_fd, tags, READY_FDS, True)
            looking_host_ns = worker.looked_host_ns = host_clock_ns()
            priority_reckon(&priority, looking_host_ns, False)
        for i in range(ready):
            if tags[i] == TAG_WAKE:
                drain_fd(worker.wake_fd)
            elif tags[i] == TAG_TIMER:
                drain_fd(worker.timer_fd)
                armed_ns = -1
            else:
                if not behind:
                    now_ns = clock_now(&worker.clock)
                    behind = not worker_run(worker, now_ns, False, host_clock_ns() + BUSY_NS)
                    if not behind:
                        worker_enter(worker, now_ns)
                # What comes in while the engine is behind waits in the device, whose queue has an end, once
                # the pool holds much.
                if not behind or worker.pool.bytes < BEHIND_POOL_BYTES:
                    device_read(worker, &worker.nodes[tags[i]], worker.instant_ns)
        worker.looked_host_ns = looking_host_ns
