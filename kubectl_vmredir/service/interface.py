"""The service interface: all that a user interface may know of redirections.

The service in this process implements it (`service.py`), and so can a client of a service in
another process: whoever uses it cannot tell. All values are frozen, and have a JSON form
through :func:`kubectl_vmredir.model.to_json`.

Texts marked untrusted come from a device or the cluster: they are never markup, and control
characters in them are escaped by whoever shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from kubectl_vmredir.model import HandoverKind, RedirectionState, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.model import (
        DeviceSelector,
        DeviceUse,
        LocalDevice,
        RedirectionId,
        VmiRef,
        VmiView,
    )

SHUTDOWN_WAIT_S: Final = 60.0
"""How long a shutdown waits for the gate before it leaves the decision to the user."""

TRIAL_S: Final = 30.0
"""How long the only keyboard or pointer stays in a VM if nobody confirms that it may."""


@dataclass(frozen=True, slots=True)
class BindRequest:
    """The wish for a redirection: this device in a slot of that VM.

    Attributes:
        device: Which device.
        vmi: Which VM.
        slot: Name of the slot; None for the first that holds no redirection of ours. If the VM is
            not there yet it is chosen, or checked, when it is first seen.
        force: Whether findings of danger ``force`` are accepted.
        allow_keyboard: Whether the only keyboard or pointer of this machine may be taken. It
            comes back after :data:`TRIAL_S` unless :meth:`RedirectionService.confirm` is called.
    """

    device: DeviceSelector
    vmi: VmiRef
    slot: str | None = None
    force: bool = False
    allow_keyboard: bool = False


@dataclass(frozen=True, slots=True)
class BindPlan:
    """What a bind would do: it was looked at, and nothing was done.

    Attributes:
        device: The device.
        use: How this machine uses it, with what speaks against taking it.
        vmi: The VM.
        slot: Name of the slot that it would get; empty if there is none for it, or not yet.
        handover: What to expect at a migration.
        handover_doubt: Why nothing better; empty for seamless.
        notes: What the story would say of taking it, for people; may hold untrusted text.
        trouble: What would forbid it; None if it would be done.
        waiting_for: What it would wait for before it takes the device, for people; empty if it
            would take it at once. May hold untrusted text.
    """

    device: LocalDevice
    use: DeviceUse
    vmi: VmiRef
    slot: str
    handover: HandoverKind
    handover_doubt: str
    notes: tuple[str, ...]
    trouble: Trouble | None
    waiting_for: str = ""


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot of a VM, as far as we know: who else uses it cannot be seen.

    Attributes:
        name: Its name.
        redirection: The redirection of ours that it is for.
        device: Selector of that redirection's device.
    """

    name: str
    redirection: RedirectionId | None = None
    device: str = ""


@dataclass(frozen=True, slots=True)
class VmiSlots:
    """A VM and its slots, in order of their index; none without client passthrough."""

    vmi: VmiView
    slots: tuple[SlotView, ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error, as a value.

    Attributes:
        kind: Name of the error's class; ``InternalError`` for a bug of ours.
        message: One clause; may hold untrusted text.
        hint: What the user can do about it; empty if there is nothing.
        exit_code: Exit status of a command that ends because of it.
    """

    kind: str
    message: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, error: VmRedirError) -> Trouble:
        """Return the value form of an error."""
        return cls(type(error).__name__, str(error), error.hint or "", int(error.exit_code))


@dataclass(frozen=True, slots=True)
class Handover:
    """The device session went from one QEMU to the next one.

    Attributes:
        kind: What the guest saw of it.
        link_gap_ms: From the last byte that the source consumed to the first that the target
            accepted. Cold: from the end of the old link to our first byte after the hello of
            the new one.
        source_node: Where the VM was.
        target_node: Where it is now.
    """

    kind: HandoverKind
    link_gap_ms: float
    source_node: str
    target_node: str


@dataclass(frozen=True, slots=True)
class StoryEvent:
    """One line of what happened to a redirection.

    Attributes:
        time: Seconds since the epoch.
        state: The state since then.
        cause: Why, for people; may hold untrusted text.
        handover: The handover that this is the end of.
    """

    time: float
    state: RedirectionState
    cause: str
    handover: Handover | None = None


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a redirection has moved, and how well.

    Attributes:
        bytes_up: From the device to the VM.
        bytes_down: From the VM to the device.
        migrations_survived: Migrations after which the device came back.
        last_outage_ms: How long the last time without a link was; None if there was none.
        round_trip_ms: Latest round trip of a ping; None if none was answered on this link.
        round_trip_to: Which hop answers the pings.
        resets_forwarded: Resets that the VM asked for, and the device got.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    migrations_survived: int = 0
    last_outage_ms: float | None = None
    round_trip_ms: float | None = None
    round_trip_to: str = ""
    resets_forwarded: int = 0


@dataclass(frozen=True, slots=True)
class RedirectionStatus:
    """A redirection as it is now.

    Attributes:
        id: Names it.
        device: Selector of exactly its device.
        description: What the device calls itself; untrusted.
        vmi: The VM.
        slot: Name of the slot. Over the api route a label that we keep: which channel of the
            VM it is cannot be known. Empty until it is chosen, when the VM is first seen.
        state: Where it stands.
        reason: Why, or what is waited for, for people; may hold untrusted text.
        trouble: The error behind it, for ``blocked``, or the latest while trying again.
        route: How its links are dialed.
        node: Where the VM runs; empty while unknown.
        handover: What to expect at the next migration.
        handover_doubt: Why nothing better; empty for seamless.
        trial_ends: When the only keyboard or pointer comes back unless confirmed, in seconds
            since the epoch; None if nothing is on trial.
        numbers: Counters.
    """

    id: RedirectionId
    device: str
    description: str
    vmi: VmiRef
    slot: str
    state: RedirectionState
    reason: str = ""
    trouble: Trouble | None = None
    route: Route = Route.API
    node: str = ""
    handover: HandoverKind = HandoverKind.COLD
    handover_doubt: str = ""
    trial_ends: float | None = None
    numbers: Numbers = Numbers()


@dataclass(frozen=True, slots=True)
class RedirectionView:
    """A redirection with its latest story, oldest event first."""

    status: RedirectionStatus
    story: tuple[StoryEvent, ...]


@dataclass(frozen=True, slots=True)
class ExitRisk:
    """A redirection that cannot be ended without risk just now.

    Attributes:
        id: Names it.
        vmi: The VM at risk.
        slot: Name of the slot.
        waits_for: What would make it safe, for people; may hold untrusted text.
        harm: What ending it now may do.
    """

    id: RedirectionId
    vmi: VmiRef
    slot: str
    waits_for: str
    harm: str


# -- what a subscriber hears ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All there is. The first thing that a subscriber hears; again if it was too slow.

    Attributes:
        redirections: Oldest first.
        closing: What a shutdown waits for; None while there is none.
    """

    redirections: tuple[RedirectionView, ...]
    closing: tuple[ExitRisk, ...] | None = None


@dataclass(frozen=True, slots=True)
class RedirectionChanged:
    """A redirection is new, or looks different now."""

    status: RedirectionStatus


@dataclass(frozen=True, slots=True)
class StoryAdded:
    """Something happened to a redirection."""

    id: RedirectionId
    event: StoryEvent


@dataclass(frozen=True, slots=True)
class NumbersSampled:
    """Counters of a redirection; at most 10 times a second, only if asked for."""

    id: RedirectionId
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class RedirectionEnded:
    """A redirection is no more."""

    id: RedirectionId


@dataclass(frozen=True, slots=True)
class ClosingWaits:
    """The service is shutting down, and waits for these; none left: it is about to end."""

    risks: tuple[ExitRisk, ...]


Change = (
    Snapshot | RedirectionChanged | StoryAdded | NumbersSampled | RedirectionEnded | ClosingWaits
)


# -- what a watcher of devices hears --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """A local device, and how this machine uses it."""

    device: LocalDevice
    use: DeviceUse


@dataclass(frozen=True, slots=True)
class DevicesSeen:
    """All local devices that are plugged in now.

    Attributes:
        devices: As they are listed; none if there is trouble.
        trouble: Why they cannot be listed; None if they can.
    """

    devices: tuple[DeviceSeen, ...]
    trouble: Trouble | None = None


# -- what a watcher of VMs hears ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VmisSeen:
    """All VMs that are watched, and their slots.

    The first that a watcher hears if the cluster answers; again after :class:`VmisUncertain`.
    """

    vmis: tuple[VmiSlots, ...]


@dataclass(frozen=True, slots=True)
class VmiChanged:
    """A VM is new, or looks different now."""

    vmi: VmiSlots


@dataclass(frozen=True, slots=True)
class VmiRemoved:
    """A VM is no longer there, or no longer one of those that are watched."""

    vmi: VmiRef


@dataclass(frozen=True, slots=True)
class VmisUncertain:
    """There is no news for the time being: what was heard may be old."""

    cause: Trouble


VmiNews = VmisSeen | VmiChanged | VmiRemoved | VmisUncertain


class RedirectionService(Protocol):
    """Commands, one snapshot, and a stream of changes."""

    async def devices(self) -> Sequence[LocalDevice]:
        """Return the local devices that are plugged in now.

        Raises:
            UsbError: If they cannot be listed.
        """

    async def device_use(self, device: LocalDevice) -> DeviceUse:
        """Return how this machine uses a device, and what speaks against taking it.

        Raises:
            DeviceNotFound: If it is not plugged in.
        """

    def watch_devices(self) -> AbstractAsyncContextManager[AsyncIterator[DevicesSeen]]:
        """Hear of the local devices and their use: now, and whenever that changes, until left.

        What a slow listener has missed is told as one.
        """

    async def vmis(self, namespace: str | None, selector: str = "") -> Sequence[VmiSlots]:
        """Return VMs and their slots, of one namespace or of all (None).

        Raises:
            ClusterError: If they cannot be listed.
        """

    def watch_vmis(
        self, namespace: str | None, selector: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[VmiNews]]:
        """Hear of VMs and their slots, of one namespace or of all (None), until left.

        Raises:
            ClusterError: On entering or while iterating, if the trouble cannot be cured by waiting.
        """

    async def bind(self, request: BindRequest) -> RedirectionId:
        """Wish for a redirection; it is then kept up until :meth:`unbind`.

        Returns as soon as the wish is found to make sense. A VM that does not exist, or does not
        run, is waited for; until then this machine has the device. A blocked redirection of the
        same device and VM is given another try.

        Raises:
            DeviceNotFound: If there is no such device.
            DeviceAmbiguous: If there is more than one.
            DeviceBusy: If another redirection of ours has it.
            DeviceUnsafe: If taking it would harm this machine, and was not asked for.
            NoUsbSlots: If it has no slots.
            SlotNotFound: If it has no slot of that name.
            SlotTaken: If the slot is for another redirection of ours.
            SlotsFull: If all of its slots are for redirections of ours.
            ClusterError: If the cluster could not be asked.
        """

    async def plan(self, request: BindRequest) -> BindPlan:
        """Say what :meth:`bind` would do, and do nothing.

        Raises:
            VmRedirError: As :meth:`bind`, if there is nothing to plan with.
        """

    async def confirm(self, redirection_id: RedirectionId) -> None:
        """Keep the only keyboard or pointer in the VM; see :class:`BindRequest`.

        Raises:
            RedirectionNotFound: If there is none of that id.
        """

    async def unbind(self, redirection_id: RedirectionId) -> None:
        """End a redirection; returns when the device is given back.

        Waits for as long as that could harm the VM. A caller that stops waiting does not stop
        the unbind.

        Raises:
            RedirectionNotFound: If there is none of that id.
        """

    async def pause(self, redirection_id: RedirectionId) -> None:
        """Give the device back, and keep the wish; returns when this machine has it again.

        Waits for as long as that could harm the VM. A caller that stops waiting does not stop
        the pause. One that is paused already stays so.

        Raises:
            RedirectionNotFound: If there is none of that id.
        """

    async def resume(self, redirection_id: RedirectionId) -> None:
        """Undo :meth:`pause`; what is not paused goes on as it is.

        Raises:
            RedirectionNotFound: If there is none of that id.
        """

    async def reconnect(self, redirection_id: RedirectionId) -> None:
        """Close the link, as soon as that harms nobody, and dial anew; also what is blocked.

        Returns at once: how it goes on is told as any change. What is paused stays so.

        Raises:
            RedirectionNotFound: If there is none of that id.
        """

    async def migrate(self, vmi: VmiRef) -> str:
        """Ask for a live migration; return the name of the migration object.

        Raises:
            ClusterError: If the cluster refuses.
        """

    async def may_migrate(self, namespace: str) -> bool:
        """Return whether the user may migrate the VMs of a namespace.

        Raises:
            ClusterError: If the cluster could not be asked.
        """

    async def name_slots(self, vmi: VmiRef, names: Sequence[str]) -> bool:
        """Name the first slots of a VM, in order of their index; the others get their default.

        Returns:
            Whether the names outlive a restart: there is a VirtualMachine, and it has them too.

        Raises:
            UsageError: If these cannot be the names of slots.
            SlotTaken: If a slot that is for a redirection of ours would get another name.
            VmiNotFound: If there is no such VM.
            ClusterError: If the cluster refuses.
        """

    async def vmi_yaml(self, vmi: VmiRef) -> str:
        """Return a VMI as the cluster keeps it, as YAML; untrusted.

        Raises:
            VmiNotFound: If there is no such VM.
            ClusterError: If it cannot be had.
        """

    async def snapshot(self) -> Snapshot:
        """Return all redirections as they are now."""

    def subscribe(
        self, *, numbers: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Hear a :class:`Snapshot`, then each change, until the service ends.

        Nobody waits for a slow subscriber: what is too much for its queue is dropped, and it
        hears a new snapshot instead.

        Args:
            numbers: Whether to hear :class:`NumbersSampled` as well.
        """
