# What a Switch stands on: its state, from making to freeing it, the indices that Python names things by, and
# calls of the worker.

cdef class SwitchCalls:
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
        self, *, bint real_time=False, dilation=1, pool_limit_bytes=1 << 30, ring_bytes=1 << 27,
        judged_ns=1000000000,
        bint proof=False,
    ):
        must_lie("dilation (real seconds for one emulated second)", dilation, 1, 1000000)
        must_lie("pool limit", pool_limit_bytes, 0, INT64_MAX, " bytes")
        must_lie("judged time", judged_ns, 1, LONGEST_NS, " ns")
        if not 4096 <= ring_bytes <= 1 << 40 or ring_bytes & ring_bytes - 1:
            raise ValueError(f"ring of {ring_bytes} bytes: allowed are powers of two from 4096")
        self.lock = threading.Lock()
        self.tables_read = {}
        self.real_time = real_time
        self.dilation = dilation
        if not tables_open(&self.tables, proof):
            raise MemoryError(
                "the engine needs about 600 MB of address space (not memory): raise the limit (ulimit -v)"
            )
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
