# Real time: the loop of a data path's thread, which keeps to the host's clock. It handles what is due
# (worker.pxd), serves the mailbox, reads the devices, and sleeps until shortly before the next event.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..device.frames cimport device_lost
from ..device.nic cimport NicBatch, nic_enter, nic_read
from ..device.tap cimport TapBatch, tap_enter, tap_read
from ..machine.platform cimport atomic_load32, atomic_store32, atomic_store64, host_clock_ns, is_unlikely
from ..machine.ring cimport ring_wakes
from ..observe.lateness cimport LATE_NS, waits_read, waits_settle
from ..state.network cimport Command, KIND_TAP, Node, Worker, sem_t
from ..time.clock cimport clock_from_host, clock_now, clock_to_host
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
    PUNCTUAL_NS = 200000           # a sleep may end so late; above, the engine is taken to have been held up
    IDLE_NS = 2000000000           # after which devices that bring nothing are idle …
    IDLE_BEATS = 4                 # … and a sleep may be so many times as long
    TAG_WAKE = 0xFFFFFFFFu
    TAG_TIMER = 0xFFFFFFFEu
    READY_FDS = 64


cdef inline bint catch_up(Worker *worker, int64_t now_ns) noexcept nogil:
    """Handle what is due, and make now the instant of what comes from outside; False: that takes longer."""
    if not worker_run(worker, now_ns, False, host_clock_ns() + BUSY_NS):
        return False
    worker_enter(worker, now_ns)
    return True


cdef inline void mailbox_serve(Worker *worker) noexcept nogil:
    """Carry out what the control thread has asked for, after all that comes before it."""
    cdef Command *command
    while worker.mailbox.head != atomic_load32(&worker.mailbox.tail):
        command = worker.mailbox.slots[worker.mailbox.head & 63]
        catch_up(worker, clock_now(&worker.clock))  # if it cannot, this comes before what is overdue
        command.run(worker, command.argument)
        atomic_store32(&worker.mailbox.head, worker.mailbox.head + 1)
        sem_post(&command.done)


cdef inline bint device_read(Worker *worker, Node *node, bint behind) noexcept nogil:
    """Take in what a device has, until the next thing falls due; whether the engine is behind now.

    What is due when the frames have been read comes before them. If that is more than the engine can do, they
    enter at the instant that it has come to, which is before that time.
    """
    cdef TapBatch tap
    cdef NicBatch nic
    cdef uint64_t before = worker.device_read_packets
    cdef bint is_tap = node.kind == KIND_TAP
    cdef bint emptied, lost
    cdef int64_t read_host_ns, read_ns, next_ns
    behind = behind or not catch_up(worker, clock_now(&worker.clock))
    if is_tap:
        next_ns = next_event_ns(worker)
        if next_ns != never():
            next_ns = clock_to_host(&worker.clock, next_ns)
        tap_read(worker, node, &tap, next_ns)
        emptied = tap.emptied
        lost = tap.lost
    else:
        nic_read(worker, node, &nic)
        emptied = nic.emptied
        lost = nic.lost
    read_host_ns = host_clock_ns()
    read_ns = clock_from_host(&worker.clock, read_host_ns)
    behind = behind or not catch_up(worker, read_ns)
    if is_tap:
        tap_enter(worker, node, &tap, worker.instant_ns)
    else:
        nic_enter(worker, node, &nic, worker.instant_ns)
    worker.read_host_ns = read_host_ns
    waits_read(
        worker, node, read_host_ns, read_ns - worker.instant_ns,
        <uint32_t>(worker.device_read_packets - before), emptied,
    )
    if lost:
        device_lost(worker, node, worker.instant_ns)
    if node.own.device.gone:
        unwatch_fd(worker.epoll_fd, node.own.device.fd)
        worker.watched_devices -= 1
    return behind


cdef inline int devices_await(
    Worker *worker, uint64_t *tags, int64_t wake_host_ns, int64_t *looking_host_ns
) noexcept nogil:
    """Sleep until something is readable or falls due, all devices having been empty: what is readable.

    A frame ends the sleep as it comes and has not waited, unless the thread does not get to run: the machine
    or the process is paused, a quota is used up, others are first. All that tells is that the thread is back
    later than its sleep should have ended, so no sleep is longer than a frame may be late, or a few times as
    long where none has come for a while. Back too late, it leaves `looked_host_ns` at the time since when
    frames may have waited.
    """
    cdef int64_t beat_ns = worker.clock.dilation * LATE_NS
    cdef int64_t due_host_ns
    cdef int timeout_ms, ready
    while True:
        timeout_ms = -1
        due_host_ns = wake_host_ns
        if worker.watched_devices:
            timeout_ms = <int>(beat_ns // 1000000)
            if worker.looked_host_ns - worker.read_host_ns > IDLE_NS:
                timeout_ms *= IDLE_BEATS
            due_host_ns = min(due_host_ns, worker.looked_host_ns + <int64_t>timeout_ms * 1000000)
        ready = wait_fds(worker.epoll_fd, tags, READY_FDS, timeout_ms)
        looking_host_ns[0] = host_clock_ns()
        if looking_host_ns[0] - PUNCTUAL_NS > due_host_ns:
            worker.looked_host_ns = max(worker.looked_host_ns, due_host_ns - beat_ns)
            return wait_fds(worker.epoll_fd, tags, READY_FDS, 0)  # there may be more by now
        worker.looked_host_ns = looking_host_ns[0]
        if ready:
            return ready


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
        wake_host_ns = never()
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
        ready = wait_fds(worker.epoll_fd, tags, READY_FDS, 0)
        if not ready and wait:
            worker.looked_host_ns = looking_host_ns
            if is_unlikely(worker.held is not NULL):
                waits_settle(worker, True)
            priority_reckon(&priority, looking_host_ns, True)
            ready = devices_await(worker, tags, wake_host_ns, &looking_host_ns)
            priority_reckon(&priority, looking_host_ns, False)
        for i in range(ready):
            if tags[i] == TAG_WAKE:
                drain_fd(worker.wake_fd)
            elif tags[i] == TAG_TIMER:
                drain_fd(worker.timer_fd)
                armed_ns = -1
            # What comes in while the engine is behind waits in the device, whose queue has an end, once the
            # pool holds much.
            elif not behind or worker.pool.bytes < BEHIND_POOL_BYTES:
                behind = device_read(worker, &worker.nodes[tags[i]], behind)
        if is_unlikely(worker.held is not NULL):
            waits_settle(worker, ready == 0)
        worker.looked_host_ns = looking_host_ns
    waits_settle(worker, True)
