"""The three panes, which of them has the cursor, and what that is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from textual import on
from textual.containers import Horizontal, Vertical
from textual.message import Message

from kubectl_vmredir.tui.selection import Selection
from kubectl_vmredir.tui.widgets.devices_pane import DevicesPane
from kubectl_vmredir.tui.widgets.redirection_pane import RedirectionPane
from kubectl_vmredir.tui.widgets.row_list import RowList
from kubectl_vmredir.tui.widgets.tab_bar import TabBar
from kubectl_vmredir.tui.widgets.vms_pane import TreeRow, VmsPane
from kubectl_vmredir.tui.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from kubectl_vmredir.model import LocalDevice
    from kubectl_vmredir.tui.widgets.pane import Pane

DEVICES: Final = 1
VMS: Final = 2
REDIRECTION: Final = 3

_TICK_S: Final = 1.0
_CLASSES: Final = {DEVICES: "-devices", VMS: "-vms", REDIRECTION: "-redirection"}


class Panes(Vertical):
    """Devices on the left, VMs on the right, and the story of what is selected below.

    Attributes:
        devices: The pane of devices.
        vms: The pane of VMs.
        at: Number of the pane that has the cursor.

    Args:
        wall_clock: Returns seconds since the epoch.
    """

    class Moved(Message):
        """The cursor is in another pane, or on another row.

        Attributes:
            panes: The panes.
        """

        def __init__(self, panes: Panes) -> None:
            super().__init__()
            self.panes = panes

        @property
        def control(self) -> Panes:
            """The panes, for ``@on`` selectors."""
            return self.panes

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        super().__init__()
        self.devices = DevicesPane()
        self.vms = VmsPane()
        self.at = DEVICES
        self._subject = DEVICES
        self._story = RedirectionPane(wall_clock)
        self._tabs = TabBar()
        self._world = World()

    def compose(self) -> ComposeResult:
        """Put the panes in their places."""
        yield self._tabs
        with Horizontal(id="upper"):
            yield self.devices
            yield self.vms
        yield self._story

    def on_mount(self) -> None:
        """Begin with the devices."""
        self.go_to(DEVICES)
        self.set_interval(_TICK_S, self._tick)

    def show(self, world: World) -> None:
        """Show what is known."""
        self._world = world
        self.devices.show(world)
        self.vms.show(world)
        self.show_story()

    def show_story(self) -> None:
        """Show the story of what the cursor is on."""
        self._story.show(self._world, self.selected.redirection)

    @property
    def selected(self) -> Selection:
        """What the cursor is on, in the pane of devices or VMs that had it last."""
        world, in_story = self._world, self.at == REDIRECTION
        if self._subject == DEVICES:
            device = self.devices.list.row
            view = world.of_device(device) if device is not None else None
            vmi = (world.vmis or {}).get(view.status.vmi) if view is not None else None
            return Selection(device=device, vmi=vmi, redirection=view, in_story=in_story)
        if (row := self.vms.list.row) is None:
            return Selection()
        ref = row.vmi.vmi.ref
        if row.slot is not None:
            view = world.in_slot(ref, row.slot)
        else:
            view = next(iter(world.of_vmi(ref)), None)
        return Selection(vmi=row.vmi, slot=row.slot, redirection=view, in_story=in_story)

    @property
    def pane(self) -> Pane[LocalDevice] | Pane[TreeRow] | RedirectionPane:
        """The pane that has the cursor."""
        return self._pane(self.at)

    def go_to(self, number: int) -> None:
        """Go to a pane."""
        self.at = number
        if number != REDIRECTION:
            self._subject = number
        # A wide screen shows all panes: there nothing has to be styled anew.
        self.update_classes(
            {name: pane == number for pane, name in _CLASSES.items()},
            update=self.screen.has_class("-narrow"),
        )
        self._tabs.show_active(number)
        self.pane.list.focus()
        self._moved()

    def go_on(self, panes: int) -> None:
        """Go so many panes on, or back."""
        self.go_to((self.at - 1 + panes) % REDIRECTION + 1)

    @on(RowList.CursorMoved)
    def cursor_moved(self, event: RowList.CursorMoved) -> None:
        """Show what the cursor is on now."""
        event.stop()
        self._moved()

    def on_descendant_focus(self) -> None:
        """The mouse may have gone to another pane."""
        for number in _CLASSES:
            if number != self.at and self._pane(number).list.has_focus:
                self.go_to(number)

    @on(TabBar.Chosen)
    def tab_chosen(self, event: TabBar.Chosen) -> None:
        """Go to the pane of the tab."""
        event.stop()
        self.go_to(event.number)

    def _moved(self) -> None:
        self.show_story()
        self.post_message(self.Moved(self))

    def _tick(self) -> None:
        """Throughput falls without anything being heard."""
        if self._story.moves:
            self.show_story()

    def _pane(self, number: int) -> Pane[LocalDevice] | Pane[TreeRow] | RedirectionPane:
        match number:
            case 1:
                return self.devices
            case 2:
                return self.vms
            case _:
                return self._story
