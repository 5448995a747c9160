"""A device on the bus: what chapter 9 of USB 2.0 asks of every device, around its function."""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.devices.function import ACK, STALL, Answer, Handshake, Setup
from kubectl_vmredir.protocol.constants import INPUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.lab.devices.descriptors import Endpoint, Interface
    from kubectl_vmredir.lab.devices.function import Clock, Function

_REMOTE_WAKEUP_FEATURE: Final = 1
_ENDPOINT_HALT_FEATURE: Final = 0
_INTERFACE_RECIPIENT: Final = 1
_RECIPIENT_MASK: Final = 0x1F


class Request(enum.Enum):
    """Standard requests by bmRequestType and bRequest; USB 2.0 table 9-3.

    SET_ADDRESS is not among them: the address belongs to the host controller of the usb-host.
    """

    GET_DEVICE_STATUS = (0x80, 0)
    GET_INTERFACE_STATUS = (0x81, 0)
    GET_ENDPOINT_STATUS = (0x82, 0)
    CLEAR_DEVICE_FEATURE = (0x00, 1)
    CLEAR_ENDPOINT_FEATURE = (0x02, 1)
    SET_DEVICE_FEATURE = (0x00, 3)
    SET_ENDPOINT_FEATURE = (0x02, 3)
    GET_DESCRIPTOR = (0x80, 6)
    GET_CONFIGURATION = (0x80, 8)
    SET_CONFIGURATION = (0x00, 9)
    GET_INTERFACE = (0x81, 10)
    SET_INTERFACE = (0x01, 11)


class Device:
    """A device that is plugged in, and configured as the usb-host's kernel left it.

    Args:
        function: What it does.
        clock: The clock of the machine.
        wake: Called when an endpoint that answered NAK has something now.
    """

    def __init__(self, function: Function, *, clock: Clock, wake: Callable[[], None]) -> None:
        self._function = function
        self._description = function.description
        self.clock = clock
        self.wake = wake
        self._configured = True
        self._halted: set[int] = set()
        self._remote_wakeup = False

    @property
    def configuration(self) -> int:
        """Number of the active configuration (bConfigurationValue); 0 if there is none."""
        return self._description.configuration.value if self._configured else 0

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces of the active configuration."""
        return self._description.configuration.interfaces if self._configured else ()

    def has_interface(self, number: int) -> bool:
        """Return whether the active configuration has this interface."""
        return any(interface.number == number for interface in self.interfaces)

    def endpoint(self, address: int) -> Endpoint | None:
        """Return the endpoint of the active configuration with this address."""
        for interface in self.interfaces:
            for endpoint in interface.endpoints:
                if endpoint.address == address:
                    return endpoint
        return None

    def endpoints_of(self, interface: int) -> frozenset[int]:
        """Return the addresses of an interface's endpoints."""
        return frozenset(
            endpoint.address
            for each in self.interfaces
            if each.number == interface
            for endpoint in each.endpoints
        )

    def reset(self) -> None:
        """Take a reset of the bus, after which the usb-host configures the device again."""
        self._remote_wakeup = False
        self._begin(configured=True)

    def set_configuration(self, value: int) -> bool:
        """Choose a configuration, 0 for none; False if there is no such."""
        if value not in (0, self._description.configuration.value):
            return False
        self._begin(configured=value != 0)
        return True

    def set_alternate(self, interface: int, alternate: int) -> bool:
        """Choose an alternate setting; False if there is no such."""
        if not self.has_interface(interface) or alternate:
            return False
        self._halted -= self.endpoints_of(interface)
        return True

    def halt(self, endpoint: int) -> None:
        """Answer STALL on this endpoint until the host clears the halt."""
        self._halted.add(endpoint)

    def clear_halt(self, endpoint: int) -> None:
        """Clear a halt, if the function lets it go."""
        if self._function.may_clear_halt():
            self._halted.discard(endpoint)

    def is_halted(self, endpoint: int) -> bool:
        """Return whether all transfers on this endpoint stall: it is halted, or not there."""
        return endpoint in self._halted or self.endpoint(endpoint) is None

    def data_out(self, endpoint: int, data: bytes) -> Answer:
        """Take a whole OUT transfer on an endpoint other than zero."""
        if self.is_halted(endpoint):
            return STALL
        return self._function.data_out(endpoint, data)

    def data_in(self, endpoint: int, length: int) -> Answer:
        """Answer an IN transfer on an endpoint other than zero."""
        if self.is_halted(endpoint):
            return STALL
        return self._function.data_in(endpoint, length)

    def control(self, setup: Setup, data: bytes) -> Answer:
        """Answer a transfer on endpoint zero; what is unknown stalls."""
        answer = self._control(setup, data)
        return Answer(answer.handshake, answer.data[: setup.length])

    def _control(self, setup: Setup, data: bytes) -> Answer:
        try:
            request = Request(setup.kind)
        except ValueError:
            return self._ask_function(setup, data)
        match request:
            case Request.GET_DESCRIPTOR:
                descriptor = self._description.descriptor(
                    setup.value >> 8, setup.value & 0xFF, setup.index
                )
                return STALL if descriptor is None else Answer(Handshake.ACK, descriptor)
            case Request.GET_DEVICE_STATUS:
                return _status(self._remote_wakeup << 1)  # bit 0: powered by the bus
            case Request.SET_DEVICE_FEATURE | Request.CLEAR_DEVICE_FEATURE:
                return self._set_feature(setup.value, on=request is Request.SET_DEVICE_FEATURE)
            case Request.GET_CONFIGURATION:
                return Answer(Handshake.ACK, bytes((self.configuration,)))
            case Request.SET_CONFIGURATION:
                return ACK if self.set_configuration(setup.value) else STALL
            case Request.GET_INTERFACE_STATUS if self.has_interface(setup.index):
                return _status(0)
            case Request.GET_INTERFACE if self.has_interface(setup.index):
                return Answer(Handshake.ACK, b"\0")
            case Request.SET_INTERFACE:
                return ACK if self.set_alternate(setup.index, setup.value) else STALL
            case Request.GET_ENDPOINT_STATUS if self._has_endpoint(setup.index):
                return _status(setup.index in self._halted)
            case Request.CLEAR_ENDPOINT_FEATURE if (
                self._has_endpoint(setup.index) and setup.value == _ENDPOINT_HALT_FEATURE
            ):
                self.clear_halt(setup.index)
                return ACK
            case Request.SET_ENDPOINT_FEATURE if (
                self.endpoint(setup.index) and setup.value == _ENDPOINT_HALT_FEATURE
            ):
                self.halt(setup.index)
                return ACK
            case _:
                return STALL

    def _ask_function(self, setup: Setup, data: bytes) -> Answer:
        to_interface = setup.request_type & _RECIPIENT_MASK == _INTERFACE_RECIPIENT
        if not to_interface or not self.has_interface(setup.index & 0xFF):
            return STALL
        return self._function.control(setup, data)

    def _set_feature(self, feature: int, *, on: bool) -> Answer:
        if feature != _REMOTE_WAKEUP_FEATURE or not self._description.configuration.remote_wakeup:
            return STALL
        self._remote_wakeup = on
        return ACK

    def _has_endpoint(self, address: int) -> bool:
        return address & ~INPUT == 0 or self.endpoint(address) is not None

    def _begin(self, *, configured: bool) -> None:
        self._configured = configured
        self._halted.clear()
        self._function.reset(self)


def _status(bits: int) -> Answer:
    return Answer(Handshake.ACK, struct.pack("<H", bits))
