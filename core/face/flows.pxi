# What the nodes of a Switch send: traffic of their own, and frames by hand at PORT nodes.

cdef class SwitchFlows(SwitchAnswers):
    # Flows.

    cdef Flow *_new_flow(
        self, Operation *operation, node_index, destination, start_ns, stop_ns
    ) except NULL:
        """Reserve a place for a flow, and give what it will be, to be filled in.

        The worker copies it to its place.
        """
        cdef Node *node = self._node(node_index)
        cdef Flow *flow = &operation.flow_copy
        cdef uint32_t index, k
        if node.kind != KIND_HOST and node.kind != KIND_ROUTER:
            raise ValueError("only hosts and routers send traffic of their own")
        must_lie("destination", destination, 0, 0xFFFFFFFF)
        must_lie("start", start_ns, INT64_MIN, INT64_MAX, " ns")
        must_lie("stop", stop_ns, INT64_MIN, INT64_MAX, " ns")
        if not is_one_host(destination) and not is_loopback(destination):
            raise ValueError("traffic goes to the address of one host")
        # A place is used again as late as can be, so that nothing that is still under way is taken for
        # the new flow's.
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
        self, node, destination, *, interval_ns, count, size_bytes=56, start_ns=0, stop_ns=INT64_MAX,
        timeout_ns=5000000000,
        ttl=64, probes_per_ttl=0, bint keep_replies=False,
    ):
        cdef Operation operation
        cdef Flow *flow
        must_lie("interval", interval_ns, 1, LONGEST_NS, " ns")
        must_lie("timeout", timeout_ns, 1, LONGEST_NS, " ns")
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
        if not UDP_STAMP <= size_bytes <= 65507:
            raise ValueError(
                f"size {size_bytes} bytes: allowed are {UDP_STAMP} to 65507 (a stamp takes the first)"
            )
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

    # Echo endpoints.

    cdef Echo *_echo(self, Node *node, port) except NULL:
        cdef Echo *echo
        must_lie("port", port, 1, 65535)
        echo = echo_find(node, port)
        if echo is NULL:
            raise ValueError(f"there is no echo endpoint at port {port}")
        return echo

    def open_echo(self, node, port, *, limit_packets=None):
        cdef Operation operation
        operation.node = self._node(node)
        if operation.node.kind != KIND_HOST and operation.node.kind != KIND_ROUTER:
            raise ValueError("only hosts and routers have ports")
        must_lie("port", port, 1, 65535)
        must_lie("limit", limit_packets or 0, 0, UINT64_MAX, " packets")
        operation.port = port
        operation.queue_limit_packets = UINT64_MAX if limit_packets is None else limit_packets
        self._change(do_open_echo, &operation)
        if not operation.found:
            raise ValueError(f"there is an echo endpoint at port {port} already")

    def begin_echo(self, node, port, destination, destination_port, *, size_bytes=18):
        cdef Operation operation
        operation.node = self._node(node)
        operation.echo = self._echo(operation.node, port)
        must_lie("destination", destination, 0, 0xFFFFFFFF)
        must_lie("port", destination_port, 1, 65535)
        must_lie("size", size_bytes, 0, 65507, " bytes")
        operation.destination = destination
        operation.port = destination_port
        operation.frame_length = size_bytes
        self._change(do_begin_echo, &operation)
        if not operation.found:
            raise ValueError("the datagram cannot be sent: no route, or no memory")

    def echo_counts(self, node, port):
        cdef Echo *echo = self._echo(self._node(node), port)
        return echo.received_packets, echo.answered_packets

    # Frames by hand.

    cdef Node *_port(self, index) except NULL:
        cdef Node *node = self._node(index)
        if node.kind != KIND_PORT or node.port_count != 1:
            raise ValueError(
                "frames are put in and taken out by hand at PORT nodes that have their interface"
            )
        return node

    def inject(self, node, const uint8_t[::1] frame not None, count=1, bytes vnet_header=None):
        cdef Operation operation
        operation.node = self._port(node)
        operation.vnet_header = NULL
        if vnet_header is not None:
            if len(vnet_header) != VNET_HEADER:
                raise ValueError(f"a virtio header has {VNET_HEADER} bytes")
            operation.vnet_header = <const uint8_t *><const char *>vnet_header
        if not 1 <= frame.shape[0] <= ROOM_LARGE:
            raise ValueError(f"a frame has 1 to {ROOM_LARGE} bytes")
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
        self._port(node).own.port.discards_frames = discard
