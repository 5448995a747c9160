"""Which devices our programs have claimed, written down so that each is given back.

One file per port in a folder of the user's. While a usb-host process has a device it holds a
flock(2) on the port's file, through a descriptor that it inherited; the kernel drops the lock with
the process, however that ends. A file that is not locked and not empty was left by a process that
could not give its device back. Files are emptied, never unlinked: whoever opened one would lock
what nobody else sees.

Everything blocks, but for a short time: the files are small and ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.errors import UsbError
from kubectl_vmredir.model import VendorProduct, to_json
from kubectl_vmredir.usb.ending import is_ending
from kubectl_vmredir.usb.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_vmredir.model import JsonValue

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 64 * 1024
"""A longer file is none of ours."""

PATIENCE_S: Final = 3.0
"""How long a process that is about to let go of a port is waited for."""

_GLANCE_S: Final = 0.02
"""The kernel tells nobody that a lock is free without making them wait for it without end."""

_PORT: Final = re.compile(r"\d+-\d+(?:\.\d+)*")
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True)
class FormerDriver:
    """An interface and the kernel driver that had it; the name is empty if none had."""

    interface: int
    driver: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be put back when a device is given back.

    Attributes:
        boot_id: The boot of this machine that it belongs to: after another one all is as new.
        port_path: Where the device is plugged in.
        ids: Its vendor and product id.
        bus: Its bus number.
        address: Its address on the bus: another one in that port is another device.
        configuration: The configuration that was active; 0 if there was none.
        interfaces: Those of that configuration.
        pid: The process that claims it, for people; whether it lives is for the lock to say.
        given_back: Whether that process does not claim it, but gives it back for a former one.
    """

    boot_id: str
    port_path: str
    ids: VendorProduct
    bus: int
    address: int
    configuration: int
    interfaces: tuple[FormerDriver, ...]
    pid: int
    given_back: bool = False

    @property
    def device(self) -> tuple[str, str, VendorProduct, int, int]:
        """What two claims have in common if they are on one device, from plug to unplug."""
        return self.boot_id, self.port_path, self.ids, self.bus, self.address

    @property
    def drivers(self) -> tuple[str, ...]:
        """The former driver of each interface, in their order."""
        return tuple(former.driver for former in self.interfaces)

    @property
    def driven(self) -> tuple[int, ...]:
        """The interfaces that had a driver."""
        return tuple(former.interface for former in self.interfaces if former.driver)


@dataclass(frozen=True, slots=True)
class Holding:
    """That a process of ours has a port.

    Attributes:
        pid: The process; 0 for one that has only just begun, or is just done.
        ending: Whether it is about to let go: it gives the device back for a former process, or
            is itself at its end.
    """

    pid: int
    ending: bool


class Entry:
    """The file of one port; a context manager that closes it.

    If we have locked it, that lasts until each process that has the descriptor has closed it.

    Args:
        descriptor: Of the file, open, and locked where it is written to; owned.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor, to be inherited by a process."""
        return self._descriptor

    def read(self) -> Claim | None:
        """Return what was written; None if there is nothing, or nothing that can be used."""
        # A claim is a line. What is behind it is the end of a longer one, if its writer was killed.
        text, _, _ = os.pread(self._descriptor, MAX_BYTES, 0).partition(b"\n")
        if not text:
            return None
        try:
            return _parse(json.loads(text))
        except (ValueError, KeyError, TypeError):
            logger.warning("the journal of claims has a file that cannot be read; it is ignored")
            return None

    def write(self, claim: Claim) -> None:
        """Write a claim down, before it is made.

        Raises:
            OSError: If there is no room for it.
        """
        # In place: the lock is on this very file. It is one call, so whoever kills us leaves the
        # former claim or this one.
        text = json.dumps(to_json(claim)).encode() + b"\n"
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def sign(self, *, given_back: bool = False) -> Claim | None:
        """Put this process down as the one that claims, or gives back; return the claim."""
        if (claim := self.read()) is not None:
            claim = replace(claim, pid=os.getpid(), given_back=given_back)
            self.write(claim)
        return claim

    def clear(self) -> None:
        """Note that the device has been given back."""
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Close the file in this process; safe to call again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Journal:
    """The claims of one user on this machine.

    Attributes:
        folder: Where the files are; made, mode 0700.
        boot_id: Of the kernel that runs; see :func:`read_boot_id`.

    Args:
        patience_s: See :data:`PATIENCE_S`.
    """

    def __init__(self, folder: Path, *, boot_id: str, patience_s: float = PATIENCE_S) -> None:
        self.folder = folder
        self.boot_id = boot_id
        self._patience_s = patience_s

    def lock(self, port_path: str) -> Entry | None:
        """Lock the file of a port; None if a process of ours has the device in it.

        One that is about to let go of it is waited for, but not for long.

        Raises:
            UsbError: If the journal cannot be used.
        """
        assert _PORT.fullmatch(port_path), "the kernel names ports"
        deadline = time.monotonic() + self._patience_s
        while (entry := self._try_to_lock(port_path)) is None:
            match self.holding(port_path):
                case None:
                    pass  # somebody has only looked, as we just did, and has gone on by now
                case Holding(ending=True) if time.monotonic() < deadline:
                    time.sleep(_GLANCE_S)
                case _:
                    return None
        return entry

    def holder(self, port_path: str) -> int | None:
        """Return the process id of :meth:`holding`; None if nobody has the port."""
        holding = self.holding(port_path)
        return None if holding is None else holding.pid

    def holding(self, port_path: str) -> Holding | None:
        """Return who of us has the device in a port; None if nobody has."""
        if (entry := self._look_into(port_path)) is None:
            return None
        with entry:
            try:
                # Shared, so that two who look do not take each other for a holder.
                fcntl.flock(entry.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                if (claim := entry.read()) is None:
                    return Holding(0, ending=True)
                return Holding(claim.pid, ending=claim.given_back or is_ending(claim.pid))
        return None

    def left(self) -> list[str]:
        """Return the ports whose devices were claimed since the boot, and not given back."""
        return [port for port in self.ports() if self._is_left(port)]

    def ports(self) -> list[str]:
        """Return the ports that something is written down of."""
        try:
            return sorted(
                path.name.removesuffix(_SUFFIX)
                for path in self.folder.iterdir()
                if path.name.endswith(_SUFFIX)
                and _PORT.fullmatch(path.name.removesuffix(_SUFFIX))
                and path.stat().st_size
            )
        except OSError:
            return []

    def _is_left(self, port_path: str) -> bool:
        if self.holder(port_path) is not None or (entry := self._look_into(port_path)) is None:
            return False
        with entry:
            claim = entry.read()
        return claim is not None and claim.boot_id == self.boot_id

    def _look_into(self, port_path: str) -> Entry | None:
        """Return the file of a port, not locked, to be read only; None if there is none."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return Entry(os.open(self._path(port_path), flags))
        except OSError:
            return None

    def _try_to_lock(self, port_path: str) -> Entry | None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with contextlib.ExitStack() as undo:
                descriptor = os.open(self._path(port_path), flags, 0o600)
                undo.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                undo.pop_all()
                return Entry(descriptor)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise unwritable(self.folder, exc) from exc

    def _path(self, port_path: str) -> Path:
        return self.folder / f"{port_path}{_SUFFIX}"


def unwritable(folder: Path, why: OSError) -> UsbError:
    """Return the error for a journal that cannot be used."""
    return UsbError(
        f"cannot write down the claim of a device in {folder}: {why.strerror}",
        hint="Its claim is written down so that it can be given back after a crash.",
    )


def read_boot_id(root: Path) -> str:
    """Return which boot of this machine it is; empty if the kernel does not say."""
    return Tree(root).attribute("proc/sys/kernel/random/boot_id")


def _parse(value: JsonValue) -> Claim:
    """Read a claim.

    Raises:
        ValueError: If it is none, or KeyError, or TypeError.
    """
    match value:
        case {
            "boot_id": str() as boot_id,
            "port_path": str() as port_path,
            "ids": {"vendor_id": int() as vendor_id, "product_id": int() as product_id},
            "bus": int() as bus,
            "address": int() as address,
            "configuration": int() as configuration,
            "interfaces": list() as interfaces,
            "pid": int() as pid,
            **rest,
        }:
            return Claim(
                boot_id=boot_id,
                port_path=port_path,
                ids=VendorProduct(vendor_id, product_id),
                bus=bus,
                address=address,
                configuration=configuration,
                interfaces=tuple(map(_parse_interface, interfaces)),
                pid=pid,
                given_back=rest.get("given_back") is True,
            )
        case _:
            raise ValueError("not a claim")


def _parse_interface(value: JsonValue) -> FormerDriver:
    match value:
        case {"interface": int() as interface, "driver": str() as driver}:
            return FormerDriver(interface, driver)
        case _:
            raise ValueError("not an interface")
