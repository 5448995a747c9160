"""The screen with the three panes, and what its keys do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.binding import Binding, BindingType
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widgets import Input

from kubectl_vmredir.model import LocalDevice
from kubectl_vmredir.tui import acts, command_lines, commands, selection
from kubectl_vmredir.tui.acting import Acting
from kubectl_vmredir.tui.keys import Chapter, full, help_pairs, key_names
from kubectl_vmredir.tui.screens import questions
from kubectl_vmredir.tui.screens.details_screen import DetailsScreen
from kubectl_vmredir.tui.selection import device_name
from kubectl_vmredir.tui.widgets.command_line import CommandLine
from kubectl_vmredir.tui.widgets.key_bar import Key, KeyBar
from kubectl_vmredir.tui.widgets.panes import DEVICES, VMS, Panes
from kubectl_vmredir.tui.widgets.prompt import Prompt
from kubectl_vmredir.tui.widgets.row_list import RowList
from kubectl_vmredir.tui.widgets.top_bar import TopBar
from kubectl_vmredir.tui.widgets.vms_pane import TreeRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult

    from kubectl_vmredir.tui.commands import Command
    from kubectl_vmredir.tui.feed import Feed
    from kubectl_vmredir.tui.world import World

_KEEP: Final = "act('keep')"
_PAUSE: Final = "act('pause')"
_TYPING: Final = ("filter", "command_line")
_NO_CONTEXT: Final = "the kubeconfig has no other context"


class MainScreen(Screen[None]):
    """All that there is, and the keys that work.

    Args:
        feed: Keeps the world up to date.
        clock: Returns seconds, for dialogs.
        wall_clock: Returns seconds since the epoch.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,b", "bind", "Bind",
                tooltip="Plug in: choose a device, then a slot, or the other way round."),
        *acts.bindings(),
        # Priority: what is typed behind them, however fast, is no key any more.
        Binding("slash", "filter", "Filter", priority=True,
                tooltip="Show only what has these words; !word leaves out."),
        Binding("colon", "command_line", "Command", priority=True, tooltip="Type a command."),
        Binding("n", "namespace", "Namespace", tooltip="Show the VMs of another namespace."),
        Binding("a", "all_namespaces", "All", tooltip="Show the VMs of all namespaces, or of one."),
        Binding("x", "context", "Context", tooltip="Go to another context of the kubeconfig."),
        Binding("l", "log", "Log", tooltip="Show what the agent writes down."),
        Binding("c", "copy", "Copy", tooltip="Copy the command line that does the same."),
        Binding("D", "doctor", "Doctor", show=False,
                tooltip="Look at what this machine needs to redirect devices."),
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

    focused = Reactive(None, repaint=False)
    """What has the focus, and what had it, are painted anew without the rest of the screen."""

    def __init__(
        self, feed: Feed, *, clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        super().__init__()
        self._feed = feed
        self._clock = clock
        self._top = TopBar()
        self._panes = Panes(wall_clock)
        self._prompt = Prompt()
        self._acting = Acting(self, feed, clock)
        self._line = CommandLine(lambda text: commands.completion(text, self.commands, feed.world))
        self._keys = KeyBar()
        self._picked: LocalDevice | TreeRow | None = None
        self._seeks_slot = False

    def compose(self) -> ComposeResult:
        """Put the lines above and below the panes."""
        yield self._top
        yield self._panes
        yield self._prompt
        yield self._line
        yield self._keys

    def on_mount(self) -> None:
        """Show what is known."""
        self.show(self._feed.world)

    # -- what is shown ----------------------------------------------------------------------

    def show(self, world: World) -> None:
        """Show what is known."""
        self._panes.show(world)
        self._top.show_world(world)
        picked = self._picked
        if isinstance(picked, LocalDevice) and picked not in (world.devices or ()):
            self._pick(None)
            self._acting.refuse(f"{device_name(picked)} was unplugged")
        if self._seeks_slot and self._picked is not None:  # the VMs come later than the key
            self._seeks_slot = not self._panes.vms.move_to_free_slot()
        self._show_keys()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave the keys that open a line to who types in one."""
        del parameters
        return not (action in _TYPING and isinstance(self.focused, Input))

    def why_not(self, action: str) -> str:
        """Return why a key cannot act now; empty if it can."""
        world, selected = self._feed.world, self._panes.selected
        if (act := acts.act_named(_act_of(action))) is not None:
            return act.why_not(world, selected)
        match action:
            case "bind" if self._panes.at == DEVICES:
                return selection.why_not_pick_device(world, selected)
            case "bind" if self._panes.at == VMS:
                return selection.why_not_pick_slot(world, selected)
            case "bind":
                return "choose a device (1) or a slot (2) to bind"
            case "copy":
                return "" if self._command_line() else self._why_no_command_line()
            case "namespace" | "all_namespaces":
                return selection.why_no_session(world)
            case "context":
                others = len(world.contexts) > 1
                return selection.why_not_leave_context(world) if others else _NO_CONTEXT
            case "log":
                return "" if self._feed.entrance.log is not None else "there is no log here"
            case _:
                return ""

    def _show_keys(self) -> None:
        vmi = self._panes.selected.vmi
        if vmi is not None:
            self._feed.look_into(vmi.vmi.ref.namespace)
        shown = [
            Key(
                key_names(binding)[0],
                self._label(binding),
                binding.action,
                works=not self.why_not(binding.action),
            )
            for binding in full(self.BINDINGS)
            if binding.show or (binding.action == _KEEP and not self.why_not(_KEEP))
        ]
        shown += [Key("?", "Help", "app.help", last=True), Key("q", "Quit", "app.quit", last=True)]
        self._keys.show_keys(shown)

    def _label(self, binding: Binding) -> str:
        paused = binding.action == _PAUSE and selection.is_paused(self._panes.selected)
        return "Go on" if paused else binding.description

    # -- moving about -----------------------------------------------------------------------

    def action_pane(self, number: int) -> None:
        """Go to a pane."""
        self._panes.go_to(number)

    def action_next_pane(self, panes: int) -> None:
        """Go to the next pane, or the one before."""
        self._panes.go_on(panes)

    def action_filter(self) -> None:
        """Filter the list of the pane."""
        self._panes.pane.open_filter()

    def action_fold(self) -> None:
        """Hide the slots of a VM, or show."""
        if self._panes.at == VMS:
            self._panes.vms.fold()

    def action_back(self) -> None:
        """Drop what was picked, or else the filter."""
        if self._picked is not None:
            self._pick(None)
        else:
            self._panes.pane.clear_filter()

    def action_again(self) -> None:
        """Try at once what did not work."""
        self._feed.try_again()

    @on(Panes.Moved)
    def cursor_moved(self) -> None:
        """Other keys may work now."""
        self._show_keys()

    @on(RowList.Chosen)
    def row_chosen(self) -> None:
        """A double click is enter."""
        self.action_bind()

    @on(KeyBar.Clicked)
    async def key_clicked(self, event: KeyBar.Clicked) -> None:
        """Do what the key does."""
        self.set_focus(self._panes.pane.list)
        await self.run_action(event.action)

    # -- acting -----------------------------------------------------------------------------

    def action_act(self, name: str) -> None:
        """Do something with what the cursor is on."""
        if not self._refused(name):
            self._acting.act(name, self._panes.selected)

    def action_bind(self) -> None:
        """Pick a device or a slot; with both of them, ask whether to bind."""
        if self._refused("bind"):
            return
        other = self._picked
        panes = self._panes
        if panes.at == DEVICES:
            device = panes.devices.list.row
            assert device is not None, "why_not has seen one"
            if isinstance(other, TreeRow):
                self._bind(device, other)
            else:
                self._pick(device)
                panes.go_to(VMS)
                self._seeks_slot = not panes.vms.move_to_free_slot()
        else:
            row = panes.vms.list.row
            assert row is not None, "why_not has seen one"
            if isinstance(other, LocalDevice):
                self._bind(other, row)
            else:
                self._pick(row)
                panes.go_to(DEVICES)

    def action_copy(self) -> None:
        """Copy the command line."""
        if not self._refused("copy"):
            self._acting.copy(self._command_line())

    def action_log(self) -> None:
        """Show the log."""
        if not self._refused("log"):
            self._acting.show_log()

    def action_doctor(self) -> None:
        """Look at this machine."""
        self._acting.show_doctor()

    def action_namespace(self) -> None:
        """Ask for a namespace."""
        if self._refused("namespace"):
            return
        known = commands.namespaces(self._feed.world)
        self.app.push_screen(
            questions.namespace(known, self._clock),
            lambda name: self.action_namespace_named(name) if name is not None else None,
        )

    def action_namespace_named(self, name: str) -> None:
        """Show the VMs of a namespace."""
        if not self._refused("namespace"):
            self._feed.look_at(name)

    def action_all_namespaces(self) -> None:
        """Show all namespaces; if they are shown, the one of the session."""
        session = self._feed.world.session
        if self._refused("all_namespaces") or session is None:
            return
        self._feed.look_at(session.namespace if self._feed.world.scope is None else None)

    def action_context(self) -> None:
        """Ask for a context."""
        if self._refused("context"):
            return
        world = self._feed.world
        now = world.session.context if world.session is not None else ""
        self.app.push_screen(
            questions.context(world.contexts, now, self._clock),
            lambda name: self.action_context_named(name) if name is not None else None,
        )

    def action_context_named(self, name: str) -> None:
        """Go to a context."""
        if self._refused("context"):
            return
        if name in self._feed.world.contexts:
            self._pick(None)
            self._feed.go_to(name)
        else:
            self._acting.refuse(f"there is no context {name!r}")

    def action_slots_named(self, names: str) -> None:
        """Name the slots of a VM."""
        if not self._refused("slots"):
            self._acting.name_slots(self._panes.selected, names)

    def action_filter_for(self, words: str) -> None:
        """Filter the list of the pane by these words."""
        self._panes.pane.filter_for(words)

    # -- the command line, and the help -----------------------------------------------------

    @property
    def commands(self) -> Sequence[Command]:
        """What can be typed on the command line."""
        ours = full(self.BINDINGS)
        others = [
            dataclasses.replace(binding, action=f"app.{binding.action}")
            for binding in full(self.app.BINDINGS)
        ]
        return commands.commands([*ours, *others])

    def action_command_line(self) -> None:
        """Type a command."""
        self._line.open()

    @on(CommandLine.Entered)
    async def command_entered(self, event: CommandLine.Entered) -> None:
        """Do what was typed."""
        self._panes.pane.list.focus()
        if not event.text:
            return
        match commands.parse(event.text, self.commands):
            case str(wrong):
                self._acting.refuse(wrong)
            case commands.Typed(command=command, argument=argument):
                if command.argument:
                    getattr(self, f"action_{command.action}")(argument)
                else:
                    await self.run_action(command.action)

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
            self._acting.refuse(reason)
        return bool(reason)

    def _pick(self, picked: LocalDevice | TreeRow | None) -> None:
        """Remember one half of a bind, and ask for the other."""
        self._picked = picked
        self._prompt.show_picked(picked)

    def _bind(self, device: LocalDevice, row: TreeRow) -> None:
        self._pick(None)
        self._acting.bind(device, row)

    def _command_line(self) -> str:
        if (session := self._feed.world.session) is None:
            return ""
        return command_lines.of_selection(
            session,
            self._panes.selected,
            device=self._panes.devices.list.row,
            tree=self._panes.vms.list.row,
        )

    def _why_no_command_line(self) -> str:
        if reason := selection.why_no_session(self._feed.world):
            return reason
        session = self._feed.world.session
        assert session is not None, "it has just been seen"
        if reason := command_lines.why_none(session):
            return reason
        return "a command line needs a device (1) and a VM with slots (2)"


def _act_of(action: str) -> str:
    """Return the name of the act in an action, which may be the name alone."""
    return action.removeprefix("act('").removesuffix("')")
