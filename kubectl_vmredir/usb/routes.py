"""Which network interfaces the way to an address goes through. Pure, but for sysfs.

Sources: /proc/net/route and /proc/net/ipv6_route as net/ipv4/fib_trie.c and net/ipv6/route.c of
the kernel write them; ``upper_*``, ``lower_*``, ``master`` and ``brport`` below /sys/class/net.
"""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubectl_vmredir.usb.tree import Tree

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_INTERFACES: Final = "sys/class/net"
_UP: Final = 0x1  # RTF_UP
_REJECT: Final = 0x200  # RTF_REJECT: nothing goes there


@dataclass(frozen=True, slots=True)
class NetRoute:
    """A route that packets may take."""

    network: Network
    interface: str
    metric: int

    @property
    def leads_away(self) -> bool:
        """Whether it leads to more than what any interface that is up can reach."""
        return not (self.network.is_link_local or self.network.is_multicast)


def parse_ipv4_routes(text: str) -> list[NetRoute]:
    """Read /proc/net/route: hexadecimal numbers in the byte order of this machine's memory.

    Raises:
        ValueError: If it is something else.
    """
    routes = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            raise ValueError(f"no line of /proc/net/route: {line!r}")
        flags = int(fields[3], 16)
        if flags & _UP and not flags & _REJECT:
            network = ipaddress.IPv4Network((_ipv4(fields[1]), str(_ipv4(fields[7]))))
            routes.append(NetRoute(network, fields[0], int(fields[6])))
    return routes


def _ipv4(text: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))


def parse_ipv6_routes(text: str) -> list[NetRoute]:
    """Read /proc/net/ipv6_route: hexadecimal numbers in network byte order.

    Raises:
        ValueError: If it is something else.
    """
    routes = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10:
            raise ValueError(f"no line of /proc/net/ipv6_route: {line!r}")
        flags = int(fields[8], 16)
        if flags & _UP and not flags & _REJECT:
            network = ipaddress.IPv6Network((bytes.fromhex(fields[0]), int(fields[1], 16)))
            routes.append(NetRoute(network, fields[9], int(fields[5], 16)))
    return routes


def ways_to(address: Address, routes: Sequence[NetRoute]) -> set[str]:
    """Return the interfaces of the routes that packets take: longest prefix, then best metric.

    Several if they are as good as each other, none if nothing leads there.
    """
    if address.is_loopback:  # in a table of its own, which is not among these
        return {"lo"}
    fitting = [
        route
        for route in routes
        if route.network.version == address.version and address in route.network
    ]
    best = min(((-route.network.prefixlen, route.metric) for route in fitting), default=None)
    return {
        route.interface for route in fitting if (-route.network.prefixlen, route.metric) == best
    }


def standing_on(tree: Tree, interfaces: Iterable[str]) -> set[str]:
    """Return these interfaces with all that sysfs shows above them: bridges, bonds, VLANs."""
    found: set[str] = set()
    new = set(interfaces)
    while new:
        found |= new
        new = {upper for name in new for upper in _uppers(tree, name)} - found
    return found


def _uppers(tree: Tree, name: str) -> set[str]:
    folder = f"{_INTERFACES}/{name}"
    links = {tree.link_name(f"{folder}/{at}") for at in ("master", "brport/bridge")}
    uppers = {
        entry.removeprefix("upper_") for entry in tree.names(folder) if entry.startswith("upper_")
    }
    return (uppers | links) - {""}


def leads_on(tree: Tree, interface: str) -> bool:
    """Return whether packets leave it for another interface that sysfs does not tell.

    So it is with the loopback interface (a tunnel of ssh, a proxy of this machine) and with VPNs.
    """
    if "/devices/virtual/" not in str(tree.real(f"{_INTERFACES}/{interface}")):
        return False
    lowers = [
        entry.removeprefix("lower_")
        for entry in tree.names(f"{_INTERFACES}/{interface}")
        if entry.startswith("lower_")
    ]
    return not lowers or any(leads_on(tree, lower) for lower in lowers)
