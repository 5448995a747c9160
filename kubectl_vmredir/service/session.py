"""One device session: usb-host, continuity and link of a claimed device.

A redirection's task borrows a session and tells it what to do; what goes on by itself, the
bytes above all, needs no task. So a task that ends or dies changes nothing here: the link stays
open, the device stays claimed, and the next borrower finds both.

Whatever touches a VM asks the gate here, right before it is done: dialing, the first bytes on a
link, taking the device from the guest, closing a link. What must not stop half-way when its
caller is cancelled is the owner's work (`sessions.py`), which goes on to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

from kubectl_vmredir.continuity.events import (
    CloseLink,
    DetachRequested,
    DeviceAttached,
    DeviceDetached,
    DeviceGone,
    DeviceRejected,
    GuestBytes,
    GuestWritable,
    HostBytes,
    HostEnded,
    HostWritable,
    LinkEnded,
    LinkOpened,
    ReadGuest,
    ReadHost,
    RestartSession,
    SendToGuest,
    SendToHost,
    Settled,
)
from kubectl_vmredir.continuity.state import State
from kubectl_vmredir.errors import LocalProtocolError, VmRedirError
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.gate import Act, Wait
from kubectl_vmredir.service.links import LinkEnd, LinkEndpoint
from kubectl_vmredir.service.usbhost import UsbHost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_vmredir.continuity.events import Effect, Event
    from kubectl_vmredir.continuity.machine import ContinuityMachine
    from kubectl_vmredir.model import Boundary, LocalDevice, RedirectionId
    from kubectl_vmredir.service.bulkhead import Finisher
    from kubectl_vmredir.service.gate import Gate
    from kubectl_vmredir.service.links import Destination
    from kubectl_vmredir.service.ports import Dialer

logger = logging.getLogger(__name__)

DETACH_TIMEOUT_S: Final = 3.0
"""How long the guest may take to let go of a device that is gone."""

BATCH_BYTES: Final = 16 * 1024
"""Packets for QEMU that come at once and are not longer are sent as one message."""


class _NotNow(VmRedirError):
    """The gate has changed its mind since the dial was wanted."""


class DeviceSession:
    """The one long conversation with the usb-host of a device; see the module docstring.

    What happens becomes an attribute, and rings the borrower's bell.

    Attributes:
        device: The device.
        holder: The redirection that it serves, by whichever task.
        usb_host: Has claimed it.
        endpoint: Our end of the link that is open; None if there is none.
        last_end: How the last link ended; None if there was none.
        held_for: Why QEMU's hello is not answered yet; None if it is, or has not come.
        rejected: Whether the QEMU of this link refused it.
        first_sent_at: When the first byte went out on the latest link, on the loop's clock.
        close_wanted: Why the link is of no use; empty if it is of use.
        restart_wanted: Why the session must start over; empty if it need not.
        lost: Why the usb-host is gone; empty while it is there. May be untrusted text.
        bell: The borrower's.
        bytes_up: Bytes sent to VMs.
        bytes_down: Bytes received from VMs.
        round_trip_s: Latest answer to a ping on this link; None if there was none.
        pongs: Answers to pings, on all links.
    """

    def __init__(
        self,
        device: LocalDevice,
        holder: RedirectionId,
        gate: Gate,
        machine: ContinuityMachine,
        finisher: Finisher,
    ) -> None:
        self.device = device
        self.holder = holder
        self.usb_host = UsbHost(device, self)
        self.endpoint: LinkEndpoint | None = None
        self.last_end: LinkEnd | None = None
        self.held_for: Wait | None = None
        self.rejected = False
        self.first_sent_at: float | None = None
        self.close_wanted = ""
        self.restart_wanted = ""
        self.lost = ""
        self.bytes_up = 0
        self.bytes_down = 0
        self.round_trip_s: float | None = None
        self.pongs = 0
        self.bell = Bell()
        self._detached = asyncio.Event()
        self._gate = gate
        self._machine = machine
        self._finisher = finisher
        self._dialing = f"dial-{device.bus_device}"
        self._closing = f"close-{device.bus_device}"
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._carrying_out = False

    @property
    def attached(self) -> bool:
        """Whether the guest of the link has the device."""
        return self._machine.attached

    @property
    def at_risk(self) -> bool:
        """Whether a VM is harmed if the process ends at the wrong time: by a link, or a dial."""
        return self.endpoint is not None or self._finisher.under_way(self._dialing)

    @property
    def resets_forwarded(self) -> int:
        """Resets of the device that VMs asked for, and got."""
        return self._machine.resets_forwarded

    @property
    def settled(self) -> bool:
        """Whether nothing is left of the former guest."""
        return self._machine.settled

    def lend(self, bell: Bell) -> None:
        """Ring this bell from now on; a former borrower hears nothing more."""
        self.bell = bell

    async def dial(self, dialer: Dialer, to: Destination) -> None:
        """Open a link, if that is allowed now; or join a former borrower's dial under way.

        Raises:
            VmRedirError: If the VM could not be reached.
        """
        assert self.endpoint is None, "dialed with a link open"
        await self._finisher.finish(self._dialing, lambda: self._dial(dialer, to))

    async def linked(self) -> bool:
        """Return whether a link is open; waits for one that is just being dialed."""
        await self._finisher.join(self._dialing)
        return self.endpoint is not None

    def attach(self) -> None:
        """Answer QEMU's hello that was held, if it is allowed now."""
        if self.endpoint is None or self.held_for is None:
            return
        self.held_for = self._objection(Act.ATTACH, self.endpoint.to)
        if self.held_for is None:
            self.endpoint.release(self._loop.time())

    async def detach(self) -> Wait | None:
        """Take the device from the guest, in usbredir's orderly way.

        Returns:
            What to wait for, if it is not allowed now.
        """
        if self.endpoint is None or not self.attached:
            return None
        if (wait := self._objection(Act.REPLUG, self.endpoint.to)) is not None:
            return wait
        self._detached.clear()
        self._feed(DetachRequested())
        try:
            async with asyncio.timeout(DETACH_TIMEOUT_S):
                await self._detached.wait()
        except TimeoutError:
            logger.warning("the guest does not let go of device %s", self.device)
        return None

    async def close_link(self, why: str) -> Wait | None:
        """Close the link; the device stays claimed.

        Args:
            why: For people.

        Returns:
            What to wait for, if it is not allowed now.
        """
        if (endpoint := self.endpoint) is None:
            return None
        await self._finisher.finish(self._closing, lambda: self._close(endpoint, why))
        return self._objection(Act.CLOSE, endpoint.to) if self.endpoint is endpoint else None

    def start_over(self, reason: str) -> None:
        """Give this session up; its borrower closes it and claims the device anew."""
        self.restart_wanted = self.restart_wanted or reason
        self.bell.ring()

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self.endpoint is not None and self.endpoint.link is not None:
            self.endpoint.link.ping()

    # -- HostListener -----------------------------------------------------------------------

    def host_received(self, data: memoryview) -> None:
        """Bytes came from the usb-host."""
        if self._carrying_out:
            self._feed(HostBytes(data))
        else:
            self._relay(data, self._machine.host_bytes, self._send_to_guest)

    def host_writable(self, writable: bool) -> None:
        """The write buffer to the usb-host passed a water mark."""
        self._feed(HostWritable(writable))

    def host_ended(self, reason: str) -> None:
        """The usb-host is gone, or its device."""
        self.lost = reason
        self._feed(HostEnded())
        self.bell.ring()

    # -- LinkOwner --------------------------------------------------------------------------

    def link_greeted(self) -> None:
        """QEMU's hello came: a device is plugged in by answering it."""
        assert self.endpoint is not None, "greeted on no link"
        if self.lost:
            return
        self.held_for = self._objection(Act.ATTACH, self.endpoint.to)
        if self.held_for is None:
            self.endpoint.release(self._loop.time())
        self.bell.ring()

    def link_bytes(self, data: memoryview) -> None:
        """QEMU sent bytes."""
        self.bytes_down += len(data)
        if self._carrying_out:
            self._feed(GuestBytes(data))
        else:
            self._relay(data, self._machine.guest_bytes, self.usb_host.write)

    def link_writable(self, writable: bool) -> None:
        """The write buffer of the link passed a water mark."""
        if self._machine.state is not State.HOLDING:
            self._feed(GuestWritable(writable))

    def link_answered(self, round_trip_s: float) -> None:
        """A ping was answered."""
        self.round_trip_s = round_trip_s
        self.pongs += 1
        self.bell.ring()

    def link_unwanted(self, reason: str) -> None:
        """The link is of no use."""
        self.close_wanted = reason
        self.bell.ring()

    def link_over(self, boundary: Boundary, cause: VmRedirError) -> None:
        """The link is gone."""
        assert self.endpoint is not None, "a link ended twice"
        to = self.endpoint.to
        self.last_end = LinkEnd(self._loop.time(), to, self.attached, cause)
        self.endpoint = self.held_for = self.round_trip_s = None
        self.close_wanted = ""
        if self._machine.state is not State.HOLDING:
            self._feed(LinkEnded(boundary))
        self.bell.ring()

    # -- the work itself --------------------------------------------------------------------

    def _objection(self, act: Act, to: Destination) -> Wait | None:
        greeted = self.endpoint is not None and self.endpoint.greeted
        verdict = self._gate.may(act, to.vmi, self._loop.time(), greeted=greeted)
        return verdict if isinstance(verdict, Wait) else None

    async def _close(self, endpoint: LinkEndpoint, why: str) -> None:
        if self._objection(Act.CLOSE, endpoint.to) is None:
            await endpoint.close(why)

    async def _dial(self, dialer: Dialer, to: Destination) -> None:
        def ask() -> None:
            if (wait := self._objection(Act.DIAL, to)) is not None:
                raise _NotNow(f"waiting for {wait.reason}")

        endpoint = LinkEndpoint(self, to)
        try:
            link = await dialer.dial(to.vmi, endpoint, ask)
        except _NotNow as objection:
            logger.info("device %s is not linked: %s", self.device, objection)
            return
        # No await from here on: a link that is open has an owner.
        endpoint.opened(link, self._loop.time())
        self.endpoint = endpoint
        self.rejected = False
        self.first_sent_at = None
        if not self.lost:
            self._feed(LinkOpened())
        endpoint.catch_up()

    def _feed(self, event: Event) -> None:
        """Have the machine decide on an event, and do what it says.

        A side may call back while it is written to; that event waits for its turn.
        """
        if self._carrying_out:
            self._events.append(_kept(event))
            return
        self._carrying_out = True
        try:
            self._carry_out(self._machine.handle(event))
            self._catch_up()
        except LocalProtocolError as bug:
            self._break(bug)
        finally:
            self._carrying_out = False

    def _relay(
        self,
        chunk: memoryview,
        take: Callable[[memoryview], Sequence[Effect] | None],
        send: Callable[[list[memoryview | bytes]], None],
    ) -> None:
        """Do as :meth:`_feed` with bytes: as a rule they go on as they are."""
        self._carrying_out = True
        try:
            if (effects := take(chunk)) is None:
                send([chunk])
            else:
                self._carry_out(effects)
            if self._events:
                self._catch_up()
        except LocalProtocolError as bug:
            self._break(bug)
        finally:
            self._carrying_out = False

    def _catch_up(self) -> None:
        while self._events:
            self._carry_out(self._machine.handle(self._events.popleft()))

    def _break(self, bug: LocalProtocolError) -> None:
        logger.error("session of %s", self.device, exc_info=bug)
        self.start_over(f"internal error: {bug}")

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        to_guest: list[memoryview | bytes] = []
        to_host: list[memoryview | bytes] = []
        for effect in effects:
            match effect:
                case SendToGuest(data=data):
                    to_guest.append(data)
                case SendToHost(data=data):
                    to_host.append(data)
                case ReadHost(enabled=enabled):
                    self.usb_host.read(enabled)
                case ReadGuest(enabled=enabled):
                    if self.endpoint is not None:
                        self.endpoint.read(enabled)
                case CloseLink(reason=reason):
                    self.link_unwanted(reason)
                case RestartSession(reason=reason):
                    self.start_over(reason)
                case DeviceDetached():
                    self._detached.set()
                case DeviceRejected():
                    self.rejected = True
                    self.bell.ring()
                case DeviceGone():
                    self.lost = self.lost or "it was unplugged"
                    self.bell.ring()
                case DeviceAttached() | Settled():
                    self.bell.ring()
                case _:
                    assert_never(effect)
        if to_guest:
            self._send_to_guest(to_guest)
        if to_host:
            self.usb_host.write(to_host)

    def _send_to_guest(self, chunks: list[memoryview | bytes]) -> None:
        endpoint = self.endpoint
        if endpoint is None or endpoint.link is None:
            return
        if endpoint.released_at is None and (wait := self._objection(Act.ATTACH, endpoint.to)):
            self.start_over(f"internal error: would speak before {wait.reason}")
            return
        if self.first_sent_at is None:
            self.first_sent_at = self._loop.time()
        if len(chunks) > 1 and sum(map(len, chunks)) <= BATCH_BYTES:
            chunks = [b"".join(chunks)]
        for chunk in chunks:
            self.bytes_up += len(chunk)
            endpoint.link.send(chunk)


def _kept(event: Event) -> Event:
    """Return an event that may be looked at later: its bytes are copied."""
    match event:
        case HostBytes(data=data):
            return HostBytes(memoryview(bytes(data)))
        case GuestBytes(data=data):
            return GuestBytes(memoryview(bytes(data)))
        case _:
            return event
