"""The way of packets, by the tables of the kernel."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import pytest

from kubectl_vmredir.usb.routes import (
    NetRoute,
    leads_on,
    parse_ipv4_routes,
    parse_ipv6_routes,
    standing_on,
    ways_to,
)
from tests.support.machine_tree import CONTROLLER, VIRTUAL, MachineTree

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
little_endian = pytest.mark.skipif(sys.byteorder == "big", reason="tables of a PC")


def route(network: str, interface: str, metric: int = 0) -> NetRoute:
    return NetRoute(ipaddress.ip_network(network), interface, metric)


@little_endian
def test_ipv4_table_is_read() -> None:
    table = (
        f"{HEAD}eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "*\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n"
        "eth1\t0000000A\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0\n"
    )

    assert parse_ipv4_routes(table) == [
        route("0.0.0.0/0", "eth0", 100),
        route("192.0.2.0/24", "eth0"),
    ]


def test_ipv6_table_is_read() -> None:
    none, net, gateway = "0" * 32, f"fd{'0' * 30}", f"fd{'0' * 29}1"
    table = (
        f"{net} 40 {none} 00 {none} 00000100 00000001 00000000 00000001 eth0\n"
        f"{none} 00 {none} 00 {gateway} 00000400 00000002 00000000 00000003 eth0\n"
        f"{none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200 lo\n"
    )

    assert parse_ipv6_routes(table) == [
        route("fd00::/64", "eth0", 256),
        route("::/0", "eth0", 1024),
    ]


@pytest.mark.parametrize("text", [f"{HEAD}eth0\t0000\n", f"{HEAD}eth0 x x x x x x x\n"])
def test_what_is_no_ipv4_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever of those it is
        parse_ipv4_routes(text)


@pytest.mark.parametrize("text", ["fd00 40\n", "x 40 0 0 0 0 0 0 1 eth0\n"])
def test_what_is_no_ipv6_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever of those it is
        parse_ipv6_routes(text)


ROUTES = [
    route("0.0.0.0/0", "eth0", 100),
    route("0.0.0.0/0", "wlan0", 600),
    route("0.0.0.0/1", "tun0"),
    route("10.0.0.0/8", "eth1", 50),
    route("10.0.0.0/8", "eth2", 50),
    route("10.9.0.0/16", "br0", 900),
    route("::/0", "eth6", 1024),
]


@pytest.mark.parametrize(
    ("address", "interfaces"),
    [
        pytest.param("192.0.2.7", {"eth0"}, id="the default route of the best metric"),
        pytest.param("20.0.0.1", {"tun0"}, id="a longer prefix"),
        pytest.param("10.9.1.1", {"br0"}, id="a longer prefix of a worse metric"),
        pytest.param("10.1.1.1", {"eth1", "eth2"}, id="two as good as each other"),
        pytest.param("2001:db8::1", {"eth6"}, id="the other protocol"),
        pytest.param("127.0.0.1", {"lo"}, id="this machine"),
        pytest.param("::1", {"lo"}, id="this machine by the other protocol"),
    ],
)
def test_longest_prefix_wins_then_the_metric(address: str, interfaces: set[str]) -> None:
    assert ways_to(ipaddress.ip_address(address), ROUTES) == interfaces


def test_no_way_leads_to_where_no_route_does() -> None:
    assert ways_to(ipaddress.ip_address("192.0.2.7"), [route("10.0.0.0/8", "eth0")]) == set()


def test_bridges_bonds_and_vlans_stand_on_a_nic(tmp_path: Path) -> None:
    machine = MachineTree(tmp_path)
    machine.net("enx1", f"{CONTROLLER}/usb1/1-4/1-4:1.0")
    for name in ("bond0", "bond0.7", "br0", "br1"):
        machine.net(name, f"{VIRTUAL}")
    machine.put_above("bond0", "enx1")
    machine.put_above("bond0.7", "bond0")
    machine.link("sys/class/net/bond0.7/master", "sys/class/net/br0")

    assert standing_on(machine.tree, ["enx1"]) == {"enx1", "bond0", "bond0.7", "br0"}


def test_bridge_is_found_by_the_port_alone(tmp_path: Path) -> None:
    machine = MachineTree(tmp_path)
    machine.net("enx1", f"{CONTROLLER}/usb1/1-4/1-4:1.0")
    machine.net("br0", VIRTUAL)
    machine.link("sys/class/net/enx1/brport/bridge", "sys/class/net/br0")

    assert standing_on(machine.tree, ["enx1"]) == {"enx1", "br0"}


def test_interface_leads_on_unless_it_ends_at_hardware(tmp_path: Path) -> None:
    machine = MachineTree(tmp_path)
    machine.net("eth0", f"{CONTROLLER}/usb1/1-4/1-4:1.0")
    for name in ("vlan7", "br0", "vnet0", "tun0"):
        machine.net(name, VIRTUAL)
    machine.put_above("vlan7", "eth0")
    machine.put_above("br0", "eth0")
    machine.put_above("br0", "vnet0")

    found = {name: leads_on(machine.tree, name) for name in ("eth0", "vlan7", "br0", "tun0")}

    assert found == {"eth0": False, "vlan7": False, "br0": True, "tun0": True}
