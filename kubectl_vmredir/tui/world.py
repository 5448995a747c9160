"""All that the user interface knows, as it was heard last; no I/O, no clock, no widgets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from kubectl_vmredir.model import DeviceSelector
from kubectl_vmredir.service.interface import (
    ClosingWaits,
    NumbersSampled,
    RedirectionChanged,
    RedirectionEnded,
    RedirectionView,
    Snapshot,
    StoryAdded,
    VmiChanged,
    VmiRemoved,
    VmisSeen,
    VmisUncertain,
)
from kubectl_vmredir.tui.rates import Rates

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubectl_vmredir.model import DeviceUse, LocalDevice, RedirectionId, VmiRef, VmiView
    from kubectl_vmredir.service.interface import (
        Change,
        DevicesSeen,
        ExitRisk,
        Trouble,
        VmiNews,
        VmiSlots,
    )
    from kubectl_vmredir.tui.session import Session

_AGENT_TROUBLES: Final = {"AgentError", "AgentGone", "MessageMalformed", "OtherVersion"}

STORY_EVENTS: Final = 200
"""So many events of a redirection are kept here; the service keeps no more either."""


@dataclass(frozen=True, slots=True)
class Bad:
    """Something does not work, and since when.

    Attributes:
        trouble: What it is.
        since: Seconds since the epoch.
    """

    trouble: Trouble
    since: float


def under_way(vmi: VmiView) -> bool:
    """Return whether a VM is migrating."""
    migration = vmi.migration
    return migration is not None and not (
        migration.completed or migration.failed or migration.end_timestamp
    )


class World:
    """What is known of devices, VMs and redirections.

    Attributes:
        read_only: Whether nothing may be changed from here.
        contexts: Names of the contexts that one can go to.
        session: Whom we work for; None until the cluster's configuration is read.
        unopened: Why there is no session.
        scope: Namespace whose VMs are shown; None for all.
        devices: Local devices; None until they were looked for.
        devices_bad: Why they cannot be listed.
        vmis: VMs by name, in order; None until the cluster has answered.
        vmis_bad: Why what is known of them may be old, or is nothing.
        vmis_revision: Another number whenever something about VMs is.
        redirections: Ours, oldest first.
        rates: How fast they move bytes.
        closing: What the end of the service waits for; None if it does not end.
        may_migrate: Whether the user may migrate VMs, by namespace, as far as it was asked.

    Args:
        read_only: See above.
    """

    def __init__(self, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self.contexts: tuple[str, ...] = ()
        self.session: Session | None = None
        self.unopened: Bad | None = None
        self.scope: str | None = None
        self.devices: tuple[LocalDevice, ...] | None = None
        self.devices_bad: Bad | None = None
        self.vmis: dict[VmiRef, VmiSlots] | None = None
        self.vmis_bad: Bad | None = None
        self.vmis_revision = 0
        self.redirections: dict[RedirectionId, RedirectionView] = {}
        self.rates: dict[RedirectionId, Rates] = {}
        self.closing: tuple[ExitRisk, ...] | None = None
        self.may_migrate: dict[str, bool] = {}
        self._fresh = True
        self._by_selector: dict[str, LocalDevice] = {}
        self._uses: dict[LocalDevice, DeviceUse] = {}

    # -- what is heard ----------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """The session is there; if it was lost, what is known is heard again."""
        if self._fresh:
            self.scope, self._fresh = session.namespace, False
        self.session, self.unopened, self.vmis_bad = session, None, None
        self.vmis_revision += 1

    def not_opened(self, trouble: Trouble, now: float) -> None:
        """There is no session."""
        self.session = None
        self.unopened = _bad(self.unopened, trouble, now)
        self.vmis_revision += 1

    def leave(self) -> None:
        """A session of another context is wanted: nothing is known any more."""
        self.session = self.unopened = self.devices_bad = None
        self.scope, self._fresh = None, True
        self.redirections, self.rates, self.may_migrate = {}, {}, {}
        self.closing = None
        self.look_at(None)

    def look_at(self, scope: str | None) -> None:
        """The VMs of another namespace are wanted, or those of all."""
        self.scope, self.vmis, self.vmis_bad = scope, None, None
        self.vmis_revision += 1

    def devices_seen(self, seen: DevicesSeen, now: float) -> None:
        """These devices are plugged in, or cannot be listed."""
        self.devices = tuple(one.device for one in seen.devices)
        self.devices_bad = _bad(self.devices_bad, seen.trouble, now) if seen.trouble else None
        self._by_selector = {str(DeviceSelector.of(device)): device for device in self.devices}
        self._uses = {one.device: one.use for one in seen.devices}

    def hear_of_vmis(self, news: VmiNews, now: float) -> None:
        """Apply what a watcher of VMs has heard."""
        self.vmis_revision += 1
        match news:
            case VmisSeen(vmis=seen):
                self.vmis, self.vmis_bad = _in_order(seen), None
            case VmiChanged(vmi=entry):
                known = self.vmis or {}
                is_new = entry.vmi.ref not in known
                known[entry.vmi.ref] = entry
                self.vmis = _in_order(known.values()) if is_new else known
            case VmiRemoved(vmi=removed):
                (self.vmis or {}).pop(removed, None)
            case VmisUncertain(cause=cause):
                self.vmis_lost(cause, now)
            case _:
                assert_never(news)

    def vmis_lost(self, trouble: Trouble, now: float) -> None:
        """There is no news of VMs."""
        self.vmis_bad = _bad(self.vmis_bad, trouble, now)
        self.vmis_revision += 1

    def hear(self, change: Change, now: float) -> None:
        """Apply what a subscriber has heard."""
        match change:
            case Snapshot(redirections=views, closing=closing):
                self.redirections = {view.status.id: view for view in views}
                self.closing = closing
                self.rates = {
                    found: self.rates[found] for found in self.redirections if found in self.rates
                }
            case RedirectionChanged(status=status):
                known = self.redirections.get(status.id)
                story = known.story if known is not None else ()
                self.redirections[status.id] = RedirectionView(status, story)
            case StoryAdded(id=found, event=event) if found in self.redirections:
                view = self.redirections[found]
                story = (*view.story, event)[-STORY_EVENTS:]
                self.redirections[found] = replace(view, story=story)
            case NumbersSampled(id=found, numbers=numbers) if found in self.redirections:
                view = self.redirections[found]
                status = replace(view.status, numbers=numbers)
                self.redirections[found] = replace(view, status=status)
                self.rates.setdefault(found, Rates()).sample(numbers, now)
            case RedirectionEnded(id=found):
                self.redirections.pop(found, None)
                self.rates.pop(found, None)
            case ClosingWaits(risks=risks):
                self.closing = risks
            case StoryAdded() | NumbersSampled():  # of one that has ended
                pass
            case _:
                assert_never(change)

    # -- what follows from it ---------------------------------------------------------------

    @property
    def agent_gone(self) -> bool:
        """Whether it is the agent that is missing, and not the cluster."""
        return self.unopened is not None and self.unopened.trouble.kind in _AGENT_TROUBLES

    def use_of(self, device: LocalDevice) -> DeviceUse | None:
        """Return how this machine uses a device; None if it is not plugged in any more."""
        return self._uses.get(device)

    def of_device(self, device: LocalDevice) -> RedirectionView | None:
        """Return the redirection of a device."""
        selector = str(DeviceSelector.of(device))
        return next(
            (view for view in self.redirections.values() if view.status.device == selector), None
        )

    def device_named(self, selector: str) -> LocalDevice | None:
        """Return the device of a selector, if it is plugged in."""
        return self._by_selector.get(selector)

    def in_slot(self, vmi: VmiRef, slot: str) -> RedirectionView | None:
        """Return the redirection that a slot is for."""
        return next((view for view in self.of_vmi(vmi) if view.status.slot == slot), None)

    def of_vmi(self, vmi: VmiRef) -> Sequence[RedirectionView]:
        """Return the redirections into a VM."""
        return [view for view in self.redirections.values() if view.status.vmi == vmi]

    def migrating(self) -> int:
        """Return how many of the VMs shown migrate."""
        return sum(under_way(entry.vmi) for entry in (self.vmis or {}).values())


def _in_order(entries: Iterable[VmiSlots]) -> dict[VmiRef, VmiSlots]:
    by_name = sorted(entries, key=lambda entry: (entry.vmi.ref.namespace, entry.vmi.ref.name))
    return {entry.vmi.ref: entry for entry in by_name}


def _bad(before: Bad | None, trouble: Trouble, now: float) -> Bad:
    """Return the trouble, with the time at which it began."""
    return Bad(trouble, before.since if before is not None else now)
