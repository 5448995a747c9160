"""USB devices without USB: device nodes that usb-host processes can use as if usbfs were behind.

A device node is a pseudo-terminal, and what that cannot do is served here, in a thread for each
process that uses it (tests/support/usbfs_shim.c). What the kernel shows in /sys and /dev is a small
tree in a folder, kept up to date. So the real libusb and libusbredirhost run, in a real process.

Source: linux/usbdevice_fs.h, for x86-64 and other machines with 64 bits and little endian.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pty
import shutil
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import tty
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kubectl_vmredir.model import LocalDevice, Speed, UsbClass, VendorProduct

IDS = VendorProduct(0x1209, 0x0001)

BULK_IN = 0x81
BULK_OUT = 0x02
INTERRUPT_IN = 0x83

ECHO = 1
"""Vendor request: answers with 0, 1, 2 ..., as many bytes as asked for."""
SILENCE = 2
"""Vendor request: is never answered."""

USBFS = "usbfs"

_MESSAGE = struct.Struct("=QQQ")
_IOCTL, _READ, _DONE, _PEEK, _POKE = 1, 2, 3, 4, 5

_URB_BYTES = 56
_CONTROL_URB = 2
_MOST_KEPT = 64
_CAPABILITIES = 0x1D  # zero packets, no limit of length, reap after disconnect, scatter-gather
_HIGH_SPEED = 3
_CONNECT = 23

_NAMES = {
    0: "control", 3: "reset_endpoint", 4: "set_interface", 5: "set_configuration", 8: "get_driver",
    10: "submit", 11: "discard", 13: "reap", 15: "claim", 16: "release", 17: "connect_info",
    18: "ioctl", 20: "reset", 21: "clear_halt", 26: "capabilities", 27: "disconnect_claim",
    31: "speed",
}  # fmt: skip


def _descriptors() -> bytes:
    """Return the device descriptor, and one of a configuration with two interfaces."""

    def endpoint(address: int, kind: int, size: int, interval: int) -> bytes:
        return struct.pack("<BBBBHB", 7, 5, address, kind, size, interval)

    def interface(number: int, *endpoints: bytes) -> bytes:
        head = bytes([9, 4, number, 0, len(endpoints), 0xFF, 0, 0, 0])
        return head + b"".join(endpoints)

    body = interface(0, endpoint(BULK_IN, 2, 512, 0), endpoint(BULK_OUT, 2, 512, 0)) + interface(
        1, endpoint(INTERRUPT_IN, 3, 64, 4)
    )
    device = struct.pack(
        "<BBHBBBBHHHBBBB",
        18,
        1,
        0x200,
        0,
        0,
        0,
        64,
        IDS.vendor_id,
        IDS.product_id,
        0x100,
        1,
        2,
        3,
        1,
    )
    return device + struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 50) + body


DESCRIPTORS = _descriptors()


class Refused(Exception):
    """The ioctl fails."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Hung(Exception):
    """The ioctl does not return, until the process is gone."""


@dataclass
class _Memory:
    """What a process that uses the node has in its memory, seen over its connection."""

    connection: socket.socket

    def receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            if not (piece := self.connection.recv(size - len(data))):
                raise EOFError
            data += piece
        return bytes(data)

    def peek(self, address: int, size: int) -> bytes:
        self.connection.sendall(_MESSAGE.pack(_PEEK, address, size))
        return self.receive(size)

    def poke(self, address: int, data: bytes) -> None:
        if data:
            self.connection.sendall(_MESSAGE.pack(_POKE, address, len(data)) + data)


@dataclass
class _Urb:
    """A transfer under way; addresses are of the process."""

    address: int
    kind: int
    endpoint: int
    buffer: int
    length: int
    output: bytes
    status: int = 0
    actual: int = 0
    input: bytes = b""


class EmulatedDevice:
    """A device: what is written to its bulk endpoint can be read back from the other one.

    Attributes:
        local: What discovery would say of it.
        drivers: The driver that each interface has now; ``usbfs`` while it is claimed.
        events: What was done to it that a kernel log would tell of, in order.
        hangs: Names of ioctls that do not return any more.
        refuses: Error numbers of ioctls that fail, by name.
        stalled: Endpoints that stall.
    """

    def __init__(self, root: Path, port: int, serial: str, shim: Path) -> None:
        self._root = root
        self._shim = shim
        self._native = {0: "fake-storage", 1: "fake-input"}
        self.local = LocalDevice(
            ids=IDS,
            bus=1,
            address=port + 1,
            port_path=f"1-{port}",
            serial=serial,
            manufacturer="vmredir",
            product="Loop",
            speed=Speed.HIGH,
            classes=(UsbClass(0xFF, 0, 0), UsbClass(0xFF, 0, 0)),
            node=f"/dev/bus/usb/001/{port + 1:03}",
        )
        self.drivers = dict(self._native)
        self.events: list[str] = []
        self.hangs: set[str] = set()
        self.refuses: dict[str, int] = {}
        self.stalled: set[int] = set()
        self.configuration = 1
        self._changed = threading.Condition(threading.RLock())
        self._gone = False
        self._loop: deque[bytes] = deque()
        self._pending: dict[int, _Urb] = {}
        self._done: deque[_Urb] = deque()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        termios.tcflow(self._slave, termios.TCOOFF)
        self._listener = socket.socket(socket.AF_UNIX)
        number = os.minor(os.stat(self._slave).st_rdev)
        self._listener.bind(str(shim / str(number)))
        self._listener.listen()
        self._plug(os.ttyname(self._slave))
        threading.Thread(target=self._accept, daemon=True).start()

    # -- what a test does -------------------------------------------------------------------

    @property
    def node(self) -> Path:
        """The device node in the folder of the test."""
        assert self.local.node is not None
        return self._root / self.local.node.removeprefix("/")

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until something is so that the device can see."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), (self.events, self.drivers)

    def offer(self, data: bytes) -> None:
        """Have something to read from the bulk endpoint."""
        with self._changed:
            self._loop.append(data)
            self._pump()

    def interrupt(self, data: bytes) -> None:
        """Let the interrupt endpoint have something to say to who asks."""
        with self._changed:
            self._complete_next(INTERRUPT_IN, data)

    @property
    def under_way(self) -> int:
        """How many transfers wait for the device."""
        return len(self._pending)

    def bind(self, interface: int, driver: str) -> None:
        """Have another driver."""
        self._bind(interface, driver)

    def unplug(self) -> None:
        """Pull it out."""
        with self._changed:
            self._gone = True
            shutil.rmtree(self._folder)
            (self._root / f"sys/bus/usb/devices/{self.local.port_path}").unlink()
            self.node.unlink()
            for urb in list(self._pending.values()):
                self._finish(urb, -errno.ENODEV)
            os.close(self._master)
            self._changed.notify_all()

    def close(self) -> None:
        """Be no more; whoever uses it is told that it is gone."""
        if not self._gone:
            self.unplug()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.close(self._slave)

    # -- sysfs ------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return self._root / f"sys/devices/usb1/{self.local.port_path}"

    def _plug(self, terminal: str) -> None:
        self._folder.mkdir(parents=True)
        attributes = {
            "busnum": self.local.bus,
            "devnum": self.local.address,
            "bConfigurationValue": self.configuration,
            "idVendor": f"{IDS.vendor_id:04x}",
            "idProduct": f"{IDS.product_id:04x}",
            "manufacturer": self.local.manufacturer,
            "product": self.local.product,
            "serial": self.local.serial,
            "speed": 480,
        }
        for name, value in attributes.items():
            (self._folder / name).write_text(f"{value}\n")
        (self._folder / "descriptors").write_bytes(DESCRIPTORS)
        for interface, driver in self.drivers.items():
            (self._folder / f"{self.local.port_path}:1.{interface}").mkdir()
            self._bind(interface, driver)
        devices = self._root / "sys/bus/usb/devices"
        devices.mkdir(parents=True, exist_ok=True)
        (devices / self.local.port_path).symlink_to(self._folder)
        self.node.parent.mkdir(parents=True, exist_ok=True)
        self.node.symlink_to(terminal)

    def _bind(self, interface: int, driver: str) -> None:
        with self._changed:
            self.drivers[interface] = driver
            link = self._folder / f"{self.local.port_path}:1.{interface}" / "driver"
            link.unlink(missing_ok=True)
            if driver and not self._gone:
                link.symlink_to(f"/sys/bus/usb/drivers/{driver}")
            self._changed.notify_all()

    # -- processes --------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        memory = _Memory(connection)
        claimed: set[int] = set()
        with connection, contextlib.suppress(EOFError, ConnectionError):
            while True:
                kind, first, second = _MESSAGE.unpack(memory.receive(_MESSAGE.size))
                result, number = 0, 0
                try:
                    if kind == _READ:
                        data = DESCRIPTORS[:second]
                        memory.poke(first, data)
                        result = len(data)
                    else:
                        result = self._ioctl(first, second, memory, claimed)
                except Refused as refused:
                    result, number = (1 << 64) - 1, refused.number
                except Hung:
                    self._record("hang")
                    memory.receive(1)  # it ends
                connection.sendall(_MESSAGE.pack(_DONE, result, number))
        # As the kernel does when a process is gone.
        with self._changed:
            self._pending.clear()
            self._done.clear()
            if not self._gone:
                termios.tcflow(self._slave, termios.TCOOFF)
            for interface in claimed:
                self._bind(interface, "")
            self._record("closed")

    def _record(self, event: str) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def _ioctl(self, request: int, argument: int, memory: _Memory, claimed: set[int]) -> int:
        name = _NAMES.get(request & 0xFF, "unknown")
        if name in self.hangs:
            raise Hung
        if name in self.refuses:
            raise Refused(self.refuses[name])
        if self._gone and name not in ("reap", "discard"):
            raise Refused(errno.ENODEV)
        match name:
            case "submit":
                self._submit(argument, memory)
            case "reap":
                self._reap(argument, memory)
            case "discard":
                self._discard(argument)
            case "control":
                self._control(memory.peek(argument, 24), memory)
            case "capabilities":
                memory.poke(argument, struct.pack("=I", _CAPABILITIES))
            case "connect_info":
                memory.poke(argument, struct.pack("=IB3x", self.local.address, 0))
            case "speed":
                return _HIGH_SPEED
            case "get_driver":
                (interface,) = struct.unpack("=I", memory.peek(argument, 4))
                if not (driver := self.drivers.get(interface, "")):
                    raise Refused(errno.ENODATA)
                memory.poke(argument + 4, driver.encode() + b"\0")
            case "disconnect_claim" | "claim" | "release":
                (interface,) = struct.unpack("=I", memory.peek(argument, 4))
                self._claim(name, interface, claimed)
            case "ioctl":
                return self._ask_driver(*struct.unpack("=iI", memory.peek(argument, 8)))
            case "set_configuration":
                (configuration,) = struct.unpack("=I", memory.peek(argument, 4))
                self._configure(configuration)
            case "set_interface":
                interface, alternate = struct.unpack("=II", memory.peek(argument, 8))
                if interface not in claimed or alternate:
                    raise Refused(errno.EINVAL)
                self._record(name)
            case "reset" | "clear_halt" | "reset_endpoint":
                self._record(name)
            case _:
                raise Refused(errno.ENOTTY)
        return 0

    def _configure(self, configuration: int) -> None:
        with self._changed:
            if configuration != 1:  # there is no other
                raise Refused(errno.EINVAL)
            if any(self.drivers.values()):
                raise Refused(errno.EBUSY)
            self.configuration = configuration
            self._record(f"configuration {configuration}")
            for interface, driver in self._native.items():
                self._bind(interface, driver)

    def _claim(self, how: str, interface: int, claimed: set[int]) -> None:
        with self._changed:
            driver = self.drivers[interface]
            if how == "release":
                if interface not in claimed:
                    raise Refused(errno.EINVAL)
                claimed.remove(interface)
                self._bind(interface, "")
                return
            if interface in claimed:
                return
            if driver == USBFS or (driver and how == "claim"):
                raise Refused(errno.EBUSY)
            if driver:
                self._record(f"detach {driver}")
            claimed.add(interface)
            self._bind(interface, USBFS)

    def _ask_driver(self, interface: int, code: int) -> int:
        with self._changed:
            driver = self.drivers[interface]
            if code & 0xFF == _CONNECT:
                if driver:
                    raise Refused(errno.EBUSY)
                self._record(f"attach {self._native[interface]}")
                self._bind(interface, self._native[interface])
                return 1
            if not driver:
                raise Refused(errno.ENODATA)
            self._record(f"detach {driver}")
            self._bind(interface, "")
            return 0

    # -- transfers --------------------------------------------------------------------------

    def _submit(self, address: int, memory: _Memory) -> None:
        raw = memory.peek(address, _URB_BYTES)
        kind, endpoint = raw[0], raw[1]
        (buffer,) = struct.unpack_from("=Q", raw, 16)
        (length,) = struct.unpack_from("=i", raw, 24)
        sends = kind == _CONTROL_URB or not endpoint & 0x80
        output = memory.peek(buffer, length) if sends and length else b""
        urb = _Urb(address, kind, endpoint, buffer, length, output)
        with self._changed:
            self._pending[address] = urb
            if endpoint in self.stalled:
                self._finish(urb, -errno.EPIPE)
            elif kind == _CONTROL_URB:
                self._answer(urb)
            elif endpoint == BULK_OUT:
                if len(self._loop) < _MOST_KEPT:  # who sends and never reads is not kept in mind
                    self._loop.append(output)
                self._finish(urb, 0, actual=len(output))
            self._pump()
            self._changed.notify_all()

    def _pump(self) -> None:
        while self._loop and self._complete_next(BULK_IN, self._loop[0]):
            self._loop.popleft()

    def _complete_next(self, endpoint: int, data: bytes) -> bool:
        for urb in self._pending.values():
            if urb.endpoint == endpoint:
                self._finish(urb, 0, data)
                return True
        return False

    def _answer(self, urb: _Urb) -> None:
        """Answer a control transfer."""
        kind, request, value, _, length = struct.unpack_from("<BBHHH", urb.output)
        if kind == 0x80 and request == 6 and value >> 8 in (1, 2):
            descriptor = DESCRIPTORS[:18] if value >> 8 == 1 else DESCRIPTORS[18:]
            self._finish(urb, 0, descriptor[:length])
        elif kind == 0xC0 and request == ECHO:
            self._finish(urb, 0, bytes(number & 0xFF for number in range(length)))
        elif request != SILENCE:
            self._finish(urb, -errno.EPIPE)

    def _finish(self, urb: _Urb, status: int, data: bytes = b"", *, actual: int = 0) -> None:
        del self._pending[urb.address]
        urb.status, urb.input = status, data[: urb.length]
        urb.actual = actual or len(urb.input)
        self._done.append(urb)
        if not self._gone:
            termios.tcflow(self._slave, termios.TCOON)
        self._changed.notify_all()

    def _reap(self, argument: int, memory: _Memory) -> None:
        with self._changed:
            if not self._done:
                raise Refused(errno.ENODEV if self._gone else errno.EAGAIN)
            urb = self._done.popleft()
            if not self._done and not self._gone:
                termios.tcflow(self._slave, termios.TCOOFF)
        memory.poke(urb.buffer + (8 if urb.kind == _CONTROL_URB else 0), urb.input)
        memory.poke(urb.address + 4, struct.pack("=i", urb.status))
        memory.poke(urb.address + 28, struct.pack("=i", urb.actual))
        memory.poke(argument, struct.pack("=Q", urb.address))

    def _discard(self, address: int) -> None:
        with self._changed:
            if address not in self._pending:
                raise Refused(errno.EINVAL)
            self._finish(self._pending[address], -errno.ENOENT)

    def _control(self, raw: bytes, memory: _Memory) -> None:
        """Answer a control transfer that blocks: who asks wants to know the configuration."""
        _, request, _, _, _, _, buffer = struct.unpack("=BBHHHI4xQ", raw)
        if request != 8:
            raise Refused(errno.EPIPE)
        memory.poke(buffer, bytes([self.configuration]))


class EmulatedBus:
    """A machine's /sys, /proc and /dev in a folder, and the devices in it.

    Attributes:
        root: The folder.
        environment: What makes a process use it.
    """

    def __init__(self, root: Path, shim: Path, library: Path) -> None:
        self.root = root
        self._shim = shim
        self._ports = itertools.count(1)
        self._devices: list[EmulatedDevice] = []
        self.environment = {"LD_PRELOAD": str(library), "USBFS_SHIM": str(shim)}
        boot_id = root / "proc/sys/kernel/random/boot_id"
        boot_id.parent.mkdir(parents=True)
        boot_id.write_text("1b5d0f6a-boot\n")

    def plug(self, serial: str = "SN0001") -> EmulatedDevice:
        """Plug a device in, at the next port."""
        device = EmulatedDevice(self.root, next(self._ports), serial, self._shim)
        self._devices.append(device)
        return device

    def close(self) -> None:
        """End all devices."""
        for device in self._devices:
            device.close()


@contextlib.contextmanager
def emulated_bus(root: Path, library: Path) -> Iterator[EmulatedBus]:
    """Give a bus without devices; its sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="usbfs-") as shim:
        bus = EmulatedBus(root, Path(shim), library)
        try:
            yield bus
        finally:
            bus.close()


def build_shim(folder: Path) -> Path:
    """Compile what goes between a process and the kernel; return the library."""
    library = folder / "usbfs_shim.so"
    source = Path(__file__).with_name("usbfs_shim.c")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", library, source, "-ldl"], check=True)
    return library
