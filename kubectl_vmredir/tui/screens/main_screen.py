"""The screen with the three panes, and what its keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen

from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.model import DeviceSelector, LocalDevice
from kubectl_vmredir.service.interface import BindRequest
from kubectl_vmredir.tui import command_lines, details, selection
from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.keys import Chapter, full, help_pairs, key_names
from kubectl_vmredir.tui.screens import questions
from kubectl_vmredir.tui.screens.bind_dialog import BindDialog
from kubectl_vmredir.tui.screens.details_screen import DetailsScreen
from kubectl_vmredir.tui.screens.namespace_dialog import NamespaceDialog
from kubectl_vmredir.tui.selection import Selection, device_name, redirected_name
from kubectl_vmredir.tui.widgets.devices_pane import DevicesPane
from kubectl_vmredir.tui.widgets.key_bar import Key, KeyBar
from kubectl_vmredir.tui.widgets.live_text import LiveText
from kubectl_vmredir.tui.widgets.redirection_pane import RedirectionPane
from kubectl_vmredir.tui.widgets.row_list import RowList
from kubectl_vmredir.tui.widgets.tab_bar import TabBar
from kubectl_vmredir.tui.widgets.top_bar import TopBar
from kubectl_vmredir.tui.widgets.vms_pane import TreeRow, VmsPane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.app import ComposeResult

    from kubectl_vmredir.model import DeviceUse
    from kubectl_vmredir.tui.feed import Feed
    from kubectl_vmredir.tui.session import Session
    from kubectl_vmredir.tui.widgets.pairs import Pair
    from kubectl_vmredir.tui.widgets.pane import Pane
    from kubectl_vmredir.tui.world import World

DEVICES: Final = 1
VMS: Final = 2
REDIRECTION: Final = 3

_TICK_S: Final = 1.0
_PANE_CLASSES: Final = {DEVICES: "-devices", VMS: "-vms", REDIRECTION: "-redirection"}


class MainScreen(Screen[None]):
    """Devices on the left, VMs on the right, and the story of what is selected below.

    Args:
        feed: Keeps the world up to date.
        clock: Returns seconds, for dialogs.
        wall_clock: Returns seconds since the epoch.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,b", "bind", "Bind",
                tooltip="Plug in: choose a device, then a slot, or the other way round."),
        Binding("u", "unbind", "Unbind", tooltip="Unplug the device from the VM."),
        Binding("m", "migrate", "Migrate", tooltip="Have the VM moved to another node."),
        Binding("K", "keep", "Keep", show=False,
                tooltip="Keep the only keyboard or pointer in the VM: it is on trial."),
        Binding("d", "details", "Details", tooltip="Show all that is known."),
        Binding("slash", "filter", "Filter",
                tooltip="Show only what has these words; !word leaves out."),
        Binding("c", "copy", "Copy", tooltip="Copy the command line that does the same."),
        Binding("n", "namespace", "Namespace", tooltip="Show the VMs of another namespace."),
        Binding("a", "all_namespaces", "All", tooltip="Show the VMs of all namespaces, or of one."),
        Binding("space", "fold", "Fold", show=False, tooltip="Hide the slots of a VM, or show."),
        Binding("1", "pane(1)", "Devices", show=False, tooltip="Go to the USB devices."),
        Binding("2", "pane(2)", "VMs", show=False, tooltip="Go to the VMs and their slots."),
        Binding("3", "pane(3)", "Redirection", show=False, tooltip="Go to the story."),
        Binding("tab", "next_pane(1)", "Next pane", show=False, tooltip="Go to the next pane."),
        Binding("shift+tab", "next_pane(-1)", "Previous pane", show=False,
                tooltip="Go to the previous pane."),
        Binding("escape", "back", "Back", show=False,
                tooltip="Drop what was picked, or the filter."),
        Binding("ctrl+r", "again", "Again", show=False,
                tooltip="Try at once what did not work, and waits to be tried again."),
    ]  # fmt: skip

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual declares it for instances
    AUTO_FOCUS = ""

    def __init__(
        self, feed: Feed, *, clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        super().__init__()
        self._feed = feed
        self._clock = clock
        self._top = TopBar()
        self._tabs = TabBar()
        self._devices = DevicesPane()
        self._vms = VmsPane()
        self._redirection = RedirectionPane(wall_clock)
        self._prompt = LiveText(id="prompt")
        self._keys = KeyBar()
        self._pane = DEVICES
        self._subject = DEVICES
        self._picked: LocalDevice | TreeRow | None = None
        self._seeks_slot = False

    def compose(self) -> ComposeResult:
        """Put the panes in their places."""
        yield self._top
        yield self._tabs
        with Horizontal(id="upper"):
            yield self._devices
            yield self._vms
        yield self._redirection
        yield self._prompt
        yield self._keys

    def on_mount(self) -> None:
        """Begin with the devices."""
        self.action_pane(DEVICES)
        self.set_interval(_TICK_S, self._tick)
        self.show(self._feed.world)

    # -- what is shown ----------------------------------------------------------------------

    def show(self, world: World) -> None:
        """Show what is known."""
        self._devices.show(world)
        self._vms.show(world)
        self._top.show_world(world)
        picked = self._picked
        if isinstance(picked, LocalDevice) and picked not in (world.devices or ()):
            self._pick(None)
            self._refuse(f"{device_name(picked)} was unplugged")
        if self._seeks_slot and self._picked is not None:  # the VMs come later than the key
            self._seeks_slot = not self._vms.move_to_free_slot()
        self._show_selected()

    @property
    def selected(self) -> Selection:
        """What the cursor is on, in the pane of devices or VMs that had the focus last."""
        world = self._feed.world
        if self._subject == DEVICES:
            device = self._devices.list.row
            view = world.of_device(device) if device is not None else None
            vmi = (world.vmis or {}).get(view.status.vmi) if view is not None else None
            return Selection(device=device, vmi=vmi, redirection=view)
        if (row := self._vms.list.row) is None:
            return Selection()
        ref = row.vmi.vmi.ref
        if row.slot is not None:
            return Selection(vmi=row.vmi, slot=row.slot, redirection=world.in_slot(ref, row.slot))
        return Selection(vmi=row.vmi, redirection=next(iter(world.of_vmi(ref)), None))

    def why_not(self, action: str) -> str:
        """Return why a key cannot act now; empty if it can."""
        world, selected = self._feed.world, self.selected
        match action:
            case "bind" if self._pane == DEVICES:
                return selection.why_not_pick_device(world, selected)
            case "bind" if self._pane == VMS:
                return selection.why_not_pick_slot(world, selected)
            case "bind":
                return "choose a device (1) or a slot (2) to bind"
            case "unbind":
                return selection.why_not_unbind(selected)
            case "migrate":
                return selection.why_not_migrate(world, selected)
            case "keep":
                return selection.why_not_keep(selected)
            case "details":
                nothing = selected.device is None and selected.vmi is None
                return "there is nothing here" if nothing else ""
            case "copy":
                return "" if self._command_line() else self._why_no_command_line()
            case "namespace" | "all_namespaces":
                return selection.why_no_session(world)
            case _:
                return ""

    def _show_selected(self) -> None:
        self._redirection.show(self._feed.world, self.selected.redirection)
        shown = [
            Key(
                key_names(binding)[0],
                binding.description,
                binding.action,
                works=not self.why_not(binding.action),
            )
            for binding in full(self.BINDINGS)
            if binding.show or (binding.action == "keep" and not self.why_not("keep"))
        ]
        shown += [Key("?", "Help", "app.help", last=True), Key("q", "Quit", "app.quit", last=True)]
        self._keys.show_keys(shown)

    def _tick(self) -> None:
        """Throughput falls without anything being heard."""
        if self._redirection.moves:
            self._redirection.show(self._feed.world, self.selected.redirection)

    # -- moving about -----------------------------------------------------------------------

    def action_pane(self, number: int) -> None:
        """Go to a pane."""
        self._pane = number
        if number != REDIRECTION:
            self._subject = number
        for pane, name in _PANE_CLASSES.items():
            self.set_class(pane == number, name)
        self._tabs.show_active(number)
        self._pane_widget(number).list.focus()
        self._show_selected()

    def action_next_pane(self, panes: int) -> None:
        """Go to the next pane, or the one before."""
        self.action_pane((self._pane - 1 + panes) % REDIRECTION + 1)

    def action_filter(self) -> None:
        """Filter the list of the pane."""
        self._pane_widget(self._pane).open_filter()

    def action_fold(self) -> None:
        """Hide the slots of a VM, or show."""
        if self._pane == VMS:
            self._vms.fold()

    def action_back(self) -> None:
        """Drop what was picked, or else the filter."""
        if self._picked is not None:
            self._pick(None)
        else:
            self._pane_widget(self._pane).clear_filter()

    def action_again(self) -> None:
        """Try at once what did not work."""
        self._feed.try_again()

    @on(RowList.CursorMoved)
    def cursor_moved(self) -> None:
        """Show what the cursor is on now."""
        self._show_selected()

    @on(RowList.Chosen)
    def row_chosen(self) -> None:
        """A double click is enter."""
        self.action_bind()

    def on_descendant_focus(self) -> None:
        """The mouse may have gone to another pane."""
        for number in _PANE_CLASSES:
            if number != self._pane and self._pane_widget(number).list.has_focus:
                self.action_pane(number)

    @on(TabBar.Chosen)
    def tab_chosen(self, event: TabBar.Chosen) -> None:
        """Go to the pane of the tab."""
        self.action_pane(event.number)

    @on(KeyBar.Clicked)
    async def key_clicked(self, event: KeyBar.Clicked) -> None:
        """Do what the key does."""
        await self.run_action(event.action)

    def _pane_widget(self, number: int) -> Pane[LocalDevice] | Pane[TreeRow] | RedirectionPane:
        match number:
            case 1:
                return self._devices
            case 2:
                return self._vms
            case _:
                return self._redirection

    # -- acting -----------------------------------------------------------------------------

    def action_bind(self) -> None:
        """Pick a device or a slot; with both of them, ask whether to bind."""
        if self._refused("bind"):
            return
        other = self._picked
        if self._pane == DEVICES:
            device = self._devices.list.row
            assert device is not None, "why_not has seen one"
            if isinstance(other, TreeRow):
                self._ask_to_bind(device, other)
            else:
                self._pick(device)
                self.action_pane(VMS)
                self._seeks_slot = not self._vms.move_to_free_slot()
        else:
            row = self._vms.list.row
            assert row is not None, "why_not has seen one"
            if isinstance(other, LocalDevice):
                self._ask_to_bind(other, row)
            else:
                self._pick(row)
                self.action_pane(DEVICES)

    def action_unbind(self) -> None:
        """Ask whether to unplug the device."""
        if self._refused("unbind"):
            return
        view = self.selected.redirection
        assert view is not None, "why_not has seen one"
        status, world = view.status, self._feed.world
        done = f"{redirected_name(world, status)} is free again"

        def answered(answer: str | None) -> None:
            if answer is not None:
                self._command(lambda session: session.service.unbind(status.id), done)

        self.app.push_screen(questions.unbind(world, status, self._clock), answered)

    def action_migrate(self) -> None:
        """Ask whether to move the VM."""
        session = self._feed.world.session
        if self._refused("migrate") or session is None:
            return
        entry = self.selected.vmi
        assert entry is not None, "why_not has seen one"
        vmi = entry.vmi
        done = f"{vmi.ref.name} is asked to migrate"

        def answered(answer: str | None) -> None:
            if answer is not None:
                self._command(lambda session: session.service.migrate(vmi.ref), done)

        question = questions.migrate(self._feed.world, session, vmi, self._clock)
        self.app.push_screen(question, answered)

    def action_keep(self) -> None:
        """Keep the keyboard or pointer that is on trial."""
        if self._refused("keep"):
            return
        view = self.selected.redirection
        assert view is not None, "why_not has seen one"
        self._command(
            lambda session: session.service.confirm(view.status.id),
            f"{redirected_name(self._feed.world, view.status)} stays in the VM",
        )

    def action_details(self) -> None:
        """Show all that is known of what the cursor is on, or of its redirection."""
        if self._refused("details"):
            return
        selected, world = self.selected, self._feed.world
        if (view := selected.redirection) is not None and self._pane == REDIRECTION:
            shown = [view]

            def redirection_text() -> list[Pair]:
                shown[0] = world.redirections.get(view.status.id, shown[0])
                return details.of_redirection(world, shown[0])

            title = f"{redirected_name(self._feed.world, view.status)} in {view.status.vmi}"
            self.app.push_screen(DetailsScreen(title, redirection_text))
        elif (device := selected.device) is not None:
            self._device_details(device)
        elif (entry := selected.vmi) is not None:
            ref = entry.vmi.ref
            self.app.push_screen(
                DetailsScreen(str(ref), lambda: details.of_vmi((world.vmis or {}).get(ref, entry)))
            )

    def action_copy(self) -> None:
        """Copy the command line."""
        if self._refused("copy"):
            return
        command = self._command_line()
        self.app.copy_to_clipboard(command)
        self.notify(printable(command), title="Copied", markup=False)

    def action_namespace(self) -> None:
        """Ask for a namespace."""
        if self._refused("namespace"):
            return
        world = self._feed.world
        known = {ref.namespace for ref in world.vmis or {}}
        if world.session is not None:
            known.add(world.session.namespace)

        def answered(name: str | None) -> None:
            if name is not None:
                self._feed.look_at(name)

        self.app.push_screen(NamespaceDialog(sorted(known), self._clock), answered)

    def action_all_namespaces(self) -> None:
        """Show all namespaces; if they are shown, the one of the session."""
        session = self._feed.world.session
        if self._refused("all_namespaces") or session is None:
            return
        self._feed.look_at(session.namespace if self._feed.world.scope is None else None)

    def chapters(self) -> list[Chapter]:
        """Return the keys of this screen, for the help."""
        return [
            Chapter("Keys", self.BINDINGS),
            Chapter("In a list", RowList.BINDINGS),
        ]

    def show_help(self, more: list[Chapter]) -> None:
        """Show the help, with chapters behind those of this screen."""
        pairs = help_pairs([*self.chapters(), *more])
        self.app.push_screen(DetailsScreen("Help", lambda: pairs))

    # -- parts of the above -----------------------------------------------------------------

    def _refused(self, action: str) -> bool:
        """Say why a key cannot act; return whether that is so."""
        if reason := self.why_not(action):
            self._refuse(reason)
        return bool(reason)

    def _refuse(self, reason: str) -> None:
        self.notify(printable(reason), severity="warning", markup=False)

    def _pick(self, picked: LocalDevice | TreeRow | None) -> None:
        """Remember one half of a bind, and ask for the other."""
        self._picked = picked
        text = ""
        match picked:
            case None:
                pass
            case LocalDevice():
                text = f"{device_name(picked)}: move to a slot and press enter. esc: cancel"
            case TreeRow(vmi=entry, slot=slot):
                where = f"{entry.vmi.ref.name}/{slot}" if slot is not None else entry.vmi.ref.name
                text = f"{where}: move to a device and press enter. esc: cancel"
        self._prompt.show(Content(printable(text)))
        self._prompt.set_class(bool(text), "-asking")

    def _ask_to_bind(self, device: LocalDevice, row: TreeRow) -> None:
        session = self._feed.world.session
        assert session is not None, "why_not has seen one"
        self._pick(None)
        request = BindRequest(DeviceSelector.of(device), row.vmi.vmi.ref, row.slot)

        def answered(request: BindRequest | None) -> None:
            if request is not None:
                self._command(lambda session: session.service.bind(request), "")

        self.app.push_screen(BindDialog(session, request, device, self._clock), answered)

    def _device_details(self, device: LocalDevice) -> None:
        found: list[DeviceUse] = []
        screen = DetailsScreen(
            device_name(device), lambda: details.of_device(device, found[0] if found else None)
        )

        async def look() -> None:
            session = self._feed.world.session
            if session is None:
                return
            try:
                found.append(await session.service.device_use(device))
            except VmRedirError as error:
                self._complain(error)
            screen.show(self._feed.world)

        self.app.push_screen(screen)
        self.run_worker(look(), name="device-use", group="device-use", exclusive=True)

    def _command(self, ask: Callable[[Session], Awaitable[object]], done: str) -> None:
        """Ask something of the service, and say how it went."""
        session = self._feed.world.session
        if session is None:
            self._refuse(selection.why_no_session(self._feed.world))
            return

        async def asked() -> None:
            try:
                await ask(session)
            except VmRedirError as error:
                self._complain(error)
            else:
                if done:
                    self.notify(printable(done), markup=False)

        self.run_worker(asked(), name="command", group="commands")

    def _complain(self, error: VmRedirError) -> None:
        hint = "\n".join(printable(line) for line in (error.hint or "").splitlines())
        text = f"{printable(str(error))}\n{hint}" if hint else printable(str(error))
        self.notify(text, severity="error", timeout=10, markup=False)

    def _command_line(self) -> str:
        if (session := self._feed.world.session) is None:
            return ""
        return command_lines.of_selection(
            session, self.selected, device=self._devices.list.row, tree=self._vms.list.row
        )

    def _why_no_command_line(self) -> str:
        if reason := selection.why_no_session(self._feed.world):
            return reason
        return "a command line needs a device (1) and a VM with slots (2)"
