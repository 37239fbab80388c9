# What a Switch is asked: what is there, what the data path records, and counters.

cdef class SwitchAnswers(SwitchCalls):
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

    def loopbacks(self):
        cdef Operation operation
        self._open()
        operation.tables = &self.tables
        self._call(do_list_loopbacks, &operation)
        return take_indices(&operation)

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
        must_lie("snap length", snap_bytes, 0, LONGEST_FRAME, " bytes")
        operation.snap_bytes = snap_bytes
        self._change(do_capture, &operation)
        if not operation.found:
            raise MemoryError(
                "a capture needs 128 MB of address space (not memory): raise the limit (ulimit -v)"
            )

    def tell_arrivals(self):
        cdef Operation operation
        self._open()
        if self.worker.proofs is NULL:
            raise ValueError("arrivals are told by a switch that was made with proof=True")
        self._change(do_tell_arrivals, &operation)
        if not operation.found:
            raise MemoryError(
                "telling arrivals needs 128 MB of address space (not memory): raise the limit (ulimit -v)"
            )

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
        operation.pipe = self._any_pipe(pipe)
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
