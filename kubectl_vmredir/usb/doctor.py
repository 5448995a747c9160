"""What this machine lacks, or gets in the way, where USB devices are to be redirected.

Each check stands alone, so that what is missing hides nothing else. Everything blocks.
"""

from __future__ import annotations

import contextlib
import grp
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import DeviceNotFound, UsbUnavailable
from kubectl_vmredir.model import Check, DeviceSelector, Outcome
from kubectl_vmredir.usb.discovery import ROOT, list_devices
from kubectl_vmredir.usb.holders import find_holders
from kubectl_vmredir.usb.journal import Journal
from kubectl_vmredir.usb.library import LIBUSB, LIBUSBREDIRHOST
from kubectl_vmredir.usb.tree import PLAIN, Tree
from kubectl_vmredir.usb.udev_rule import RULE_PREFIX, RULES_FOLDER
from kubectl_vmredir.usb.use import may_open

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from kubectl_vmredir.model import LocalDevice


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library that we load.

    Attributes:
        name: As its makers call it.
        soname: What is loaded.
        packages: What installs it, by the distribution or what that is like (os-release(5)).
    """

    name: str
    soname: str
    packages: Mapping[str, str]


LIBRARIES: Final = (
    Library(
        "libusb",
        LIBUSB,
        {"debian": "sudo apt install libusb-1.0-0", "fedora": "sudo dnf install libusb1"},
    ),
    Library(
        "libusbredirhost",
        LIBUSBREDIRHOST,
        {"debian": "sudo apt install libusbredirhost1", "fedora": "sudo dnf install usbredir"},
    ),
    Library(
        "libudev",
        "libudev.so.1",
        {"debian": "sudo apt install libudev1", "fedora": "sudo dnf install systemd-libs"},
    ),
)

_RULE: Final = "kubectl vmredir doctor --udev-rule"
_CLAIMS_ARE_GIVEN_BACK_BY: Final = "kubectl vmredir devices"
_SEAT_RULES: Final = "udev/rules.d/73-seat-late.rules"
"""What carries out the tag ``uaccess``; comes with systemd and elogind."""


def examine(*, claims: Path, root: Path = ROOT) -> list[Check]:
    """Look at all of this machine that has to do with USB.

    Args:
        claims: Folder of the journal of claims.
        root: Where ``sys``, ``proc`` and ``dev`` are.
    """
    tree = Tree(root)
    boot_id = tree.attribute("proc/sys/kernel/random/boot_id")
    journal = Journal(claims, boot_id=boot_id)
    checks = [
        check_user(os.geteuid()),
        *(check_library(tree, library) for library in LIBRARIES),
        *check_confinement(tree, os.environ),
        check_bus(tree),
        check_udev(tree),
    ]
    try:
        devices = list_devices()
    except UsbUnavailable as error:
        failed = Check("devices", Outcome.FAILED, f"they cannot be listed: {error}")
        return [*checks, failed, *check_claims(journal)]
    shut = [device for device in devices if not may_open(device, root=root)]
    checks += check_access(devices, shut)
    checks += check_groups({group_of(tree, device) for device in shut}, _own_groups())
    checks += check_rules(tree, os.geteuid(), needed=bool(shut))
    for device in devices:
        with contextlib.suppress(DeviceNotFound):  # unplugged since
            checks += check_holders(device, journal, root=root)
    return [*checks, *check_claims(journal)]


def check_user(uid: int) -> Check:
    """Look who runs this."""
    if uid == 0:
        message = "this runs as root, which works, but gives a VM more of a hold than it needs"
        return Check("user", Outcome.WARNING, message, f"{_RULE} DEVICE")
    return Check("user", Outcome.OK, "this runs as an ordinary user")


def check_library(tree: Tree, library: Library) -> Check:
    """Look whether a library can be loaded, and which one it is."""
    import cffi

    ffi = cffi.FFI()
    try:
        loaded = ffi.dlopen(library.soname)
    except OSError:
        alike = _settings(tree.attribute("etc/os-release"))
        names = [alike.get("ID", ""), *alike.get("ID_LIKE", "").split()]
        command = next(filter(None, map(library.packages.get, names)), "")
        message = f"{library.soname} cannot be loaded"
        return Check(library.name, Outcome.FAILED, message, command)
    if library.soname == LIBUSB:
        ffi.cdef(_LIBUSB_VERSION)
        version = loaded.libusb_get_version()
        release = ".".join(map(str, (version.major, version.minor, version.micro)))
    else:
        # The others do not tell. Their files are named by the version of their interface.
        release = Path(_file_of(library.soname)).name.partition(".so.")[2]
    message = f"version {release}, loaded from {_file_of(library.soname)}"
    return Check(library.name, Outcome.OK, message)


_LIBUSB_VERSION: Final = """
struct libusb_version {
    uint16_t major, minor, micro, nano;
    const char *rc, *describe;
};
const struct libusb_version *libusb_get_version(void);
"""


def _file_of(soname: str) -> str:
    """Return the file that was loaded for a library, by what is mapped into this process."""
    mapped = (line.split(maxsplit=5)[-1] for line in Tree().text("proc/self/maps").splitlines())
    return next((file for file in mapped if Path(file).name.startswith(soname)), soname)


def _settings(text: str) -> dict[str, str]:
    """Read lines of ``NAME=VALUE`` as systemd writes them."""
    pairs = [line.partition("=") for line in text.splitlines()]
    return {name: value.strip("\"'") for name, _, value in pairs if value}


def check_confinement(tree: Tree, environ: Mapping[str, str]) -> list[Check]:
    """Look whether this runs in a sandbox or a container, which hides devices and programs."""
    if tree.exists(".flatpak-info"):
        name = environ.get("FLATPAK_ID", "")
        command = f"flatpak override --user --device=all {name}" if PLAIN.fullmatch(name) else ""
        return [_confined("a Flatpak, which needs all devices", command)]
    if name := environ.get("SNAP_INSTANCE_NAME", ""):
        command = f"sudo snap connect {name}:raw-usb" if PLAIN.fullmatch(name) else ""
        return [_confined("a Snap, which needs the interface raw-usb", command)]
    marks = (".dockerenv", "run/.containerenv", "run/systemd/container")
    if any(tree.exists(mark) for mark in marks) or "container" in environ:
        where = "a container: it sees a device that is plugged in only with /dev/bus/usb and "
        where += "/run/udev of the machine and its network, and its programs only with their pids"
        options = "--privileged --network=host --pid=host -v /dev:/dev -v /run/udev:/run/udev:ro"
        return [_confined(where, f"podman run {options} IMAGE")]
    return []


def _confined(where: str, command: str) -> Check:
    return Check("confinement", Outcome.WARNING, f"this runs in {where}", command)


def check_bus(tree: Tree) -> Check:
    """Look whether the machine has a USB bus, and nodes for its devices."""
    if not tree.names("sys/bus/usb/devices"):
        message = "this machine has no USB bus, or the kernel has no driver for it"
        return Check("bus", Outcome.FAILED, message, "sudo modprobe usbcore")
    if not tree.names("dev/bus/usb"):
        return Check("bus", Outcome.FAILED, "there are no nodes in /dev/bus/usb")
    roots = [name for name in tree.names("sys/bus/usb/devices") if name.startswith("usb")]
    return Check("bus", Outcome.OK, f"{len(roots)} USB buses")


def check_udev(tree: Tree) -> Check:
    """Look whether udev runs, which lets users open what is plugged in."""
    if tree.exists("run/udev/control"):
        return Check("udev", Outcome.OK, "udev runs")
    message = "udev does not run here: nobody lets users open what is plugged in"
    return Check("udev", Outcome.WARNING, message, "sudo systemctl start systemd-udevd")


def check_access(devices: Sequence[LocalDevice], shut: Collection[LocalDevice]) -> list[Check]:
    """Say which devices this user may open.

    Args:
        devices: All that are plugged in.
        shut: Those that may not be opened.
    """
    if not devices:
        return [Check("devices", Outcome.OK, "no USB device is plugged in")]
    checks = []
    if len(shut) == len(devices):
        message = "this user may open none of the devices"
        checks.append(Check("devices", Outcome.FAILED, message, f"{_RULE} DEVICE"))
    else:
        message = f"this user may open {len(devices) - len(shut)} of {len(devices)} devices"
        checks.append(Check("devices", Outcome.OK, message))
    for device in devices:
        if device in shut:
            message = f"{_called(device)}: this user may not open {device.node}"
            command = f"{_RULE} {DeviceSelector.of(device)}"
            checks.append(Check("access", Outcome.WARNING, message, command))
        else:
            message = f"{_called(device)}: this user may open {device.node}"
            checks.append(Check("access", Outcome.OK, message))
    return checks


def _called(device: LocalDevice) -> str:
    return f"{device.kind} {DeviceSelector.of(device)}"


def _own_groups() -> set[str]:
    names = set()
    for gid in {os.getegid(), *os.getgroups()}:
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:  # a group without a name, as in containers
            continue
    return names


def check_groups(wanted: Collection[str], own: Collection[str]) -> list[Check]:
    """Look whether another group would let this user open what they may not.

    Args:
        wanted: Groups that may open it; empty for no group.
        own: Groups of this process.
    """
    checks = [Check("groups", Outcome.OK, f"this user is in {', '.join(sorted(own))}")]
    for name in sorted({*wanted} - {*own, ""}):
        message = f"members of group {name} may open devices that this user may not"
        command = f'sudo usermod --append --groups {shlex.quote(name)} "$USER"  # and log in again'
        checks.append(Check("groups", Outcome.WARNING, message, command))
    return checks


def group_of(tree: Tree, device: LocalDevice) -> str:
    """Return the group that may open a device; empty if that is root's, or none."""
    try:
        status = (tree.root / (device.node or "").removeprefix("/")).stat()
        name = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    may = status.st_mode & (stat.S_IRGRP | stat.S_IWGRP) == stat.S_IRGRP | stat.S_IWGRP
    return name if may and status.st_gid else ""


def check_rules(tree: Tree, uid: int, *, needed: bool) -> list[Check]:
    """Look at the rules of udev that let users open devices, and whether they apply to this one.

    Args:
        tree: Where the rules and the sessions are.
        uid: Of the user.
        needed: Whether there are devices that the user may not open.
    """
    ours = [name for name in tree.names(RULES_FOLDER) if name.startswith(RULE_PREFIX)]
    told = f"rules of ours: {', '.join(ours)}" if ours else "there are no rules of ours"
    checks = [Check("rules", Outcome.OK, told)]
    if not needed or uid == 0:
        return checks
    if not any(tree.exists(f"{folder}/{_SEAT_RULES}") for folder in ("usr/lib", "lib", "etc")):
        message = "nothing here carries out rules with uaccess: use one with a group"
        checks.append(Check("seat", Outcome.WARNING, message, f"{_RULE} DEVICE"))
    elif not _sits_here(tree, uid):
        message = "rules with uaccess do not apply: this user does not sit at this machine, but "
        message += "logged in otherwise, as by ssh: use a rule with a group"
        checks.append(Check("seat", Outcome.WARNING, message, f"{_RULE} DEVICE"))
    else:
        checks.append(Check("seat", Outcome.OK, "rules with uaccess apply to this user"))
    return checks


def _sits_here(tree: Tree, uid: int) -> bool:
    """Return whether a user has an active session at a seat, for logind's files of sessions."""
    folder = "run/systemd/sessions"
    sessions = [_settings(tree.attribute(f"{folder}/{name}")) for name in tree.names(folder)]
    return any(
        session.get("UID") == str(uid) and session.get("SEAT") and session.get("ACTIVE") == "1"
        for session in sessions
    )


def check_holders(device: LocalDevice, journal: Journal, *, root: Path = ROOT) -> list[Check]:
    """Say which programs use a device."""
    pid = journal.holder(device.port_path)
    checks = []
    if pid is not None:
        who = f"process {pid}" if pid else "a process of ours that has only just begun"
        message = f"{_called(device)}: redirected by {who}"
        checks.append(Check("holder", Outcome.OK, message))
    for holder in find_holders(device, own=() if pid is None else (pid,), root=root):
        process = "" if holder.pid is None else f" (process {holder.pid})"
        does = "has claimed it" if holder.claims else f"uses {holder.node}"
        checks.append(
            Check(
                "holder",
                Outcome.WARNING if holder.claims else Outcome.OK,
                f"{_called(device)}: {holder.program}{process} {does}",
                holder.command,
            )
        )
    return checks


def check_claims(journal: Journal) -> list[Check]:
    """Look for devices that a process of ours could not give back."""
    return [
        Check(
            "claims",
            Outcome.WARNING,
            f"port:{port}: a process that redirected the device ended without giving it back",
            _CLAIMS_ARE_GIVEN_BACK_BY,
        )
        for port in journal.left()
    ] or [Check("claims", Outcome.OK, "no device was left behind")]
