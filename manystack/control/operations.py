"""The one table of operations on a running network.

An operation is a coroutine on the engine's loop that takes named, validated arguments and returns plain
values. Messages on the control socket name it and so do the `emu` commands; it does its work through the
same handles that Python programs hold.
"""

import asyncio
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import ConfigDict, Field, ValidationError, validate_call

from manystack.control.stream import ClientStream
from manystack.errors import UsageError
from manystack.handles import LinkHandle, NodeHandle
from manystack.network import Event, Network
from manystack.ping import DEFAULT_PING, MOST_REQUESTS
from manystack.record.capture import WHOLE_FRAMES, Captures
from manystack.report.summary import Summary
from manystack.results import mac_text, plain
from manystack.shaping import plain_settings
from manystack.text import clock_text
from manystack.topology.document.errors import short
from manystack.topology.document.quantity import parse_size
from manystack.topology.link.writing import write_pipe
from manystack.topology.model import STACK_KINDS

EVENTS_WAITING = 10_000
"""Events kept for a watcher that does not keep up; what is beyond is counted and left out."""

Name = Annotated[str, Field(max_length=1000)]
Parameters = dict[Name, Name]


class Controlled(Protocol):
    """What operations need of an engine."""

    network: Network
    captures: Captures

    def node(self, name: str) -> NodeHandle:
        """Return a node by its name."""

    def nodes(self) -> list[NodeHandle]:
        """Return every node."""

    def link(self, a: str, b: str) -> LinkHandle:
        """Return the link between two interfaces."""

    def links(self) -> list[LinkHandle]:
        """Return every link."""

    def summary(self) -> Summary:
        """Return what the network has done so far."""

    def stop(self) -> None:
        """End every run in progress."""


class Call(Protocol):
    """Who asked for an operation, and of which engine."""

    engine: Controlled

    credit: asyncio.Semaphore

    def send(self, item: Any) -> Awaitable[None]:
        """Give the caller a part of the answer before its end."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what runs, with which arguments, and whether it changes the network."""

    run: Callable[..., Awaitable[Any]]
    arguments: tuple[str, ...]
    changes: bool


OPERATIONS: dict[str, Operation] = {}


Coroutine = Callable[..., Awaitable[Any]]


def operation(*, changes: bool = False) -> Callable[[Coroutine], Coroutine]:
    """Enter a coroutine function in the table under its name; arguments are checked by their types."""

    def enter(function: Coroutine) -> Coroutine:
        # A plain function in between, so that arguments are checked at the call and not at the await.
        @functools.wraps(function)
        def begin(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return function(*args, **kwargs)

        checked = validate_call(config=ConfigDict(strict=True))(begin)
        _, *arguments = inspect.signature(function).parameters  # the first is the call
        OPERATIONS[function.__name__] = Operation(checked, tuple(arguments), changes)
        return function

    return enter


async def perform(call: Call, name: str, arguments: dict[str, Any]) -> Any:
    """Carry out an operation by its name. Raises ManystackError for whatever is wrong with the request."""
    chosen = OPERATIONS.get(name)
    if chosen is None:
        raise UsageError(f"no operation {short(name)}; there are {', '.join(OPERATIONS)}")
    for argument in arguments:
        if argument not in chosen.arguments:
            known = f"has {', '.join(chosen.arguments)}" if chosen.arguments else "has none"
            raise UsageError(f"{name}: no argument {short(argument)}; it {known}")
    try:
        result = chosen.run(call, **arguments)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        raise UsageError(f"{name}: {problems}") from None
    if chosen.changes:
        words = " ".join(str(value) for value in arguments.values() if isinstance(value, str))
        running = call.engine.network
        running.note_outside_change(f"{name.replace('_', ' ')} {words} at {clock_text(running.now_ns)}")
    return plain(await result)


# What is there.


@operation()
async def network(call: Any) -> Any:
    """The network as a whole."""
    running: Network = call.engine.network
    return {
        "name": running.name,
        "pid": os.getpid(),
        "time": str(running.mode),
        "seed": running.seed,
        "now_ns": running.now_ns,
        "wall_ns": running.wall_ns,
        "nodes": len(running.wiring.nodes),
        "links": len(running.wiring.links),
    }


@operation()
async def show_nodes(call: Any, node: Name | None = None) -> Any:
    """Nodes with their interfaces, addresses and state."""
    return [_node(handle) for handle in _chosen(call.engine, node)]


@operation()
async def show_links(call: Any, node: Name | None = None) -> Any:
    """Links with their parameters and counters; those of one node if it is named."""
    engine: Controlled = call.engine
    own = None if node is None else set(engine.node(node).interfaces)
    return [_link(link) for link in engine.links() if own is None or own.intersection(link.ends)]


@operation()
async def show_routes(call: Any, node: Name | None = None) -> Any:
    """Route tables by node."""
    return {handle.name: handle.routes() for handle in _with_stack(call.engine, node)}


@operation()
async def show_neighbors(call: Any, node: Name | None = None) -> Any:
    """Neighbour tables of hosts and routers, and the MAC tables of switches, by node."""
    tables: dict[str, Any] = {}
    for handle in _chosen(call.engine, node):
        if handle.kind in STACK_KINDS:
            tables[handle.name] = handle.neighbors()
        elif handle.kind == "switch":
            tables[handle.name] = handle.mac_table()
        elif node is not None:
            raise UsageError(f"{node} is a {handle.kind}: it keeps no neighbour table")
    return tables


@operation()
async def show_stats(call: Any, node: Name | None = None) -> Any:
    """Counters of interfaces, and drops by reason, by node."""
    return [handle.statistics() for handle in _chosen(call.engine, node)]


@operation()
async def capture(call: Any, interfaces: list[Name], snap_length: Name | None = None) -> Any:
    """A pcapng stream of what passes interfaces, in parts, until it is cancelled; then how much it was."""
    engine: Controlled = call.engine
    stream = ClientStream(engine.network)
    chosen = engine.captures.expand(interfaces)
    try:
        snap_bytes = WHOLE_FRAMES if snap_length is None else parse_size(snap_length)
    except ValueError as error:
        raise UsageError(f"snap length: {error}") from None
    begun = engine.captures.add("emu capture", chosen, snap_bytes, stream)
    try:
        await stream.serve(call)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    finally:
        begun.close()
        stream.release()
    for part in stream.rest():
        await call.send(part)
    return {"packets": begun.packets, "lost_packets": begun.lost_packets}


@operation()
async def summary(call: Any) -> Any:
    """The summary so far."""
    return call.engine.summary()


@operation()
async def watch(call: Any) -> Any:
    """Events as they happen, each as an item, without end; the first says that it has begun."""
    running: Network = call.engine.network
    waiting: asyncio.Queue[Event] = asyncio.Queue(EVENTS_WAITING)
    missed = 0

    def listen(event: Event) -> None:
        nonlocal missed
        try:
            waiting.put_nowait(event)
        except asyncio.QueueFull:
            missed += 1

    unsubscribe = running.subscribe(listen)
    try:
        await call.send(plain(Event(running.now_ns, "watching", running.name)))
        while True:
            await call.send(plain(await waiting.get()))
            if missed:
                await call.send(plain(Event(running.now_ns, "missed", f"{missed} events")))
                missed = 0
    finally:
        unsubscribe()


# What it does when asked.


@operation(changes=True)
async def ping(
    call: Any,
    node: Name,
    destination: Name,
    count: Annotated[int, Field(ge=0, le=MOST_REQUESTS)] = DEFAULT_PING.count,
    interval: Name = str(DEFAULT_PING.interval),
    timeout: Name = str(DEFAULT_PING.timeout),
    size: Name = str(DEFAULT_PING.size),
    ttl: Annotated[int, Field(ge=1, le=255)] = DEFAULT_PING.ttl,
) -> Any:
    """Echo requests from a node; each answer is an item. Cancelled, it gives the result so far."""
    engine: Controlled = call.engine
    with engine.node(node).start_ping(
        destination, count, interval=interval, timeout=timeout, size=size, ttl=ttl
    ) as probe:
        await call.send({"destination": str(probe.destination), "size_bytes": probe.size_bytes})
        try:
            async for reply in probe.answers():
                await call.send(plain(reply) | {"meaning": reply.meaning})
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        return probe.result()


@operation(changes=True)
async def traceroute(
    call: Any,
    node: Name,
    destination: Name,
    max_hops: Annotated[int, Field(ge=1, le=255)] = 30,
    probes: Annotated[int, Field(ge=1, le=10)] = 3,
    timeout: Name = "5s",
) -> Any:
    """The routers on the way from a node."""
    return await call.engine.node(node).async_traceroute(destination, max_hops, probes, timeout)


@operation(changes=True)
async def link_set(
    call: Any,
    a: Name,
    b: Name,
    both: Parameters,
    forward: Parameters | None = None,
    reverse: Parameters | None = None,
) -> Any:
    """Change a link's parameters from the next packet on."""
    link = call.engine.link(a, b)
    for direction in ("forward", "reverse"):
        if direction in both:
            raise UsageError(f"{direction}: name what to change, for example {direction}.delay=20ms")
    link.set(forward=forward, reverse=reverse, **both)
    return _link(link)


@operation(changes=True)
async def link_up(call: Any, a: Name, b: Name) -> Any:
    """Let a link carry packets again."""
    link = call.engine.link(a, b)
    link.up()
    return _link(link)


@operation(changes=True)
async def link_down(call: Any, a: Name, b: Name) -> Any:
    """Cut a link."""
    link = call.engine.link(a, b)
    link.down()
    return _link(link)


@operation(changes=True)
async def route_add(call: Any, node: Name, prefix: Name, via: Name | None = None) -> Any:
    """Add or replace a route."""
    call.engine.node(node).add_route(prefix, via)


@operation(changes=True)
async def route_delete(call: Any, node: Name, prefix: Name) -> Any:
    """Remove a route."""
    call.engine.node(node).delete_route(prefix)


@operation()
async def stop(call: Any) -> Any:
    """End the run."""
    call.engine.stop()


def _chosen(engine: Controlled, name: str | None) -> list[NodeHandle]:
    return engine.nodes() if name is None else [engine.node(name)]


def _with_stack(engine: Controlled, name: str | None) -> list[NodeHandle]:
    if name is None:
        return [handle for handle in engine.nodes() if handle.kind in STACK_KINDS]
    return [engine.node(name)]


def _node(handle: NodeHandle) -> dict[str, Any]:
    wiring = handle.network.wiring
    model = handle.network.topology.nodes[handle.name]
    interfaces = []
    for name in handle.interfaces:
        mac = wiring.interface_mac(wiring.interfaces[name])
        link = wiring.link_of.get(name)
        state = None if link is None else wiring.links[link]
        short = name.removeprefix(f"{handle.name}.")
        interfaces.append(
            {
                "name": name,
                "addresses": [str(address) for interface, address in model.addressed() if interface == short],
                # Only a stack has a MAC address of its own: a port passes on what others have.
                "mac": None if mac is None or handle.kind not in STACK_KINDS else mac_text(mac),
                "peer": None if state is None else state.ends[state.ends[0] == name],
                "up": state is not None and state.up,
            }
        )
    return {
        "name": handle.name,
        "kind": handle.kind,
        "interfaces": interfaces,
    }


def _link(link: LinkHandle) -> dict[str, Any]:
    return {
        "ends": list(link.ends),
        "up": link.is_up,
        **{
            direction: {**plain_settings(parameters), "settings": write_pipe(parameters), **counters}
            for direction, parameters, counters in zip(
                ("forward", "reverse"), link.parameters, link.statistics(), strict=True
            )
        },
    }
