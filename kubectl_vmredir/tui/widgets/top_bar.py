"""The line at the top: where we are, who we are, and how much there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from kubectl_vmredir import __version__
from kubectl_vmredir.tui import looks
from kubectl_vmredir.tui.drawing import printable, time_of_day
from kubectl_vmredir.tui.widgets.live_text import LiveText

if TYPE_CHECKING:
    from textual.events import Resize

    from kubectl_vmredir.tui.world import World

_NARROW = 100
_QUIET = looks.Tone.QUIET.style


class TopBar(LiveText):
    """Shows context, namespace, user, totals, and who has the redirections."""

    DEFAULT_CSS = """
    TopBar { height: 1; background: $panel; }
    """

    def __init__(self) -> None:
        super().__init__(id="top")
        self._world: World | None = None

    def show_world(self, world: World) -> None:
        """Show what is known."""
        self._world = world
        width = self.size.width
        if width < 1:
            return
        left, right = self._where(world, width), self._totals(world, width)
        room = width - right.cell_length - 2
        self.show(
            Content.assemble(
                " ", left.truncate(max(room - 1, 0), ellipsis=True, pad=True), " ", right, " "
            )
        )

    def on_resize(self, event: Resize) -> None:
        """The line is as long as the screen is wide."""
        del event
        if self._world is not None:
            self.show_world(self._world)

    def _where(self, world: World, width: int) -> Content:
        parts = [Content.assemble(("vmredir", "bold"), (f" {__version__}", _QUIET))]
        if width < _NARROW:
            parts = [Content.styled("vmredir", "bold")]
        if (session := world.session) is not None:
            scope = "all" if world.scope is None else world.scope
            facts = [("ctx ", session.context), ("ns ", scope), ("user ", session.user)]
            parts += [
                Content.assemble((name, _QUIET), printable(value)) for name, value in facts if value
            ]
        return Content.styled("  │  " if width >= _NARROW else " │ ", _QUIET).join(parts)

    def _totals(self, world: World, width: int) -> Content:
        bad = world.unopened or world.vmis_bad
        look = looks.of_cluster(world, time_of_day(bad.since) if bad is not None else "")
        counts = [
            (len(world.devices or ()), "device"),
            (len(world.vmis or ()), "VM"),
            (len(world.redirections), "redirected"),
        ]
        if width < _NARROW:
            counts = counts[2:]
        parts = [
            Content(f"{count} {word}{'s' if count != 1 and word != 'redirected' else ''}")
            for count, word in counts
        ]
        if migrating := world.migrating():
            parts.append(Content.styled(f"⇄ {migrating} migrating", looks.Tone.MOVING.style))
        if world.vmis is not None or not world.agent_gone:
            parts.append(look.content)
        if width >= _NARROW or world.agent_gone:
            parts.append(looks.of_agent(world).content)
        if world.read_only:
            parts.append(Content.styled(" READ-ONLY ", "bold reverse"))
        return Content("  ").join(parts)
