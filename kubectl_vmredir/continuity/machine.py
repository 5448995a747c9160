"""Keeps one device session with the usb-host while the usb-guests change.

The machine does no I/O and reads no clock. Its owner turns what happens on both sides into
events, calls :meth:`ContinuityMachine.handle`, and carries out the effects in order before
the next event; both are in :mod:`events`. State of the VM side::

                 LinkOpened           guest's hello          leftovers gone
    HOLDING ----------------> GREETING ----------> SETTLING ---------------> LIVE
       ^                                                                      |
       |       LinkEnded, from any state but BROKEN           DetachRequested |
       +------------------------------------------------ DETACHED <-----------+
                                                             ^                |
                                              DetachRequested|     device gone|
                                                             +----- LOST <----+

    any --(nothing more can be said on this link)--> CUT
    any --(violation, other capabilities)----------> BROKEN

What it does, in the words of the protocol:

* The usb-host is greeted once. Its hello, and the latest interface_info, ep_info and
  device_connect, are kept. On a fresh link nothing is sent before the guest's own hello. The
  first guest's hello goes to the usb-host; a later one is answered here and swallowed, and
  the three packets are replayed. A later guest with other capabilities than the first one's
  makes the owner restart the session: they shape its bytes, and libusbredirhost reads one
  hello only. Capabilities that we do not know are taken out of both hellos.
* While LIVE a chunk of one side goes to the other as it came, the same view. Packets are
  taken out only where they must be, for instance an answer to nothing. To the usb-host go
  whole packets only: the start of one whose rest has not come yet is copied and kept. To the
  guest payload goes as it comes.
* When a link ends, whatever its boundary, what the guest left is undone: data packets
  cancelled, streams stopped and freed, alternate settings put back to 0, as after a replug;
  and a *fence* goes up (:mod:`fence`). What comes before it is down belongs to the former
  guest and is dropped. :class:`Settled` says that it is; then the next guest gets the device.
* A QEMU that has migrated can go on in mid-stream on another link (:class:`LinkSpliced`): it gets
  exactly what it had not read on the old one (:mod:`outgoing`), and nothing is undone.
* The usb-host's device_disconnect is acknowledged here and does not go on: the VM may be
  migrating. :class:`DeviceGone` tells the owner. From then on, or when the usb-host has ended,
  all requests of the guest end with ioerror, those in flight at once, until
  :class:`DetachRequested` unplugs the device. One that comes back is for the next link.

Bounds, and what happens at them: what is kept of an unfinished packet is bounded by the
tracker (1 MiB and a header from the guest, 8 KiB from the usb-host), open requests and bytes
in flight by the ledger; past them the session is restarted. Nothing else is queued here: a
side is not read while the other one takes no more (:mod:`flow`).

A violation is never forwarded. On a link where packets pass, or by the usb-host, it restarts
the session; a guest that was not given the device yet, or no longer has it, only loses its
link. After :class:`RestartSession` the machine swallows everything: the owner closes the link
(through the gate) and the usb-host, and starts over with a new machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.continuity.device import Device
from kubectl_vmredir.continuity.events import (
    CloseLink,
    Consumed,
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
    LinkSpliced,
    PokeWanted,
    RestartSession,
    SendToGuest,
    SendToHost,
    Settled,
)
from kubectl_vmredir.continuity.fence import Fence
from kubectl_vmredir.continuity.flow import Flow
from kubectl_vmredir.continuity.ledger import STATUS_OF, Ledger
from kubectl_vmredir.continuity.outgoing import Outgoing
from kubectl_vmredir.continuity.passage import Passage
from kubectl_vmredir.continuity.poke import Poke
from kubectl_vmredir.continuity.refusal import refuse
from kubectl_vmredir.continuity.resets import Resets
from kubectl_vmredir.continuity.state import State
from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.model import Exact
from kubectl_vmredir.protocol.constants import INPUT, NO_CAPS, Cap, PacketType
from kubectl_vmredir.protocol.control import DeviceDisconnect, DeviceDisconnectAck
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.guard import GuestGuard, HostGuard
from kubectl_vmredir.protocol.packets import encode_packet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.continuity.events import Effect, Event
    from kubectl_vmredir.protocol.packets import Packet
    from kubectl_vmredir.protocol.spans import Span


# Looked up for every chunk or packet: members of an enum are slow to get at.
_HOLDING = State.HOLDING
_LIVE = State.LIVE
_BROKEN = State.BROKEN
_DEAD = (State.CUT, State.BROKEN)
_DEVICELESS = (State.LOST, State.DETACHED)
_UNPLUGGED = (State.GREETING, State.SETTLING)
_SPLICEABLE = (State.LIVE, State.LOST)
_BULK = PacketType.BULK_PACKET
_ISO = PacketType.ISO_PACKET
_INTERRUPT = PacketType.INTERRUPT_PACKET

_HARMLESS = frozenset(
    {
        PacketType.RESET,
        PacketType.CANCEL_DATA_PACKET,
        PacketType.STOP_ISO_STREAM,
        PacketType.STOP_INTERRUPT_RECEIVING,
        PacketType.STOP_BULK_RECEIVING,
        PacketType.FREE_BULK_STREAMS,
        PacketType.FILTER_FILTER,
    }
)
"""What a QEMU may send while it has no device: it cleans up after one that it has lost."""


class ContinuityMachine:
    """Decides what to do with each event; see the module docstring."""

    def __init__(self) -> None:
        self._state = State.HOLDING
        self._ledger = Ledger()
        self._resets = Resets(self._ledger)
        self._device = Device()
        self._fence = Fence(self._ledger, self._device)
        self._flow = Flow()
        self._effects: list[Effect] = []

        self._host = HostGuard()
        self._host_hello: Hello | None = None
        self._from_host = Passage()
        self._host_end = 0  # where the last packet ends that became known; maybe not come yet
        self._host_ended = False

        self._guest = GuestGuard(self._host, None)
        self._guest_hello: Hello | None = None
        self._guest_caps: Cap | None = None  # of the first guest: the usb-host knows no other
        self._from_guest = Passage()
        self._unfinished: Span | None = None  # the guest's last packet, if its rest is to come
        self._out = Outgoing()
        self._poke = Poke(self._out)

        self._attached = False
        self._detaching = False  # our device_disconnect is to be sent, or to be acknowledged
        self._detach_at: int | None = None  # the packet that must end before it can be sent

    @property
    def state(self) -> State:
        """Where the VM side stands."""
        return self._state

    @property
    def settled(self) -> bool:
        """Whether nothing of a former guest is left in the usb-host."""
        return not self._fence.up

    @property
    def attached(self) -> bool:
        """Whether the guest of this link has the device now."""
        return self._attached

    @property
    def sent(self) -> int:
        """Bytes given out as :class:`SendToGuest` on this link."""
        return self._out.sent

    @property
    def resets_forwarded(self) -> int:
        """Resets that guests asked for and the device gets; there are no others."""
        return self._resets.forwarded

    @property
    def can_splice(self) -> bool:
        """Whether another QEMU could go on where the one of this link stops."""
        return self._out.complete and self._state in _SPLICEABLE

    @property
    def open_requests(self) -> int:
        """Requests that the usb-host has not answered."""
        return self._ledger.open

    def handle(self, event: Event) -> Sequence[Effect]:
        """Apply one event and return the effects to carry out, in order.

        What the two sides send is never an error here: a violation of the protocol becomes
        :class:`CloseLink` or :class:`RestartSession`.

        Raises:
            LocalProtocolError: If the event cannot happen in the current state. The machine
                is left as it was.
        """
        self._effects = []
        linked = self._state is not _HOLDING
        match event:
            case HostBytes(data=data) if not self._host_ended:
                effects = self.host_bytes(data)
                return [SendToGuest(data)] if effects is None else effects
            case GuestBytes(data=data) if linked:
                effects = self.guest_bytes(data)
                return [SendToHost(data)] if effects is None else effects
            case LinkOpened(counts=counts) if not linked and not self._host_ended:
                self._open_link(counts=counts)
            case LinkEnded(boundary=Exact(offset=offset)) if offset > self.sent:
                raise LocalProtocolError(f"link ended at {offset}, {self.sent} bytes were sent")
            case LinkEnded() if linked:
                self._end_link()
            case LinkSpliced(offset=offset) if self.can_splice:
                self._splice(offset)
            case Consumed(offset=offset) if linked:
                self._out.note_read(offset)
            case PokeWanted() if linked:
                self._poke.wanted = True
                self._send_poke()
            case HostEnded() if not self._host_ended:
                self._end_host()
            case GuestWritable(writable=writable) if linked:
                self._flow.guest_writable = writable
                self._effects += self._flow.update(self._state)
            case HostWritable(writable=writable):
                self._flow.host_writable = writable
                self._effects += self._flow.update(self._state)
            case DetachRequested():
                self._detach()
            case _:
                raise LocalProtocolError(f"{type(event).__name__} in state {self._state.name}")
        return self._effects

    # -- links and their ends ---------------------------------------------------------------

    def _open_link(self, *, counts: bool) -> None:
        host_caps = None if self._host_hello is None else self._host_hello.caps
        self._guest = GuestGuard(self._host, host_caps)
        self._guest_hello = None
        self._from_guest = Passage()
        self._unfinished = None
        self._out.open(keeps=counts)
        self._poke.forget()
        self._enter(State.GREETING)

    def _splice(self, offset: int) -> None:
        if unread := self._out.splice(offset):
            self._effects.append(SendToGuest(unread))
        self._poke.splice(offset)
        self._flow.forget_link()
        self._effects += self._flow.update(self._state)

    def _end_link(self) -> None:
        if self._state is _LIVE:
            self._undo()
        self._from_host.drop(self._host_end)
        self._attached = False
        if self._detaching:
            self._detached()
        if self._state is not _BROKEN:
            self._flow.forget_link()
            self._enter(State.HOLDING)

    def _end_host(self) -> None:
        self._host_ended = True
        if self._state is not _BROKEN and self._from_host.done < self._host_end:
            self._cut("the usb-host ended within a packet")
        elif self._state is _LIVE and self._attached:
            self._lose_device()
        elif self._state in _UNPLUGGED or self._state is _LIVE:
            self._enter(State.DETACHED)  # there is nothing to give it any more
        self._fence.abandon()
        self._settle()

    def _lose_device(self) -> None:
        """End what the guest has asked for: it must not wait for what nobody does any more."""
        for request in self._ledger:
            self._refuse(request.span)
        self._undo()
        self._effects.append(DeviceGone())
        self._enter(State.LOST)

    def _detach(self) -> None:
        takes = self._attached and self._state in (State.LIVE, State.LOST)
        if self._state is _LIVE:
            self._undo()
        if takes or self._state is _LIVE or self._state in _UNPLUGGED:
            self._enter(State.DETACHED)
        if takes:
            self._attached = False
            self._detaching = True
            self._detach_at = self._host_end
            self._send_disconnect()
        elif not self._detaching:
            self._effects.append(DeviceDetached())

    def _send_disconnect(self) -> None:
        """Unplug the device from the guest, as soon as no packet is half sent."""
        if self._detach_at is None or self._from_host.done < self._detach_at:
            return
        self._detach_at = None
        self._to_guest([self._encode(DeviceDisconnect())])
        if Cap.DEVICE_DISCONNECT_ACK not in self._caps:
            self._detached()

    def _send_poke(self) -> None:
        """Send a poke if one is due, as soon as no packet is half sent."""
        if self._state is not _LIVE:
            self._poke.wanted = False
        elif self._from_host.done >= self._host_end and self._poke.is_due():
            self._to_guest([self._poke.encode(self._caps)])

    def _detached(self) -> None:
        self._detaching = False
        self._detach_at = None
        self._effects.append(DeviceDetached())

    def _cut(self, reason: str) -> None:
        self._effects.append(CloseLink(reason))
        self._enter(State.CUT)

    def _restart(self, reason: str) -> None:
        self._effects = [RestartSession(reason)]
        self._enter(State.BROKEN)

    def _enter(self, state: State) -> None:
        self._state = state
        self._effects += self._flow.update(state)

    # -- between two guests -----------------------------------------------------------------

    def _greet(self) -> None:
        """Exchange the hellos, once both are there."""
        host, guest = self._host_hello, self._guest_hello
        if host is None or guest is None or self._state is not State.GREETING:
            return
        if self._guest_caps is None:
            self._guest_caps = guest.caps
            self._host.agree(guest.caps)
            self._to_guest([self._encode(host)])
            self._to_host([self._encode(guest)])
            self._enter(State.LIVE)
        elif self._guest_caps != guest.caps:
            self._restart(
                f"this QEMU has other usbredir capabilities ({guest.caps:#x}) than the first one "
                f"({self._guest_caps:#x})"
            )
        else:
            self._to_guest([self._encode(host)])
            self._enter(State.SETTLING)
            self._settle()

    def _undo(self) -> None:
        if not self._host_ended:
            self._to_host([self._fence.put_up(self._caps)])

    def _settle(self) -> None:
        """Go on with the next guest once nothing of the former one is left."""
        if self._fence.take_down():
            self._effects.append(Settled())
        if self._state is State.SETTLING and not self._fence.up:
            self._enter(State.LIVE)
            if replay := self._device.replay(self._caps):
                self._to_guest([replay])
                self._attach()

    def _attach(self) -> None:
        self._attached = True
        self._effects.append(DeviceAttached())

    # -- from the usb-host ------------------------------------------------------------------

    def host_bytes(self, chunk: memoryview) -> Sequence[Effect] | None:
        """Do what :meth:`handle` does for :class:`HostBytes`, in the steady state with less ado.

        Returns:
            The effects; None if the chunk goes to the guest as it is, and that is all.

        Raises:
            LocalProtocolError: If the usb-host has ended.
        """
        if self._host_ended:
            raise LocalProtocolError("bytes of a usb-host that has ended")
        self._effects = []
        if self._state is _BROKEN:
            return self._effects
        passage = self._from_host
        passage.feed(chunk)
        try:
            spans = self._host.feed(chunk)
            for span in spans:
                if span.body is None:
                    asked = self._ledger.answer(span) is not None
                    passes = self._state is _LIVE and (asked or _is_stream(span))
                else:
                    passes = self._host_control(span)
                if not passes:
                    self._to_guest(passage.emit(span.offset))
                    passage.drop(span.end)
                if self._fence.up:
                    self._settle()
        except RemoteProtocolError as error:
            self._restart(f"the usb-host broke the protocol: {error}")
            return self._effects
        if spans:
            self._host_end = spans[-1].end
        pieces = passage.close(self._host_end)
        waiting = self._detach_at is not None or self._poke.wanted
        if pieces and pieces[0] is chunk and not self._effects and not waiting:
            self._out.add(chunk)
            return None
        self._to_guest(pieces)
        if self._detach_at is not None:
            self._send_disconnect()
        if self._poke.wanted:
            self._send_poke()
        return self._effects

    def _host_control(self, span: Span) -> bool:
        """Take note of a control packet, and return whether the guest may see it."""
        live = self._state is _LIVE
        match span.type:
            case PacketType.HELLO:
                self._host_hello = Hello.decode(span.body or b"", NO_CAPS)
                self._guest.agree(self._host_hello.caps)
                self._greet()
                return False
            case PacketType.INTERFACE_INFO | PacketType.EP_INFO:
                self._device.describe(span)
                return live
            case PacketType.DEVICE_CONNECT:
                self._device.describe(span)
                if live and not self._attached:
                    self._to_guest(self._from_host.emit(span.end))
                    self._attach()
                    return True
                return False
            case PacketType.DEVICE_DISCONNECT:
                self._device.forget()
                if Cap.DEVICE_DISCONNECT_ACK in self._caps:
                    self._to_host([self._encode(DeviceDisconnectAck())])
                if live and self._attached:
                    self._to_guest(self._from_host.emit(span.offset))
                    self._lose_device()
                return False
            case (
                PacketType.CONFIGURATION_STATUS
                | PacketType.ALT_SETTING_STATUS
                | PacketType.BULK_STREAMS_STATUS
            ):
                self._device.status(span)
                request = self._ledger.answer(span)
                self._fence.reach(request)
                return live and request is not None
            case _:
                return live

    # -- from the guest ---------------------------------------------------------------------

    def guest_bytes(self, chunk: memoryview) -> Sequence[Effect] | None:
        """Do what :meth:`handle` does for :class:`GuestBytes`, in the steady state with less ado.

        Returns:
            The effects; None if the chunk goes to the usb-host as it is, and that is all.

        Raises:
            LocalProtocolError: If there is no link.
        """
        if self._state is _HOLDING:
            raise LocalProtocolError("bytes of a guest without a link")
        self._effects = []
        if self._state in _DEAD:
            return self._effects
        passage = self._from_guest
        passage.feed(chunk)
        resets = self._resets.forwarded
        try:
            if self._state in _DEVICELESS:
                spans = self._guest.follow(chunk)  # they go nowhere
            else:
                spans = self._guest.feed(chunk)
            if self._unfinished is not None:
                spans.insert(0, self._unfinished)
                self._unfinished = None
            end = spans[-1].end if spans else 0
            if end > passage.offset:
                self._unfinished = spans.pop()
                end = self._unfinished.offset
            for span in spans:
                if span.body is None and self._state is _LIVE:
                    if span.type is not _ISO:
                        self._ledger.ask(span)
                elif not self._guest_packet(span):
                    self._to_host(passage.emit(span.offset))
                    passage.drop(span.end)
        except RemoteProtocolError as error:
            reason = f"the guest's QEMU broke the protocol: {error}"
            if self._state is _LIVE:
                self._restart(reason)
                self._resets.forwarded = resets  # nothing of the chunk goes on
            else:
                self._cut(reason)
            return self._effects
        pieces = passage.close(end)
        if pieces and pieces[0] is chunk and not self._effects:
            return None
        self._to_host(pieces)
        return self._effects

    def _guest_packet(self, span: Span) -> bool:
        """Take note of a whole packet, and return whether the usb-host may see it."""
        match span.type:
            case PacketType.HELLO:
                self._guest_hello = Hello.decode(span.body or b"", NO_CAPS)
                self._greet()
            case PacketType.DEVICE_DISCONNECT_ACK:
                if not self._detaching or self._detach_at is not None:
                    raise RemoteProtocolError("device_disconnect_ack of no device_disconnect")
                self._detached()
            case PacketType.FILTER_REJECT:
                self._to_host(self._from_guest.emit(span.offset))  # before it is undone
                self._rejected()
            case _ if self._state is _LIVE:
                self._command(span)
                return True
            case _ if self._state is State.LOST:
                self._refuse(span)
            case kind if self._state is State.SETTLING and kind not in _HARMLESS:
                raise RemoteProtocolError(f"{kind.label} before device_connect")
            case _:
                pass
        return False

    def _command(self, span: Span) -> None:
        self._resets.command(span)
        if span.type is PacketType.CANCEL_DATA_PACKET:
            self._ledger.cancel(span.id)
        elif span.type in STATUS_OF:
            self._ledger.ask(span)
        self._device.command(span)

    def _rejected(self) -> None:
        if self._state is State.DETACHED:
            return
        if self._state is _LIVE:
            self._undo()
        self._attached = False
        self._effects.append(DeviceRejected())
        self._enter(State.DETACHED)

    def _refuse(self, span: Span) -> None:
        configuration = self._device.configuration
        if answer := refuse(span, configuration=configuration, caps=self._caps):
            self._to_guest([answer])

    # -- what goes out ----------------------------------------------------------------------

    @property
    def _caps(self) -> Cap:
        return self._host.caps or NO_CAPS

    def _encode(self, packet: Packet, packet_id: int = 0) -> bytes:
        return encode_packet(packet, packet_id=packet_id, caps=self._caps)

    def _to_guest(self, pieces: Sequence[memoryview | bytes]) -> None:
        for data in pieces:
            self._out.add(data)
            self._effects.append(SendToGuest(data))

    def _to_host(self, pieces: Sequence[memoryview | bytes]) -> None:
        for data in pieces:
            self._effects.append(SendToHost(data))


def _is_stream(span: Span) -> bool:
    """Return whether this data packet comes unasked."""
    return span.type > _BULK and (span.type is not _INTERRUPT or bool(span.use & INPUT))
