"""VMs, and below each of them its slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from textual.content import Content

from kubectl_vmredir.tui import empty, looks
from kubectl_vmredir.tui.drawing import Column, plain, printable
from kubectl_vmredir.tui.selection import redirected_name
from kubectl_vmredir.tui.widgets.pane import Pane
from kubectl_vmredir.tui.world import under_way

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from kubectl_vmredir.model import MigrationView, VmiRef, VmiView
    from kubectl_vmredir.service.interface import VmiSlots
    from kubectl_vmredir.tui.world import World

_COLUMNS: Final = (
    Column("VM / SLOT", share=4),
    Column("STATE", 16),
    Column("WHERE / WHAT", share=5),
    Column("MIGRATES", 8, from_width=72),
)


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A VM, or one of its slots.

    Attributes:
        vmi: The VM.
        slot: Name of the slot; None for the VM itself.
        last: Whether it is the last slot of the VM.
    """

    vmi: VmiSlots
    slot: str | None = None
    last: bool = False

    @property
    def key(self) -> Hashable:
        """Names the row."""
        return self.vmi.vmi.ref, self.slot


@dataclass(frozen=True, slots=True)
class _Known:
    """What is made of a VM.

    Attributes:
        vmi: The VM.
        rows: Its row, and those of its slots.
        searched: Text that a filter looks at.
    """

    vmi: VmiSlots
    rows: tuple[TreeRow, ...]
    searched: str

    @classmethod
    def of(cls, entry: VmiSlots) -> _Known:
        """Make it."""
        ref, names = entry.vmi.ref, [slot.name for slot in entry.slots]
        slots = (TreeRow(entry, name, last=name == names[-1]) for name in names)
        searched = " ".join((ref.namespace, ref.name, entry.vmi.node, *names))
        return cls(entry, (TreeRow(entry), *slots), searched)


class VmsPane(Pane[TreeRow]):
    """Shows the tree of VMs and slots, with what is in the slots."""

    def __init__(self) -> None:
        super().__init__(
            "2 VMs and slots", _COLUMNS, key=lambda row: row.key, cells=self._row_cells, id="vms"
        )
        self._world: World | None = None
        self._folded: set[VmiRef] = set()
        self._known: dict[VmiRef, _Known] = {}
        self._revision = -1

    def show(self, world: World) -> None:
        """Show what is known."""
        self._world = world
        if world.vmis_revision == self._revision:  # only what is in the slots may be another
            self.list.redraw()
            return
        self._revision = world.vmis_revision
        self._known = {ref: self._made(entry) for ref, entry in (world.vmis or {}).items()}
        self.set_class(world.vmis_bad is not None or world.unopened is not None, "-old")
        self.refilter()

    def fold(self) -> None:
        """Hide the slots of the VM under the cursor, or show them again."""
        if (row := self.list.row) is None:
            return
        ref = row.vmi.vmi.ref
        self._folded ^= {ref}
        self.refilter()
        self.list.move_to_key((ref, None))

    def move_to_free_slot(self) -> bool:
        """Put the cursor on a slot that is free: where it is, or else on the next one below.

        Returns:
            Whether there is one.
        """
        assert self._world is not None, "there is nothing to move on"
        rows, at = self.list.rows, self.list.row
        start = next((index for index, row in enumerate(rows) if row is at), 0)
        for row in (*rows[start:], *rows[:start]):
            free = row.slot is not None and not self._world.in_slot(row.vmi.vmi.ref, row.slot)
            if free and row.vmi.vmi.phase == "Running":
                return self.list.move_to_key(row.key)
        return False

    def refilter(self) -> None:
        """Show the VMs that pass the filter: by their own names, or those of their slots."""
        if self._world is None:
            return
        shown = list(self._known.values())
        if self.filtered:
            matches = self.matches
            shown = [known for known in shown if matches(known.searched)]
        folded = self._folded
        rows = [
            row
            for known in shown
            for row in (known.rows[:1] if folded and known.vmi.vmi.ref in folded else known.rows)
        ]
        hidden = len(self._known) - len(shown)
        scope = "all namespaces" if self._world.scope is None else printable(self._world.scope)
        if self._world.session is None:
            scope = ""
        count = f"{len(shown)} of {len(self._known)}, {scope}" if hidden else scope
        self.show_rows(rows, empty.vmis(self._world, shown=len(shown), hidden=hidden), count)

    def _made(self, entry: VmiSlots) -> _Known:
        """Return what is made of a VM; once, as long as the VM stays as it is."""
        known = self._known.get(entry.vmi.ref)
        return known if known is not None and known.vmi is entry else _Known.of(entry)

    def _row_cells(self, row: TreeRow) -> Sequence[Content]:
        if row.slot is None:
            return self._vmi_cells(row.vmi)
        return self._slot_cells(row, row.slot)

    def _vmi_cells(self, entry: VmiSlots) -> Sequence[Content]:
        vmi = entry.vmi
        all_namespaces = self._world is not None and self._world.scope is None
        name = str(vmi.ref) if all_namespaces else vmi.ref.name
        folded = "▸" if vmi.ref in self._folded else "▾"
        mark = folded if entry.slots else "·"
        return (
            Content.assemble(f"{mark} ", (printable(name), "bold")),
            looks.of_vmi(vmi).content,
            _where(vmi, no_slots=not entry.slots),
            Content({True: "yes", False: "no", None: ""}[vmi.migratable]),
        )

    def _slot_cells(self, row: TreeRow, slot: str) -> Sequence[Content]:
        assert self._world is not None, "rows come out of a world"
        view = self._world.in_slot(row.vmi.vmi.ref, slot)
        look = looks.of_state(view.status.state) if view is not None else looks.FREE
        return (
            Content.assemble(
                ("  ╰ " if row.last else "  ├ ", looks.Tone.QUIET.style), printable(slot)
            ),
            look.content,
            plain(redirected_name(self._world, view.status)) if view is not None else Content(),
            Content(),
        )


def _where(vmi: VmiView, *, no_slots: bool) -> Content:
    if under_way(vmi) and vmi.migration is not None:
        source, target = vmi.migration.source_node or vmi.node, vmi.migration.target_node
        return plain(f"{source} → {target or '?'} {stage(vmi.migration)}")
    if no_slots:
        return Content.styled(printable(f"{vmi.node} no slots"), looks.Tone.QUIET.style)
    return plain(vmi.node)


def stage(migration: MigrationView) -> str:
    """Return how far a migration that is under way has come."""
    if not migration.target_node:
        return "scheduling"
    if migration.target_domain_ready_timestamp:
        return "switched"
    return "copying" if migration.target_domain_detected else "preparing"
