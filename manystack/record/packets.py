"""What a packet is, in a line: addresses, protocol, length, from its first bytes."""

from ipaddress import IPv4Address, IPv6Address

from manystack.results import mac_text

ETHER_HEADER = 14
TYPE_IP4, TYPE_ARP, TYPE_IP6 = 0x0800, 0x0806, 0x86DD
TAGS = frozenset({0x8100, 0x88A8})
PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 89: "OSPF"}
PORTS = frozenset({6, 17})
ECHO = {0: "echo reply", 8: "echo request"}


def packet_text(head: bytes, total_bytes: int) -> str:
    """Return `10.0.0.1 > 10.0.0.2 UDP 5000 > 5001, 1042 bytes` of a frame that begins with `head`."""
    return f"{_what(head)}, {total_bytes} bytes"


def _what(head: bytes) -> str:
    if len(head) < ETHER_HEADER:
        return f"no Ethernet frame: {head.hex()}"
    stations = f"{mac_text(head[6:12])} > {mac_text(head[:6])}"
    place, ether_type = ETHER_HEADER, _number(head, 12)
    while ether_type in TAGS and len(head) >= place + 4:
        ether_type = _number(head, place + 2)
        place += 4
    body = head[place:]
    text = None
    if ether_type == TYPE_ARP:
        text = _arp(body)
    elif ether_type == TYPE_IP4:
        text = _ip4(body)
    elif ether_type == TYPE_IP6 and len(body) >= 40:
        source, destination = IPv6Address(body[8:24]), IPv6Address(body[24:40])
        text = _transport(str(source), str(destination), body[6], body[40:])
    return text or f"{stations} type {ether_type:#06x}"


def _arp(body: bytes) -> str | None:
    if len(body) < 28:
        return None
    sender, target = IPv4Address(body[14:18]), IPv4Address(body[24:28])
    if _number(body, 6) == 1:
        return f"ARP who has {target}? tell {sender}"
    return f"ARP {sender} is at {mac_text(body[8:14])}"


def _ip4(body: bytes) -> str | None:
    if len(body) < 20:
        return None
    source, destination = IPv4Address(body[12:16]), IPv4Address(body[16:20])
    offset = (_number(body, 6) & 0x1FFF) * 8
    if offset:
        return f"{source} > {destination} {_protocol(body[9])} fragment at {offset}"
    return _transport(str(source), str(destination), body[9], body[(body[0] & 15) * 4 :])


def _transport(source: str, destination: str, protocol: int, body: bytes) -> str:
    text = f"{source} > {destination} {_protocol(protocol)}"
    if protocol in PORTS and len(body) >= 4:
        return f"{text} {_number(body, 0)} > {_number(body, 2)}"
    if protocol == 1 and len(body) >= 8:
        if body[0] in ECHO:
            return f"{text} {ECHO[body[0]]} {_number(body, 6)}"
        return f"{text} type {body[0]} code {body[1]}"
    return text


def _protocol(number: int) -> str:
    return PROTOCOLS.get(number, f"protocol {number}")


def _number(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 2])
