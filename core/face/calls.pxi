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
    cdef readonly uint64_t unsettled_calls

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
        cdef Node *node
        self._open()
        if 0 <= index - <uint32_t>LOOPBACK_INDEX < self.tables.node_count:
            node = self._node(index - <uint32_t>LOOPBACK_INDEX)
            if node.stack is NULL or node.stack.loopback.node is NULL:
                raise ValueError("the node has no loopback interface yet: loopback() makes it")
            return &node.stack.loopback
        if not 0 <= index < self.tables.interface_count:
            raise ValueError(f"there is no interface {index}: this engine has {self.tables.interface_count}")
        return &self.tables.interfaces[<uint32_t>index]

    cdef Pipe *_pipe(self, index) except NULL:
        self._open()
        if not 0 <= index < self.tables.pipe_count:
            raise ValueError(f"there is no pipe {index}: this engine has {self.tables.pipe_count}")
        return &self.tables.pipes[<uint32_t>index]

    cdef Pipe *_any_pipe(self, index) except NULL:
        """As _pipe(), and by its interface's index also that of a loopback interface."""
        if 0 <= index - <uint32_t>LOOPBACK_INDEX < self.tables.node_count:
            return self._interface(index).output
        return self._pipe(index)

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

    cdef int _change(self, operation_function function, Operation *operation) except -1:
        """As _call(), for what has to find all nodes at one time."""
        if self.thread is None:
            self._settle()
        self._call(function, operation)
        return 0

    cdef int _settle(self) except -1:
        """Bring all nodes to one time, where a run was left midway: some may be ahead of others.

        What is to be done at one instant may take longer than anybody wants to wait: frames that go round
        in a loop of hubs, for example. After a second of real time it is left where it stands, and counted.
        """
        cdef Worker *worker = self.worker
        cdef int64_t target_ns
        cdef int64_t limit_host_ns = host_clock_ns() + SETTLE_NS
        cdef bint finished = False
        if not self.midway:
            return 0
        target_ns = max(worker.ahead_ns, worker.clock.now_ns)
        while not finished:
            with self.lock, nogil:
                finished = worker_run(worker, target_ns, False, host_clock_ns() + RUN_SLICE_NS)
                worker.drain_due = 0  # until the next record: a ring grows meanwhile
            PyErr_CheckSignals()
            if not finished and host_clock_ns() > limit_host_ns:
                worker.clock.now_ns = max(worker.clock.now_ns, worker.instant_ns)
                self.unsettled_calls += 1
                return 0
        worker.clock.now_ns = target_ns
        self.midway = False
        return 0
