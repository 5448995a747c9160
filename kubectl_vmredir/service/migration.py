"""The migration tracker: which migration each VMI is in, as far as one watch tells. Pure.

KubeVirt tells of a migration twice: in the VirtualMachineInstanceMigration (VMIM) and, from the
hand-off on, in ``status.migrationState`` of the VMI. They come on two streams in no mutual
order, repeat, and skip what came in between (docs/facts/kubevirt.md). So
nothing here depends on the order of two objects, and everything is keyed by the migration's
uid: migrationState stays, completed, until the next hand-off replaces it whole.

A migration is *in flight*, rule 1 of docs/migration.md, from its first sight until

* 1 s after the target was first seen ready (or further: node flipped, completed, succeeded), or
* it is seen failed or aborted, on either object, or
* its VMIM is gone; without a verdict that is taken for "it has just ended, who knows how", and
  gets the same second.

While the watch is down nothing is certain. Nor is it in the first second after it is back: a
watch that goes on where it broke says so before it tells what happened meanwhile.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

from kubectl_vmredir.model import VmiRef
from kubectl_vmredir.service.ports import (
    ClusterEvent,
    VmiGone,
    VmimGone,
    VmimSeen,
    VmiSeen,
    WatchLost,
    WatchRestored,
)

if TYPE_CHECKING:
    from kubectl_vmredir.model import MigrationUid, MigrationView, VmimView, VmiUid, VmiView

SETTLE_S: Final = 1.0
"""How long after the target is first seen ready a migration still counts as in flight."""

CATCH_UP_S: Final = 1.0
"""How long after it is back a watch may still tell what happened while it was away."""


class MigrationPhase(enum.StrEnum):
    """How far a migration has come, in the order in which it goes; the last two end it early."""

    ANNOUNCED = "announced"
    """There is a VMIM; the VMI does not name it yet."""
    HANDED_OFF = "handed off"
    COPYING = "copying"
    TARGET_DETECTED = "target detected"
    TARGET_READY = "target ready"
    """The guest runs on the target; the usbredir subresource still leads to the source."""
    NODE_FLIPPED = "node flipped"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


_RANK: Final = {phase: rank for rank, phase in enumerate(MigrationPhase)}
_BROKEN_OFF: Final = (MigrationPhase.FAILED, MigrationPhase.ABORTED)
FINAL_VMI_PHASES: Final = ("Succeeded", "Failed")
"""Phases of a VMI that is over: it has no QEMU, and gets none."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration as it was seen so far; times are seconds on the caller's monotonic clock.

    Attributes:
        uid: Names it.
        first_seen_at: When it was first seen.
        phase: How far it has come; never goes back.
        mode: ``PreCopy``, ``PostCopy``, ``Paused``, empty while unknown.
        source_node: Where it comes from; empty while unknown.
        target_node: Where it goes to; empty while unknown.
        failure_reason: Untrusted text of the cluster.
        reopens_at: When it stops being in flight; None while nobody can say.
    """

    uid: MigrationUid
    first_seen_at: float
    phase: MigrationPhase = MigrationPhase.ANNOUNCED
    mode: str = ""
    source_node: str = ""
    target_node: str = ""
    failure_reason: str = ""
    reopens_at: float | None = None

    def in_flight(self, now: float) -> bool:
        """Return whether rule 1 holds because of this migration."""
        return self.reopens_at is None or now < self.reopens_at

    @property
    def succeeded(self) -> bool:
        """Whether the VM has moved and the cluster says so."""
        return self.phase in (MigrationPhase.NODE_FLIPPED, MigrationPhase.COMPLETED)

    @property
    def flip_awaited(self) -> bool:
        """Whether the guest runs on the target, but the API still leads to the source."""
        return self.phase is MigrationPhase.TARGET_READY


@dataclass(frozen=True, slots=True)
class VmiFacts:
    """All that is known about one VMI.

    Attributes:
        certain_at: Since when no news means nothing new; may be ahead, None if nobody can say.
        doubt: Why it is not certain; may hold untrusted text of the cluster.
        vmi: As it was last seen; None if it is not there.
        migrations: In order of their first sight; finished ones are kept for a while.
        successes: Migrations that moved it while we looked on.
    """

    certain_at: float | None = None
    doubt: str = ""
    vmi: VmiView | None = None
    migrations: tuple[Migration, ...] = ()
    successes: int = 0

    def certain(self, now: float) -> bool:
        """Return whether no news means nothing new."""
        return self.certain_at is not None and now >= self.certain_at

    def in_flight(self, now: float) -> Migration | None:
        """Return the migration because of which rule 1 holds, the last one to end; or None."""
        if self.ended:
            return None
        flying = [migration for migration in self.migrations if migration.in_flight(now)]
        return max(flying, key=_end_of, default=None)

    @property
    def ended(self) -> bool:
        """Whether there is no QEMU: no VMI, or one shut down, lost, or moved elsewhere.

        In a decentralised migration the source VMI goes to phase Succeeded, and a VMI with a
        uid of its own goes on elsewhere.
        """
        return self.vmi is None or self.vmi.phase in FINAL_VMI_PHASES


def _end_of(migration: Migration) -> float:
    return float("inf") if migration.reopens_at is None else migration.reopens_at


@dataclass(slots=True)
class _Record:
    """What is kept about one VMI."""

    vmi: VmiView | None = None
    vmims: dict[MigrationUid, VmimView] = field(default_factory=dict)
    migrations: dict[MigrationUid, Migration] = field(default_factory=dict)
    successes: int = 0

    def view(self, uid: MigrationUid) -> MigrationView | None:
        """Return the VMI's own word on a migration, if it has one."""
        if self.vmi is None or self.vmi.migration is None or self.vmi.migration.uid != uid:
            return None
        return self.vmi.migration


class MigrationTracker:
    """Follows the VMIs and migrations that one watch after the other tells of."""

    def __init__(self) -> None:
        self._records: dict[VmiRef, _Record] = {}
        self._certain_at: float | None = None
        self._doubt = ""
        self._catches_up = False
        self._untold: set[VmiUid | MigrationUid] = set()

    def begin(self) -> None:
        """Prepare for another watch: it tells all that exists, then :class:`WatchRestored`.

        What it has not told by then is gone.
        """
        self._certain_at, self._catches_up = None, False
        self._untold = set()
        for record in self._records.values():
            self._untold.update(record.vmims)
            if record.vmi is not None:
                self._untold.add(record.vmi.uid)

    def facts(self, ref: VmiRef) -> VmiFacts:
        """Return what is known about a VMI; it need not exist."""
        record = self._records.get(ref, _Record())
        return VmiFacts(
            certain_at=self._certain_at,
            doubt=self._doubt,
            vmi=record.vmi,
            migrations=tuple(record.migrations.values()),
            successes=record.successes,
        )

    def handle(self, event: ClusterEvent, now: float) -> frozenset[VmiRef]:
        """Take in one event.

        Args:
            event: What the watch said.
            now: Seconds on a monotonic clock.

        Returns:
            The VMIs about which something may have become known.
        """
        match event:
            case VmiSeen(vmi=vmi):
                self._untold.discard(vmi.uid)
                self._see_vmi(vmi, now)
                return frozenset({vmi.ref})
            case VmiGone(vmi=vmi):
                self._lose_vmi(vmi, now)
                return frozenset({vmi.ref})
            case VmimSeen(vmim=vmim):
                self._untold.discard(vmim.uid)
                self._see_vmim(vmim, now)
                return frozenset({_ref(vmim)})
            case VmimGone(vmim=vmim):
                self._lose_vmim(vmim, now)
                return frozenset({_ref(vmim)})
            case WatchLost(cause=cause):
                self._certain_at, self._doubt = None, str(cause)
                self._catches_up = True
                return frozenset(self._records)
            case WatchRestored():
                self._certain_at = now + CATCH_UP_S if self._catches_up else now
                self._doubt = ""
                touched = frozenset(self._records)
                self._forget_untold(now)
                return touched
            case _:
                assert_never(event)

    def _see_vmi(self, vmi: VmiView, now: float) -> None:
        record = self._records.setdefault(vmi.ref, _Record())
        known_before = record.vmi is not None and record.vmi.uid == vmi.uid
        if not known_before:
            _drop(record, [uid for uid in record.migrations if uid not in record.vmims])
        record.vmi = vmi
        if vmi.migration is not None:
            self._update(record, vmi.migration.uid, now, known_before=known_before)
            # The hand-off replaces migrationState whole: older ones are over, whatever we
            # missed of them. Older by first sight, so that a stale list supersedes nothing.
            older = list(record.migrations)
            del older[older.index(vmi.migration.uid) :]
            _drop(record, [uid for uid in older if uid not in record.vmims])

    def _lose_vmi(self, vmi: VmiView, now: float) -> None:
        record = self._records.get(vmi.ref)
        if record is None or record.vmi is None or record.vmi.uid != vmi.uid:
            return
        record.vmi = None
        _drop(record, [uid for uid in record.migrations if uid not in record.vmims])
        self._forget(vmi.ref, record, now)

    def _see_vmim(self, vmim: VmimView, now: float) -> None:
        record = self._records.setdefault(_ref(vmim), _Record())
        record.vmims[vmim.uid] = vmim
        if vmim.phase not in ("Succeeded", "Failed") or vmim.uid in record.migrations:
            self._update(record, vmim.uid, now, known_before=True)

    def _lose_vmim(self, vmim: VmimView, now: float) -> None:
        ref = _ref(vmim)
        if (record := self._records.get(ref)) is None:
            return
        record.vmims.pop(vmim.uid, None)
        migration = record.migrations.get(vmim.uid)
        if migration is not None and migration.reopens_at is None:
            record.migrations[vmim.uid] = dataclasses.replace(migration, reopens_at=now + SETTLE_S)
        self._forget(ref, record, now)

    def _forget_untold(self, now: float) -> None:
        for record in list(self._records.values()):
            if record.vmi is not None and record.vmi.uid in self._untold:
                self._lose_vmi(record.vmi, now)
            for vmim in [vmim for uid, vmim in record.vmims.items() if uid in self._untold]:
                self._lose_vmim(vmim, now)
        self._untold = set()

    def _update(
        self, record: _Record, uid: MigrationUid, now: float, *, known_before: bool
    ) -> None:
        """Bring one migration up to date with what both objects say now."""
        view, vmim = record.view(uid), record.vmims.get(uid)
        node = record.vmi.node if record.vmi is not None else ""
        phase = _phase(view, node, vmim)
        before = record.migrations.get(uid)
        # Completed before we ever looked at this VMI: history, nothing to wait for.
        old = (
            before is None
            and not known_before
            and (view is not None and view.completed)
            and phase is MigrationPhase.COMPLETED
        )
        if before is None:
            before = Migration(uid, now, reopens_at=now if old else None)
        if _RANK[phase] < _RANK[before.phase]:
            phase = before.phase
        after = dataclasses.replace(before, phase=phase)
        if vmim is not None:
            after = dataclasses.replace(
                after,
                source_node=vmim.source_node or after.source_node,
                target_node=vmim.target_node or after.target_node,
            )
        if view is not None:
            after = dataclasses.replace(
                after,
                mode=view.mode or after.mode,
                source_node=view.source_node or after.source_node,
                target_node=view.target_node or after.target_node,
                failure_reason=view.failure_reason or after.failure_reason,
            )
        if not old:
            after = dataclasses.replace(after, reopens_at=_reopens_at(before, phase, now))
            record.successes += after.succeeded and not before.succeeded
        record.migrations[uid] = after
        self._forget_over(record, now)

    def _forget(self, ref: VmiRef, record: _Record, now: float) -> None:
        self._forget_over(record, now)
        if record.vmi is None and not record.vmims and not record.migrations:
            del self._records[ref]

    @staticmethod
    def _forget_over(record: _Record, now: float) -> None:
        """Drop the migrations that are over and that no object names any more."""
        _drop(
            record,
            [
                uid
                for uid, migration in record.migrations.items()
                if not migration.in_flight(now)
                and uid not in record.vmims
                and record.view(uid) is None
            ],
        )


def _ref(vmim: VmimView) -> VmiRef:
    return VmiRef(vmim.namespace, vmim.vmi_name)


def _drop(record: _Record, uids: list[MigrationUid]) -> None:
    for uid in uids:
        del record.migrations[uid]


def _phase(view: MigrationView | None, node: str, vmim: VmimView | None) -> MigrationPhase:
    """Return the furthest phase that either object gives evidence of."""
    phases = [MigrationPhase.ANNOUNCED]
    if view is not None:
        phases.append(_phase_on_vmi(view, node))
    if vmim is not None and vmim.phase == "Succeeded":
        phases.append(MigrationPhase.COMPLETED)
    if vmim is not None and vmim.phase == "Failed":
        phases.append(MigrationPhase.ABORTED if vmim.deleting else MigrationPhase.FAILED)
    return max(phases, key=_RANK.__getitem__)


def _phase_on_vmi(view: MigrationView, node: str) -> MigrationPhase:
    if view.abort_status == "Succeeded" or (view.failed and view.abort_requested):
        return MigrationPhase.ABORTED
    if view.failed:
        return MigrationPhase.FAILED
    if view.completed:
        return MigrationPhase.COMPLETED
    # Up to KubeVirt 1.5 nodeName and completed come in one update, later nodeName comes first.
    # Between two clusters both nodes may have the same name.
    if node == view.target_node != view.source_node and node:
        return MigrationPhase.NODE_FLIPPED
    if view.target_domain_ready_timestamp:
        return MigrationPhase.TARGET_READY
    if view.target_domain_detected:
        return MigrationPhase.TARGET_DETECTED
    return MigrationPhase.COPYING if view.start_timestamp else MigrationPhase.HANDED_OFF


def _reopens_at(before: Migration, phase: MigrationPhase, now: float) -> float | None:
    if phase in _BROKEN_OFF:
        return now if before.phase not in _BROKEN_OFF else before.reopens_at
    if _RANK[phase] < _RANK[MigrationPhase.TARGET_READY]:
        return before.reopens_at
    if _RANK[before.phase] < _RANK[MigrationPhase.TARGET_READY]:
        return now + SETTLE_S
    return before.reopens_at
