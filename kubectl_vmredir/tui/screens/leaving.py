"""Unplugs all devices before the program ends, and says what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from kubectl_vmredir.tui import looks
from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.screens.dialog import CANCEL, Choice, Dialog
from kubectl_vmredir.tui.selection import redirected_name
from kubectl_vmredir.tui.widgets.live_text import LiveText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.widget import Widget

    from kubectl_vmredir.tui.world import World


class Leaving(Dialog[bool]):
    """Stays until nothing is redirected any more, or the user wants to stay after all.

    Args:
        world: What is known when it opens.
        clock: Returns seconds.
    """

    def __init__(self, world: World, clock: Callable[[], float]) -> None:
        super().__init__("Unplugging", clock)
        self._world = world
        self._text = LiveText(classes="dialog--text")

    def body(self) -> Iterable[Widget]:
        """See :meth:`Dialog.body`."""
        return (self._text,)

    def choices(self) -> Iterable[Choice]:
        """See :meth:`Dialog.choices`."""
        return (Choice(CANCEL, "Stay"),)

    def on_mount(self) -> None:
        """Show what is waited for."""
        self.show(self._world)
        self.ask(danger=True, usual=CANCEL)

    def show(self, world: World) -> None:
        """Show what is left; nothing left is the end."""
        lines = [
            Content.assemble(
                looks.of_state(view.status.state).content,
                "  ",
                (printable(redirected_name(world, view.status)), "bold"),
                printable(f"  {view.status.vmi} slot {view.status.slot}"),
                (f"\n   {printable(view.status.reason)}" if view.status.reason else "", "italic"),
            )
            for view in world.redirections.values()
        ]
        last = Content.styled(
            "\nA device is given back as soon as that cannot harm its VM.", looks.Tone.QUIET.style
        )
        self._text.show(Content("\n").join([*lines, last]))
        if not world.redirections:
            self.dismiss(True)
