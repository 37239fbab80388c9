# What the real-time loop asks of the kernel: waiting for descriptors and timers, waking, and priority among
# threads. No other room waits.

from libc.stdint cimport int64_t, uint64_t

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
    static inline void drain_fd(int fd) {
        uint64_t count;
        ssize_t got = read(fd, &count, sizeof count);
        (void)got;
    }
    static inline void signal_fd(int fd) {
        uint64_t one = 1;
        ssize_t put = write(fd, &one, sizeof one);
        (void)put;
    }
    static inline int new_event_fd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
    static inline int new_timer_fd(void) {
        return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    }
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
    /* The tags of the readable descriptors; waits for one as long as it may, -1: for ever. */
    static inline int wait_fds(int epoll_fd, uint64_t *tags, int count, int timeout_ms) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll_fd, events, count < 64 ? count : 64, timeout_ms);
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
    int wait_fds(int epoll_fd, uint64_t *tags, int count, int timeout_ms) noexcept nogil
