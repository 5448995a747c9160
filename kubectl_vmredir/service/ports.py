"""What the service needs from the outside, and the values that cross the border.

Adapters (`usb`, `kubevirt`, `lab`) implement these protocols; `bootstrap` puts them together.
All methods are called in one event loop, and listeners are called back in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.model import (
        Boundary,
        DeviceUse,
        Identity,
        LocalDevice,
        MigrationUid,
        Route,
        VmimView,
        VmiRef,
        VmiUid,
        VmiView,
    )

# -- the device side ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UsbHostSockets:
    """Our ends of the two sockets of a usb-host (docs/architecture.md).

    Both are connected stream sockets, non-blocking. The receiver closes them; closing ``data``
    tells the usb-host to give the device back in an orderly way.

    Attributes:
        data: usbredir bytes, as libusbredirhost speaks.
        control: JSON lines. From the usb-host ``{"event": "claimed", "drivers": [...]}``,
            ``{"event": "lost", "reason": str}``, ``{"event": "error", "message": str}``,
            ``{"event": "unsafe", "finding": {"danger": str, "message": str, "hint": str}}``;
            to it ``{"request": "stop"}``.
    """

    data: socket.socket
    control: socket.socket


class DeviceSource(Protocol):
    """The USB devices that can be redirected."""

    async def devices(self) -> Sequence[LocalDevice]:
        """Return the devices that are plugged in now."""

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever :meth:`devices` may have changed, until closed."""

    async def use(self, device: LocalDevice) -> DeviceUse:
        """Look how this machine uses the device, and what speaks against taking it.

        Raises:
            DeviceNotFound: If it is not plugged in.
        """

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        """Start a usb-host for exactly this device. Whether it is safe was asked before.

        Raises:
            DeviceNotFound: If it is not plugged in.
            DeviceBusy: If somebody else has it.
            DevicePermissionDenied: If this user may not open it.
            UsbError: If it cannot be had for another reason.
        """


# -- the VM side ----------------------------------------------------------------------------


class LinkListener(Protocol):
    """Hears what happens on a link; called in the event loop, must not block."""

    def link_received(self, data: memoryview) -> None:
        """Bytes came from QEMU, at least one. The view is valid during the call only."""

    def link_consumed(self, offset: int) -> None:
        """QEMU is known to have read so many of our bytes. Never called on the api route."""

    def link_writable(self, writable: bool) -> None:
        """The write buffer passed its high (False) or low (True) water mark."""

    def link_pong(self, round_trip_s: float) -> None:
        """The answer to :meth:`Link.ping` came."""

    def link_ended(self, boundary: Boundary, cause: VmRedirError) -> None:
        """The link is gone, whoever ended it; called once, and nothing after it."""


class Link(Protocol):
    """One open byte stream to one QEMU. Only its owner closes it, through the gate."""

    @property
    def route(self) -> Route:
        """How it was dialed."""

    @property
    def sent(self) -> int:
        """Bytes handed to :meth:`send` so far: the offset that boundaries count in."""

    def send(self, data: bytes | memoryview) -> None:
        """Queue bytes for QEMU; the view may be reused after the call.

        Silently dropped after the link has ended.
        """

    def pause_reading(self) -> None:
        """Stop :meth:`LinkListener.link_received` until :meth:`resume_reading`."""

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`."""

    def ping(self) -> None:
        """Ask the far end for a sign of life; answered by :meth:`LinkListener.link_pong`."""

    async def close(self) -> None:
        """End the link in an orderly way; bounded in time, safe to call again."""


class Dialer(Protocol):
    """Opens links to VMIs."""

    async def dial(self, vmi: VmiRef, listener: LinkListener, ask: Callable[[], None]) -> Link:
        """Open a link over the api route; KubeVirt chooses the slot. The caller owns it.

        The listener may be called before this returns. Bounded in time: a dial that is given up
        early may take a slot with it, so how long that is, is for the dialer to say.

        Args:
            vmi: Where to.
            listener: Hears what happens on the link.
            ask: Called right before each try, when all that it takes is at hand: to get
                credentials may last as long as a login does. What it raises ends the dial.

        Raises:
            VmRedirError: If it cannot be opened; ``retryable`` says whether to try again.
        """


@dataclass(frozen=True, slots=True)
class Launcher:
    """A pod in which a QEMU of a VMI runs.

    Attributes:
        vmi: Whose it is; the pod is in the same namespace.
        uid: Which life of the VM.
        pod: Name of the pod.
    """

    vmi: VmiRef
    uid: VmiUid
    pod: str


@dataclass(frozen=True, slots=True)
class Launchers:
    """The pods of a VMI in which commands can be run now.

    Attributes:
        current: Where the guest runs as far as ``nodeName`` tells: for as long as a migration
            is under way that is its source. None if there is none.
        target: Of the migration that was asked about; None if it is not there yet, or any more.
    """

    current: Launcher | None
    target: Launcher | None


@dataclass(frozen=True, slots=True)
class SlotOccupancy:
    """Which slots of a QEMU have a client, whoever that is.

    Attributes:
        taken: By index; None where nobody knows.
        doubt: Why something is not known; empty if all is. May hold untrusted text.
    """

    taken: tuple[bool | None, ...]
    doubt: str = ""


class PodRoute(Protocol):
    """The pod route: a QEMU's sockets, by commands in its launcher pod."""

    async def launchers(self, vmi: VmiView, migration: MigrationUid | None) -> Launchers:
        """Find the pods of a VMI.

        Args:
            vmi: The VM.
            migration: Whose target is wanted, if one is.

        Raises:
            ClusterError: If they cannot be listed.
        """

    async def occupancy(self, launcher: Launcher) -> SlotOccupancy:
        """Return which slots are taken; what the pod cannot or may not tell is unknown.

        Raises:
            ClusterError: If the cluster cannot be asked at all.
        """

    async def dial(
        self, launcher: Launcher, slot: int, listener: LinkListener, ask: Callable[[], None]
    ) -> Link:
        """Open a link to one slot of one QEMU. The caller owns it.

        It is open when the socket is connected to. That is so at a taken slot as well, where it
        waits unheard: only QEMU's hello proves a fresh link. Else as :meth:`Dialer.dial`.

        Args:
            launcher: Where.
            slot: Index of the slot.
            listener: Hears what happens on the link; nothing if it cannot be opened.
            ask: See there.

        Raises:
            VmRedirError: If it cannot be opened; ``retryable`` says whether to try again.
        """


# -- the cluster ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VmiSeen:
    """The VMI is there, and looks so now. May repeat, may skip what came in between."""

    vmi: VmiView


@dataclass(frozen=True, slots=True)
class VmiGone:
    """The VMI is no longer there."""

    vmi: VmiView
    """As it was last seen."""


@dataclass(frozen=True, slots=True)
class VmimSeen:
    """The migration object is there, and looks so now."""

    vmim: VmimView


@dataclass(frozen=True, slots=True)
class VmimGone:
    """The migration object is no longer there."""

    vmim: VmimView


@dataclass(frozen=True, slots=True)
class WatchLost:
    """What is known is old from now on; events go on by themselves when the watch is back."""

    cause: VmRedirError


@dataclass(frozen=True, slots=True)
class WatchRestored:
    """What is known is true again: all that changed has been told, or is just coming.

    What vanished meanwhile has been told as gone.
    """


ClusterEvent = VmiSeen | VmiGone | VmimSeen | VmimGone | WatchLost | WatchRestored


class Cluster(Protocol):
    """VMIs and migrations of one context of a kubeconfig, as one user sees them."""

    @property
    def default_namespace(self) -> str:
        """The namespace of the context."""

    async def vmis(self, namespace: str | None, selector: str = "") -> Sequence[VmiView]:
        """List VMIs of a namespace, or of all (None), chosen by a label selector.

        Raises:
            ClusterError: If they cannot be listed.
        """

    async def ready(self) -> None:
        """Return when there are credentials to ask with; may last as long as a login does.

        Raises:
            ClusterError: If there are none.
        """

    async def vmi(self, ref: VmiRef) -> VmiView:
        """Return one VMI.

        Raises:
            VmiNotFound: If there is none.
            ClusterError: If it cannot be had.
        """

    def watch(
        self, namespace: str, vmi: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[ClusterEvent]]:
        """Watch the VMIs (or the one named) and the migrations of a namespace.

        Tells first all that exists, then :class:`WatchRestored`, then each change. Never ends
        and never raises on a retryable trouble: it says :class:`WatchLost` and comes back.

        Raises:
            ClusterError: While iterating, if the trouble cannot be cured by waiting.
        """

    def watch_vmis(
        self, namespace: str | None, selector: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[ClusterEvent]]:
        """Watch VMIs of a namespace, or of all (None), chosen by a label selector.

        As :meth:`watch`, but for migrations, of which nothing is told. Who may not see all
        namespaces sees the context's.

        Raises:
            ClusterError: On entering, if it cannot be asked what may be seen; and as there.
        """

    async def migrate(self, ref: VmiRef) -> VmimView:
        """Ask for a live migration, as ``virtctl migrate`` does.

        Raises:
            ClusterError: If the cluster refuses.
        """

    async def may_migrate(self, namespace: str) -> bool:
        """Return whether the user may migrate the VMs of a namespace.

        Raises:
            ClusterError: If it cannot be asked.
        """

    async def name_slots(self, ref: VmiRef, names: Sequence[str]) -> bool:
        """Give the slots of a VMI these names, and those of its VirtualMachine if there is one.

        Returns:
            Whether there is one.

        Raises:
            VmiNotFound: If there is neither.
            ClusterError: If the cluster refuses.
        """

    async def vmi_yaml(self, ref: VmiRef) -> str:
        """Return a VMI as the cluster keeps it, as YAML; untrusted.

        Raises:
            VmiNotFound: If there is none.
            ClusterError: If it cannot be had.
        """

    async def identity(self) -> Identity:
        """Return who we are to the cluster, with the credentials as they are now."""
