"""The kernel of the simulated guest: USB devices on the ports of its controller, and its clock.

It drives storage and boot keyboards; what a keyboard types goes nowhere, as nobody in the guest
listens. Each device has one procedure under way, and each procedure one transfer at most.
"""

from __future__ import annotations

import asyncio
import re
import string
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, assert_never

from kubectl_vmredir.lab.guests import storage
from kubectl_vmredir.lab.guests.enumeration import PortName, UsbDevice, enumerate_device
from kubectl_vmredir.lab.guests.procedure import (
    DONE,
    Answer,
    Poll,
    Print,
    Procedure,
    ResetPort,
    Script,
    Sleep,
)
from kubectl_vmredir.lab.guests.reader import DiskReader
from kubectl_vmredir.lab.guests.transfers import Bulk, Outcome, Setup
from kubectl_vmredir.lab.guests.uptime import Uptime
from kubectl_vmredir.protocol.constants import INPUT, TransferType, UsbSpeed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kubectl_vmredir.lab.guests.redirect import RedirDevice

MAX_DISK_BYTES: Final = 64 << 20
"""Bigger disks are not read: what a pass has read so far moves with the VM."""

_RELEASE: Final = "6.1.0-simulated"
_CONTROL_TIMEOUT_S: Final = 5.0
"""USB_CTRL_GET_TIMEOUT."""
_BULK_TIMEOUT_S: Final = 30.0
"""SD_TIMEOUT."""
_PACE_MS: Final = 2
"""Between two reads: half as fast as it could be, so that a guest leaves time to others."""
_RETRY_MS: Final = 20
_FIRST_DEVICE_NUMBER: Final = 2
"""1 is the root hub."""
_KEYBOARD: Final = (3, 1, 1)
"""HID, boot interface, keyboard."""
_RING_ENTRIES: Final = 255
"""Transfer descriptors on a ring of the controller; then their addresses come again."""


@dataclass(slots=True)
class _Device:
    """A device that the kernel knows.

    Attributes:
        name: In the log.
        procedure: What the kernel does with it now; None if nothing more.
        packet_id: Of the transfer that the procedure waits for.
        timer: Ends that wait, or a sleep.
        submitted: Transfers so far.
        disk: If it is a disk.
        reader: Name of its reader, if it is read.
        tag: Next tag for the disk.
    """

    name: PortName
    procedure: Procedure | None = None
    packet_id: int | None = None
    timer: asyncio.TimerHandle | None = None
    submitted: int = 0
    disk: storage.Disk | None = None
    reader: str | None = None
    tag: int = 0


class Kernel:
    """The guest.

    Args:
        ports: What is on the ports of its controller.
        write: Writes a line to the console.
    """

    def __init__(self, ports: Sequence[RedirDevice], write: Callable[[str], None]) -> None:
        self._ports = ports
        self._write = write
        self._loop = asyncio.get_running_loop()
        self.clock = Uptime()
        self._running = False
        self._devices: dict[int, _Device] = {}
        self._readers: dict[str, DiskReader] = {}
        self._next_number = _FIRST_DEVICE_NUMBER
        self._next_host = 0

    # -- run state ----------------------------------------------------------------------------

    def boot(self) -> None:
        """Begin, as a guest that has just booted."""
        now = f"{self.clock.now():.3f}"
        self._write(f'@{{"event": "ready", "kernel": "{_RELEASE}", "t": {now}}}')
        self.resume()

    def resume(self) -> None:
        """Run."""
        self._running = True
        self.clock.start()
        for slot in range(len(self._ports)):
            self.port_changed(slot)
        for device in self._devices.values():
            self._arm(device)

    def pause(self) -> None:
        """Stand still."""
        self._running = False
        self.clock.stop()
        for device in self._devices.values():
            _disarm(device)

    def is_enumerating(self, slot: int) -> bool:
        """Whether the device on this port is not configured yet."""
        device = self._devices.get(slot)
        return (
            device is not None
            and device.procedure is not None
            and device.procedure.name == "enumerate"
        )

    def knows(self, slot: int) -> bool:
        """Whether the kernel has a device on this port, be it gone or not."""
        return slot in self._devices

    # -- from the controller ------------------------------------------------------------------

    def port_changed(self, slot: int) -> None:
        """Look at a port; a kernel that stands still does it later."""
        if not self._running:
            return
        attached = self._ports[slot].attached
        if not attached and slot in self._devices:
            self._unplugged(slot)
        elif attached and slot not in self._devices:
            self._plugged(slot)

    def completed(self, slot: int, packet_id: int, outcome: Outcome, data: bytes) -> None:
        """A transfer has ended."""
        device = self._devices.get(slot)
        if device is not None and device.packet_id == packet_id:
            self._tell(device, Answer(outcome, data))

    # -- devices ------------------------------------------------------------------------------

    def _plugged(self, slot: int) -> None:
        name = PortName(slot, self._next_number, self._ports[slot].speed)
        self._next_number += 1
        device = self._devices[slot] = _Device(name)
        self._start(device, "enumerate")

    def _unplugged(self, slot: int) -> None:
        device = self._devices.pop(slot)
        _disarm(device)
        self._print(f"usb {device.name.port}: USB disconnect, device number {device.name.number}")
        if device.reader is not None:
            self._readers[device.reader].bad(self.clock.now())

    def _configured(self, device: _Device, usb: UsbDevice) -> None:
        for interface in usb.interfaces:
            bulk_in = interface.first(TransferType.BULK, direction=INPUT)
            bulk_out = interface.first(TransferType.BULK, direction=0)
            if interface.kind == storage.CLASS and bulk_in and bulk_out:
                device.disk = storage.Disk(
                    device.name, self._disk_name(usb.serial, device.name), usb.configuration,
                    interface.number, bulk_in, bulk_out, self._next_host, self._free_node(),
                )  # fmt: skip
                self._next_host += 1
                self._start(device, "probe")
                return
            polled = interface.first(TransferType.INTERRUPT, direction=INPUT)
            if interface.kind == _KEYBOARD and polled:
                self._start(device, "keyboard", interface.number, interface.report_bytes, polled)
                return

    def _probed(self, device: _Device, found: storage.Probed | None) -> None:
        disk = device.disk
        assert disk is not None, "a probe is that of a disk"
        if found is None or not found.size:
            return
        if found.size > MAX_DISK_BYTES:
            self._print(f"sd: [{disk.node}] is too big for a simulated guest, not read")
            return
        device.reader, device.tag = disk.serial, found.tag
        reader = self._readers.setdefault(disk.serial, DiskReader(disk.serial, self._write))
        reader.attached(disk.node, found.size, self.clock.now())
        self._read_on(device)

    def _read_on(self, device: _Device) -> None:
        assert device.reader is not None, "a disk that is read"
        self._start(device, "read", device.tag, *self._readers[device.reader].next_read())

    def _has_read(self, device: _Device, result: storage.Read) -> None:
        assert device.reader is not None, "a disk that is read"
        device.tag = result.tag
        reader = self._readers[device.reader]
        if result.data is None:
            reader.bad(self.clock.now())
            self._start(device, "rest", _RETRY_MS)
        else:
            reader.good(result.data, self.clock.now())
            self._start(device, "rest", _PACE_MS)

    def _disk_name(self, serial: str, name: PortName) -> str:
        """Return the serial number, if that is plain text and names no other disk."""
        taken = {device.disk.serial for device in self._devices.values() if device.disk}
        plain = re.fullmatch(r"[A-Za-z0-9._-]+", serial)
        return serial if plain and serial not in taken else f"usb{name.port}"

    def _free_node(self) -> str:
        taken = {device.disk.node for device in self._devices.values() if device.disk}
        return next(
            node for letter in string.ascii_lowercase if (node := f"sd{letter}") not in taken
        )

    # -- procedures ---------------------------------------------------------------------------

    def _start(self, device: _Device, name: str, *arguments: int) -> None:
        device.procedure = self._new_procedure(device, name, list(arguments))
        self._advance(device)

    def _new_procedure(self, device: _Device, name: str, arguments: list[int]) -> Procedure:
        script: Script[Any]
        match name, arguments, device.disk:
            case "enumerate", [], _:
                script = enumerate_device(device.name)
            case "keyboard", [interface, report_bytes, endpoint], _:
                script = _keyboard(interface, report_bytes, endpoint)
            case "probe", [], storage.Disk() as disk:
                script = storage.probe(disk)
            case "read", [tag, offset, length], storage.Disk() as disk:
                script = storage.read(disk, tag, offset, length)
            case "rest", [milliseconds], _:
                script = _rest(milliseconds)
            case _:
                raise AssertionError(f"no procedure {name} {arguments}")
        return Procedure(name, arguments, script)

    def _tell(self, device: _Device, answer: Answer) -> None:
        _disarm(device)
        device.packet_id = None
        assert device.procedure is not None, "somebody waited for the answer"
        device.procedure.tell(answer)
        self._advance(device)

    def _advance(self, device: _Device) -> None:
        """Do what the procedure wants, until it has to wait or is over."""
        procedure = device.procedure
        assert procedure is not None, "called while one is under way"
        port = self._ports[device.name.slot]
        while (step := procedure.step) is not None:
            match step:
                case Print(text):
                    self._print(text)
                case ResetPort():
                    port.reset()
                case Poll(endpoint):
                    port.poll(endpoint)
                case Setup() | Bulk():
                    device.packet_id = _ring_address(device, step.endpoint)
                    device.submitted += 1
                    port.submit(step, device.packet_id)
                    self._arm(device)
                    return
                case Sleep():
                    self._arm(device)
                    return
                case _:
                    assert_never(step)
            procedure.tell(DONE)
        device.procedure = None
        self._finished(device, procedure)

    def _finished(self, device: _Device, procedure: Procedure) -> None:
        match procedure.name, procedure.result:
            case "enumerate", UsbDevice() as usb:
                self._configured(device, usb)
            case "probe", found:
                self._probed(device, found)
            case "read", storage.Read() as result:
                self._has_read(device, result)
            case "rest", _:
                self._read_on(device)
            case _:
                pass  # a device that nobody uses

    def _arm(self, device: _Device) -> None:
        _disarm(device)
        match device.procedure and device.procedure.step:
            case Setup():
                device.timer = self._loop.call_later(_CONTROL_TIMEOUT_S, self._timed_out, device)
            case Bulk():
                device.timer = self._loop.call_later(_BULK_TIMEOUT_S, self._timed_out, device)
            case Sleep(duration_s):
                device.timer = self._loop.call_later(duration_s, self._tell, device, DONE)
            case _:
                pass

    def _timed_out(self, device: _Device) -> None:
        assert device.packet_id is not None, "a transfer is under way"
        self._ports[device.name.slot].cancel(device.packet_id)
        self._tell(device, Answer(Outcome.TIMEOUT))

    def _print(self, text: str) -> None:
        self._write(f"[{self.clock.now():12.6f}] {text}")

    # -- migration ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return all that moves with the VM, as JSON."""
        return {
            "uptime": self.clock.now(),
            "next_number": self._next_number,
            "next_host": self._next_host,
            "readers": {serial: reader.save() for serial, reader in self._readers.items()},
            "devices": [
                {
                    "name": asdict(device.name),
                    "procedure": device.procedure and device.procedure.save(),
                    "packet_id": device.packet_id,
                    "submitted": device.submitted,
                    "disk": device.disk and asdict(device.disk),
                    "reader": device.reader,
                    "tag": device.tag,
                }
                for device in self._devices.values()
            ],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`save` was; the ports are loaded already."""
        self.clock.set(state["uptime"])
        self._next_number = state["next_number"]
        self._next_host = state["next_host"]
        for serial, reader_state in state["readers"].items():
            self._readers[serial] = DiskReader(serial, self._write)
            self._readers[serial].load(reader_state)
        for device_state in state["devices"]:
            self._load_device(device_state)

    def _load_device(self, state: Mapping[str, Any]) -> None:
        name = _port_name(state["name"])
        device = self._devices[name.slot] = _Device(name, submitted=state["submitted"])
        if (disk := state["disk"]) is not None:
            device.disk = storage.Disk(**(disk | {"name": name}))
        device.reader, device.tag = state["reader"], state["tag"]
        if (procedure := state["procedure"]) is None:
            return
        device.procedure = self._new_procedure(device, procedure["name"], procedure["arguments"])
        device.procedure.replay(procedure["told"])
        device.packet_id = state["packet_id"]
        step, port = device.procedure.step, self._ports[name.slot]
        if isinstance(step, Setup | Bulk) and device.packet_id is not None and port.attached:
            # The controller starts its rings again; the port knows what is in flight already.
            port.submit(step, device.packet_id)


def _keyboard(interface: int, report_bytes: int, endpoint: int) -> Script[None]:
    """Make a boot keyboard ready, as usbhid does."""
    yield Setup(0x21, 0x0A, 0, interface)  # SET_IDLE
    yield Setup(0x81, 6, 0x2200, interface, report_bytes)
    yield Setup(0x21, 0x09, 0x0200, interface, 1, b"\0")  # SET_REPORT: no light
    yield Poll(endpoint)


def _rest(milliseconds: int) -> Script[None]:
    yield Sleep(milliseconds / 1000)


def _disarm(device: _Device) -> None:
    if device.timer is not None:
        device.timer.cancel()
        device.timer = None


def _ring_address(device: _Device, endpoint: int) -> int:
    """Return where in the guest's memory the controller finds a transfer: its packet id."""
    ring = 0x6500000 + device.name.slot * 0x100000 + endpoint * 0x1000
    return ring + device.submitted % _RING_ENTRIES * 16


def _port_name(state: Mapping[str, Any]) -> PortName:
    return PortName(state["slot"], state["number"], UsbSpeed(state["speed"]))
