"""USB devices and usb-hosts of a test: real sockets, and at their far end the model host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Sequence

from kubectl_vmredir.errors import DeviceNotFound, UsbError
from kubectl_vmredir.model import (
    DeviceSelector,
    DeviceUse,
    LocalDevice,
    Speed,
    UsbClass,
    VendorProduct,
)
from kubectl_vmredir.protocol.constants import ALL_CAPS
from kubectl_vmredir.service.ports import UsbHostSockets
from tests.support.model_host import ModelHost

_MOST_HOSTS = 100


def device(serial: str = "STICK1", *, address: int = 4, port: str = "1-4") -> LocalDevice:
    return LocalDevice(
        ids=VendorProduct(0x1234, 0x5678),
        bus=1,
        address=address,
        port_path=port,
        serial=serial,
        manufacturer="ACME",
        product="Stick",
        speed=Speed.HIGH,
        classes=(UsbClass(8, 6, 80),),
    )


class FakeUsbHost:
    """The far ends of the sockets of one usb-host.

    Attributes:
        model: Speaks usbredir.
        requests: What came on the control socket.
        released: Whether the data socket was closed, so that the device was given back.
        deaf: Whether it answers nothing any more.
        stubborn: Whether it goes on when it is asked to end.
    """

    def __init__(self) -> None:
        self.model = ModelHost(ALL_CAPS)
        self.requests: list[object] = []
        self.released = False
        self.deaf = False
        self.stubborn = False
        self._loop = asyncio.get_running_loop()
        self._data, data = socket.socketpair()
        self._control, control = socket.socketpair()
        for end in (self._data, data, self._control, control):
            end.setblocking(False)
        self.sockets = UsbHostSockets(data, control)
        self._open = True
        self._loop.add_reader(self._data, self._read_data)
        self._loop.add_reader(self._control, self._read_control)
        self.flush()

    def say(self, **message: object) -> None:
        """Send a line on the control socket."""
        self._control.send(json.dumps(message).encode() + b"\n")

    def say_bytes(self, data: bytes) -> None:
        """Send anything on the control socket."""
        self._control.sendall(data)

    def flush(self) -> None:
        """Send what the model has to say."""
        if self._open and self.model.outbox:
            with contextlib.suppress(BrokenPipeError):
                self._data.sendall(bytes(self.model.outbox))
            self.model.outbox.clear()

    def stop_reading(self) -> None:
        """Leave what comes in the socket."""
        self._loop.remove_reader(self._data)

    def go_on_reading(self) -> None:
        """Undo :meth:`stop_reading`."""
        self._loop.add_reader(self._data, self._read_data)

    def end(self) -> None:
        """End as a process does."""
        if self._open:
            self._open = False
            for end in (self._data, self._control):
                self._loop.remove_reader(end)
                end.close()

    def _read_data(self) -> None:
        if data := self._data.recv(1 << 20):
            if not self.deaf:
                self.model.receive(data)
                self.flush()
        else:
            self.released = True
            self._loop.remove_reader(self._data)
            if not self.stubborn:
                self.end()

    def _read_control(self) -> None:
        if data := self._control.recv(65536):
            self.requests += [json.loads(line) for line in data.splitlines()]
        else:
            self._loop.remove_reader(self._control)


class FakeDevices:
    """A device source.

    Attributes:
        hosts: The usb-hosts that were started, oldest first.
        uses: How this machine uses a device; not at all if it is not in there.
        refusal: Raised at the next claims; None to allow them.
        claims: Whether a usb-host says at once that it has its device.
        short_lived: Whether it ends right after that.
    """

    def __init__(self, *devices: LocalDevice) -> None:
        self.hosts: list[FakeUsbHost] = []
        self.uses: dict[LocalDevice, DeviceUse] = {}
        self.refusal: UsbError | None = None
        self.claims = True
        self.short_lived = False
        self._devices = list(devices)
        self._changed = asyncio.Event()

    def plug(self, plugged: LocalDevice) -> None:
        self._devices.append(plugged)
        self._changed.set()

    def unplug(self, unplugged: LocalDevice) -> None:
        self._devices.remove(unplugged)
        self._changed.set()

    async def devices(self) -> Sequence[LocalDevice]:
        return tuple(self._devices)

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await self._changed.wait()
            self._changed.clear()
            yield

    async def use(self, device: LocalDevice) -> DeviceUse:
        if device not in self._devices:
            raise DeviceNotFound(DeviceSelector.of(device))
        return self.uses.get(device, DeviceUse())

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        if self.refusal is not None:
            raise self.refusal
        assert len(self.hosts) < _MOST_HOSTS, "claimed again and again without a pause"
        host = FakeUsbHost()
        self.hosts.append(host)
        if self.claims:
            host.say(event="claimed", drivers=["usb-storage"])
        if self.short_lived:
            host.end()
        return host.sockets

    def end(self) -> None:
        """Close all sockets that a test may have left."""
        for host in self.hosts:
            host.end()
