"""What speaks against taking a USB device from this machine, as findings, worst first.

What is not known for certain is taken for the worse. Text of devices, file systems and programs
is untrusted: a message holds it quoted, and a command only if it is plain.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import Danger, Finding
from kubectl_vmredir.usb.blocks import kept_on, parse_mounts, parse_swaps
from kubectl_vmredir.usb.inputs import only_ones
from kubectl_vmredir.usb.routes import (
    leads_on,
    parse_ipv4_routes,
    parse_ipv6_routes,
    standing_on,
    ways_to,
)
from kubectl_vmredir.usb.tree import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kubectl_vmredir.model import Holder, LocalDevice
    from kubectl_vmredir.usb.blocks import Kept, Mount, Stacked, Swap
    from kubectl_vmredir.usb.routes import Address, NetRoute
    from kubectl_vmredir.usb.tree import Tree

_BLOCKS: Final = "sys/class/block"
_HUB: Final = 0x09
_STORAGE: Final = 0x08
_POINTS_SHOWN: Final = 3
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._/][A-Za-z0-9._/-]{0,255}")
_RAW_NODE: Final = re.compile(r"/dev/(hidraw\d|bus/usb/|s[dgr][a-z0-9]).*")
"""Nodes through which a program talks to the device itself: past the drivers, or to a disk past
the file systems."""


def findings(
    tree: Tree,
    device: LocalDevice,
    folder: Path,
    *,
    holders: Iterable[Holder],
    server_hosts: Sequence[str],
    udisks: bool,
) -> tuple[Finding, ...]:
    """Return what speaks against taking a device, worst first.

    Args:
        tree: Where sysfs and /proc are.
        device: The device.
        folder: Its folder in sysfs, without symbolic links.
        holders: Programs that use it, other than ours.
        server_hosts: Names or addresses of the API server, and of the proxy on the way to it;
            empty if it is not known.
        udisks: Whether this machine has udisksctl, with which ordinary users unmount.
    """
    found = [
        *_of_hub(device),
        *_of_storage(tree, device, folder, udisks=udisks),
        *_of_network(tree, folder, server_hosts),
        *_of_holders(holders),
        *_of_inputs(tree, folder),
    ]
    worst_first = list(Danger)
    return tuple(sorted(found, key=lambda finding: worst_first.index(finding.danger)))


def needed_after_all(tree: Tree, folder: Path) -> Finding | None:
    """Return why a device is not to be taken although it was found safe; None if it may be.

    To be asked right before it is taken. Until then a process has to start, and a desktop that
    mounts what was plugged in needs no longer than that.

    Args:
        tree: Where sysfs and /proc are.
        folder: Of the device in sysfs, without symbolic links.
    """
    if not tree.below(_BLOCKS, folder):
        return None
    found = _of_blocks(tree, folder, udisks=False)
    return next((each for each in found if each.danger is Danger.NEVER), None)


def _of_hub(device: LocalDevice) -> list[Finding]:
    if any(usb_class.base == _HUB for usb_class in device.classes):
        return [Finding(Danger.NEVER, "it is a hub, which takes along what is plugged into it")]
    return []


def _of_inputs(tree: Tree, folder: Path) -> list[Finding]:
    return [
        Finding(Danger.ALLOW, f"it is the only {kind} of this machine")
        for kind in only_ones(tree, folder)
    ]


def _of_holders(holders: Iterable[Holder]) -> list[Finding]:
    """Return a finding for each that has not claimed it: a claim is met at our own one."""
    found = []
    for holder in holders:
        if holder.claims:
            continue
        process = "" if holder.pid is None else f" (process {holder.pid})"
        danger = Danger.FORCE if _RAW_NODE.fullmatch(holder.node) else Danger.NOTE
        message = f"{_shown(holder.program)}{process} uses {_shown(holder.node)}"
        found.append(Finding(danger, message, holder.command))
    return found


# -- storage --------------------------------------------------------------------------------


def _of_storage(tree: Tree, device: LocalDevice, folder: Path, *, udisks: bool) -> list[Finding]:
    says_storage = any(usb_class.base == _STORAGE for usb_class in device.classes)
    if not says_storage and not tree.below(_BLOCKS, folder):
        return []
    return _of_blocks(tree, folder, udisks=udisks)


def _of_blocks(tree: Tree, folder: Path, *, udisks: bool) -> list[Finding]:
    try:
        kept = kept_on(tree, folder, _all_mounts(tree), _all_swaps(tree))
    except (OSError, ValueError) as exc:
        message = f"it cannot be told what is mounted of it: {_shown(str(exc))}"
        return [Finding(Danger.NEVER, message)]
    return of_kept(kept, udisks=udisks)


def _all_mounts(tree: Tree) -> list[Mount]:
    """Return what is mounted for us, and for the first process, which may be another view."""
    mounts = parse_mounts(tree.text("proc/self/mountinfo"))
    try:
        others = parse_mounts(tree.text("proc/1/mountinfo"))
    except OSError:  # hidden from us
        others = []
    return list(dict.fromkeys([*mounts, *others]))


def _all_swaps(tree: Tree) -> list[Swap]:
    try:
        return parse_swaps(tree.text("proc/swaps"))
    except FileNotFoundError:  # a kernel without swap
        return []


def of_kept(kept: Kept, *, udisks: bool) -> list[Finding]:
    """Return what speaks against taking a device with this on it.

    The commands are in the order in which they work: unmount before what it stands on.
    """
    found = []
    if kept.root:
        found.append(Finding(Danger.NEVER, "the root file system is on it"))
    elif kept.maybe_root:
        message = "the root file system may be on it: not all of its layers can be seen"
        found.append(Finding(Danger.NEVER, message))
    for swap in kept.swaps:
        hint = f"sudo swapoff {swap.path}" if _PLAIN_PATH.fullmatch(swap.path) else ""
        found.append(Finding(Danger.NEVER, f"{_shown(swap.path)} on it is active swap", hint))
    mounted: dict[str, list[Mount]] = {}
    for block, mount in kept.mounts:
        mounted.setdefault(block, []).append(mount)
    for block, mounts in mounted.items():
        found.append(_of_mounts(block, mounts, udisks=udisks))
    for block in kept.hidden:
        message = f"{_shown(block)} is mounted where this program cannot see it"
        found.append(Finding(Danger.NEVER, message))
    for stacked in kept.stacked:
        message = f"{_shown(stacked.block)} is part of {stacked.kind} ({_shown(stacked.holder)})"
        found.append(Finding(Danger.NEVER, message, _unstack(stacked, udisks=udisks)))
    return found


def _of_mounts(block: str, mounts: Sequence[Mount], *, udisks: bool) -> Finding:
    points = sorted({mount.point for mount in mounts})
    more = len(points) - _POINTS_SHOWN
    shown = ", ".join(map(_shown, points[:_POINTS_SHOWN])) + (f" and {more} more" * (more > 0))
    hint = ""
    if PLAIN.fullmatch(block) and "/" not in points:
        unmount = "udisksctl unmount -b" if udisks else "sudo umount --all-targets"
        hint = f"{unmount} /dev/{block}"
    if all(mount.read_only for mount in mounts):
        return Finding(Danger.FORCE, f"{_shown(block)} is mounted read-only on {shown}", hint)
    return Finding(Danger.NEVER, f"{_shown(block)} is mounted for writing on {shown}", hint)


def _unstack(stacked: Stacked, *, udisks: bool) -> str:
    """Return the command that takes a block device apart; empty if there is no safe one."""
    block, holder, mapper = (
        text if PLAIN.fullmatch(text) else ""
        for text in (stacked.block, stacked.holder, stacked.mapper)
    )
    match stacked.kind:
        case "LUKS" if udisks and block:
            return f"udisksctl lock -b /dev/{block}"
        case "LUKS" if mapper:
            return f"sudo cryptsetup close {mapper}"
        case "LVM" if mapper:
            return f"sudo lvchange --activate n /dev/mapper/{mapper}"
        case "RAID" if holder:
            return f"sudo mdadm --stop /dev/{holder}"
        case _:
            return ""


# -- network --------------------------------------------------------------------------------


def _of_network(tree: Tree, folder: Path, server_hosts: Sequence[str]) -> list[Finding]:
    own = tree.below("sys/class/net", folder)
    if not own:
        return []
    names = ", ".join(map(_shown, own))
    above = standing_on(tree, own)
    try:
        routes = _all_routes(tree)
    except (OSError, ValueError) as exc:
        doubt = f"the routes of this machine cannot be read: {_shown(str(exc))}"
    else:
        addresses = _addresses(server_hosts)
        ways = {way for address in addresses for way in ways_to(address, routes)}
        if ways & above:
            return [Finding(Danger.FORCE, f"the API server is reached through it ({names})")]
        if not any(route.leads_away and route.interface in above for route in routes):
            return []
        doubt = _doubt(tree, server_hosts, addresses, ways)
    if not doubt:
        return []
    message = f"the API server may be reached through it ({names}): {doubt}"
    return [Finding(Danger.FORCE, message)]


def _doubt(tree: Tree, server_hosts: Sequence[str], addresses: set[Address], ways: set[str]) -> str:
    """Return why it is not certain how the API server is reached; empty if it is."""
    if not server_hosts:
        return "it is not known which one"
    if not addresses:
        return f"the address of {_shown(server_hosts[0])} is not known"
    if not ways:
        return f"no route to {_shown(server_hosts[0])} is known"
    for way in sorted(ways):
        if leads_on(tree, way):
            return f"the way leads through {_shown(way)}, which does not tell where it goes on"
    return ""


def _all_routes(tree: Tree) -> list[NetRoute]:
    routes = []
    for path, parse in (
        ("proc/net/route", parse_ipv4_routes),
        ("proc/net/ipv6_route", parse_ipv6_routes),
    ):
        try:
            routes += parse(tree.text(path))
        except FileNotFoundError:  # a kernel without that protocol
            continue
    return routes


def _addresses(hosts: Iterable[str]) -> set[Address]:
    """Return all addresses of these hosts; none if one of them has none that we can learn."""
    found: set[Address] = set()
    for host in hosts:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return set()
        found.update(ipaddress.ip_address(entry[4][0]) for entry in entries)
    return found


def _shown(text: str) -> str:
    """Return untrusted text as it is if it is plain, else quoted, with escapes."""
    return text if _PLAIN_PATH.fullmatch(text) else repr(text)
