"""The line that asks for the other half of a bind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from kubectl_vmredir.model import LocalDevice
from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.selection import device_name
from kubectl_vmredir.tui.widgets.live_text import LiveText

if TYPE_CHECKING:
    from kubectl_vmredir.tui.widgets.vms_pane import TreeRow


class Prompt(LiveText):
    """Says what was picked, and what to do now; nothing as long as nothing is picked."""

    DEFAULT_CSS = """
    Prompt {
        display: none; height: 1; padding: 0 1; text-style: bold reverse;
        &.-asking { display: block; }
    }
    """

    def show_picked(self, picked: LocalDevice | TreeRow | None) -> None:
        """Show what was picked."""
        text = ""
        match picked:
            case None:
                pass
            case LocalDevice():
                text = f"{device_name(picked)}: move to a slot and press enter. esc: cancel"
            case _:
                vm, slot = picked.vmi.vmi.ref.name, picked.slot
                where = f"{vm}/{slot}" if slot is not None else vm
                text = f"{where}: move to a device and press enter. esc: cancel"
        self.show(Content(printable(text)))
        self.set_class(bool(text), "-asking")
