# Real time: the loop of a data path's thread, which keeps to the host's clock. It handles what is due (worker.pxd), serves the mailbox,
# reads the devices, and sleeps until shortly before the next event.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .clock cimport clock_now, clock_to_host
from .device cimport device_lost
from .lateness cimport waits_begin, waits_end
from .layout cimport KIND_TAP, Command, Node, Worker, sem_t
from .nic cimport nic_read
from .platform cimport atomic_load32, atomic_store32, atomic_store64, host_clock_ns, is_unlikely
from .ring cimport ring_wakes
from .schedule cimport never
from .tap cimport tap_read
from .worker cimport next_event_ns, worker_enter, worker_run

cdef extern from *:
    """
    #ifndef MANYSTACK_WAITING
    #define MANYSTACK_WAITING
    #include <errno.h>
    #include <sched.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/resource.h>
    #include <sys/timerfd.h>
    #include <unistd.h>
    /* Let the calling thread come before all but the kernel's and other real-time threads; whether it may. */
    static inline int come_first(void) {
        struct sched_param lowest = {.sched_priority = 1};
        return sched_setscheduler(0, SCHED_RR, &lowest) == 0;
    }
    /* Let it share with ordinary threads, of which it is the most urgent one as far as it may. */
    static inline void give_way(void) {
        struct sched_param none = {.sched_priority = 0};
        (void)sched_setscheduler(0, SCHED_OTHER, &none);
        for (int nice = -20; nice < 0 && setpriority(PRIO_PROCESS, 0, nice) < 0; nice++);
    }
    static inline void drain_fd(int fd) { uint64_t count; ssize_t got = read(fd, &count, sizeof count); (void)got; }
    static inline void signal_fd(int fd) { uint64_t one = 1; ssize_t put = write(fd, &one, sizeof one); (void)put; }
    static inline int new_event_fd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
    static inline int new_timer_fd(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC); }
    static inline int new_epoll_fd(void) { return epoll_create1(EPOLL_CLOEXEC); }
    static inline int watch_fd(int epoll_fd, int fd, uint64_t tag) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
        return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
    static inline void unwatch_fd(int epoll_fd, int fd) { epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL); }
    static inline void set_timer_fd(int fd, int64_t host_ns) {
        struct itimerspec when = {{0, 0}, {host_ns / 1000000000, host_ns % 1000000000}};
        timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL);
    }
    /* The tags of the readable descriptors; waits for one if told to. */
    static inline int wait_fds(int epoll_fd, uint64_t *tags, int count, int wait) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll_fd, events, count < 64 ? count : 64, wait ? -1 : 0);
        for (int i = 0; i < n; i++) tags[i] = events[i].data.u64;
        return n < 0 ? 0 : n;
    }
    #endif
    """
    bint come_first() noexcept nogil
    void give_way() noexcept nogil
    void drain_fd(int fd) noexcept nogil
    void signal_fd(int fd) noexcept nogil
    int new_event_fd() noexcept nogil
    int new_timer_fd() noexcept nogil
    int new_epoll_fd() noexcept nogil
    int watch_fd(int epoll_fd, int fd, uint64_t tag) noexcept nogil
    void unwatch_fd(int epoll_fd, int fd) noexcept nogil
    void set_timer_fd(int fd, int64_t host_ns) noexcept nogil
    int wait_fds(int epoll_fd, uint64_t *tags, int count, int wait) noexcept nogil

cdef extern from "<semaphore.h>" nogil:
    int sem_post(sem_t *semaphore)

cdef enum:
    BUSY_NS = 10000000             # after which a load that never ends lets the control thread have a word
    BEHIND_POOL_BYTES = 1 << 26    # of packets, above which an engine that is behind takes no more in
    SPIN_NS = 50000                # a sleep ends this much early, and the rest is spun: timers are late by tens of µs
    FIRST_NS = 18000000            # awake at real-time priority, after which others get their share
    OTHERS_SHARE = 15              # of the time at real-time priority: one in so many
    FIRST_AFTER_BEHIND_NS = 60000000  # as an ordinary thread
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
            worker_enter(worker, now_ns)  # else it is done at the instant that was come to, before what is overdue
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
    if node.device_gone:
        unwatch_fd(worker.epoll_fd, node.device_fd)


# What the thread of a data path may take from others. Real-time priority makes what else runs on a CPU delay packets
# by microseconds; as the most urgent of ordinary threads it would wait for milliseconds until others have had their turn.
# The kernel lets real-time threads have 95 % of a second and then stops them for the other 50 ms: all of them before
# Linux 6.12, since then those that ordinary threads starve beside. So they are given their share here, a millisecond at a time:
# while asleep, and else as an ordinary thread, which with the highest urgency is seldom made to wait so soon.
# It has the priority as long as it keeps up.
cdef struct Priority:
    bint permitted
    bint first
    int64_t owed_ns                # to others, times OTHERS_SHARE
    int64_t seen_ns                # host clock: until when that is reckoned


cdef inline void priority_take(Priority *priority) noexcept nogil:
    priority.first = priority.permitted = come_first()


cdef inline void priority_reckon(Priority *priority, int64_t host_ns, bint awake) noexcept nogil:
    """Reckon with the time since it was done last, all of it spent awake or asleep."""
    cdef int64_t elapsed_ns = host_ns - priority.seen_ns
    priority.seen_ns = host_ns
    if awake and priority.first:
        priority.owed_ns += elapsed_ns
    else:
        priority.owed_ns -= elapsed_ns * OTHERS_SHARE
        if priority.owed_ns < 0:
            priority.owed_ns = 0


cdef inline void priority_review(Priority *priority, int64_t host_ns, bint behind) noexcept nogil:
    if not priority.permitted:
        return
    priority_reckon(priority, host_ns, True)
    if priority.first:
        if behind or priority.owed_ns > FIRST_NS:
            give_way()
            priority.first = False
            if behind:
                priority.owed_ns = <int64_t>FIRST_AFTER_BEHIND_NS * OTHERS_SHARE
    elif not behind and priority.owed_ns == 0:
        priority_take(priority)


cdef inline void worker_loop(Worker *worker) noexcept nogil:
    """Keep to the host's clock until told to stop: handle what is due, read the devices, sleep until the next event."""
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
        if worker.posted_tail + worker.posted_lost != posted:  # who has just read all is to learn what was lost, too
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
                # What comes in while the engine is behind waits in the device, whose queue has an end, once the pool holds much.
                if not behind or worker.pool.bytes < BEHIND_POOL_BYTES:
                    device_read(worker, &worker.nodes[tags[i]], worker.instant_ns)
        worker.looked_host_ns = looking_host_ns
