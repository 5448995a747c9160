"""What can be done with what the cursor is on: one list for keys, footer, help and commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from textual.binding import Binding

from kubectl_vmredir.tui import selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_vmredir.tui.selection import Selection
    from kubectl_vmredir.tui.world import World


@dataclass(frozen=True, slots=True)
class Act:
    """Something that a key does.

    Attributes:
        name: Names it, also on the command line of the program.
        keys: The keys, as Textual spells them.
        label: What the footer says.
        tooltip: What the help says.
        why_not: Says why it cannot be done now; nothing if it can.
        show: Whether the footer shows it.
    """

    name: str
    keys: str
    label: str
    tooltip: str
    why_not: Callable[[World, Selection], str]
    show: bool = True

    @property
    def binding(self) -> Binding:
        """The keys, bound."""
        return Binding(
            self.keys, f"act('{self.name}')", self.label, show=self.show, tooltip=self.tooltip
        )


def _why_nothing(world: World, selected: Selection) -> str:
    del world
    nothing = selected.device is None and selected.vmi is None and selected.redirection is None
    return "there is nothing here" if nothing else ""


ACTS: Final = (
    Act("unbind", "u", "Unbind", "Unplug the device from the VM.", selection.why_not_unbind),
    Act("reconnect", "r", "Reconnect", "Close the link and dial anew, or try again what is "
        "blocked.", selection.why_not_reconnect),
    Act("pause", "p", "Pause", "Give the device back for now; again: go on.",
        selection.why_not_pause),
    Act("migrate", "m", "Migrate", "Have the VM moved to another node.",
        selection.why_not_migrate),
    Act("keep", "K", "Keep", "Keep the only keyboard or pointer in the VM: it is on trial.",
        selection.why_not_keep, show=False),
    Act("details", "d", "Details", "Show all that is known.", _why_nothing),
    Act("yaml", "y", "YAML", "Show the VM as the cluster keeps it.", selection.why_no_vmi,
        show=False),
    Act("slots", "N", "Name slots", "Give the slots of the VM names.",
        selection.why_not_name_slots, show=False),
)  # fmt: skip


def act_named(name: str) -> Act | None:
    """Return the act of that name."""
    return next((act for act in ACTS if act.name == name), None)


def bindings() -> Sequence[Binding]:
    """Return the keys of all acts."""
    return [act.binding for act in ACTS]
