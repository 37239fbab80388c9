"""A topology's parts as a document has them: the way back from `schema`."""

from collections.abc import Mapping
from pathlib import Path

from manystack.topology.document.part import Document
from manystack.topology.document.quantity import format_bandwidth, format_duration, format_size
from manystack.topology.link.writing import write_pipe
from manystack.topology.model import (
    BRIDGE_KINDS,
    DEVICE_KINDS,
    EVERYWHERE,
    LONGEST_FRAME,
    Capture,
    End,
    Interface,
    Link,
    Node,
    Route,
    Traffic,
    format_mac,
)

_TRAFFIC_DEFAULTS: dict[str, Document] = {
    "ping": {"interval": "1s", "size": "56B", "ttl": 64, "start": "0ns"},
    "udp": {"size": "1000B", "start": "0ns"},
}


def chosen(document: Document, default: Document, defaults: bool) -> Document:
    """Return a document without what is None, and, unless `defaults` are wanted, without what is default."""
    return {
        key: value
        for key, value in document.items()
        if value is not None and (defaults or key not in default or default[key] != value)
    }


def write_node(node: Node, defaults: bool) -> Document:
    """Return a node's document; a switch's and a hub's ports stand with the links."""
    document: Document = {"kind": node.kind}
    if node.kind in BRIDGE_KINDS:
        return document
    if node.kind == "nic":
        return chosen(document | {"device": node.device, "namespace": node.namespace}, {}, defaults)
    routes = [_write_route(route) for route in node.routes]
    if node.kind == "tap":
        document |= {
            "device": node.device,
            "namespace": node.namespace,
            "addresses": [str(address) for address in node.addresses],
            "routes": routes,
            "mtu": node.mtu,
        }
    else:
        interfaces = {
            name: _write_interface(interface, defaults) for name, interface in node.interfaces.items()
        }
        document |= {"interfaces": interfaces, "routes": routes}
    return chosen(document, {"addresses": [], "interfaces": {}, "routes": [], "mtu": 1500}, defaults)


def _write_interface(interface: Interface, defaults: bool) -> Document:
    document = {
        "addresses": [str(address) for address in interface.addresses],
        "mtu": interface.mtu,
        "mac": format_mac(interface.mac) if interface.mac else None,
    }
    return chosen(document, {"addresses": [], "mtu": 1500}, defaults)


def _write_route(route: Route) -> Document:
    to = "default" if route.to == EVERYWHERE else str(route.to)
    return {"to": to} if route.via is None else {"to": to, "via": str(route.via)}


def write_link(link: Link, nodes: Mapping[str, Node], defaults: bool, folder: Path | None) -> Document:
    """Return a link's document; what both directions have in common stands once."""
    document: Document = {"ends": [_write_end(end, nodes) for end in link.ends]}
    forward, reverse = (write_pipe(pipe, defaults, folder) for pipe in (link.forward, link.reverse))
    if forward == reverse:
        return document | forward
    return document | chosen(
        {"forward": forward, "reverse": reverse}, {"forward": {}, "reverse": {}}, defaults
    )


def _write_end(end: End, nodes: Mapping[str, Node]) -> str:
    return end.node if nodes[end.node].kind in DEVICE_KINDS else str(end)


def write_traffic(traffic: Traffic, defaults: bool) -> Document:
    """Return the document of one entry of `traffic`."""
    document: Document = {"kind": traffic.kind, "from": traffic.from_, "to": traffic.to}
    if traffic.kind == "ping":
        document |= {
            "interval": format_duration(traffic.interval_ns),
            "count": traffic.count,
            "ttl": traffic.ttl,
        }
    else:
        document |= {"rate": format_bandwidth(traffic.rate_bps)}
    document |= {
        "size": format_size(traffic.size_bytes),
        "start": format_duration(traffic.start_ns),
        "stop": None if traffic.stop_ns is None else format_duration(traffic.stop_ns),
    }
    return chosen(document, _TRAFFIC_DEFAULTS[traffic.kind], defaults)


def write_capture(capture: Capture, defaults: bool) -> Document:
    """Return the document of one entry of `capture`."""
    document: Document = {
        "file": capture.file,
        "interfaces": list(capture.interfaces),
        "snap_length": format_size(capture.snap_bytes),
    }
    return chosen(document, {"interfaces": [], "snap_length": format_size(LONGEST_FRAME)}, defaults)
