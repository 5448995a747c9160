"""Does what the keys ask for: asks the user first, then the service, and says how it went."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.model import DeviceSelector
from kubectl_vmredir.service.interface import BindRequest
from kubectl_vmredir.tui import details, selection
from kubectl_vmredir.tui.drawing import plain, printable
from kubectl_vmredir.tui.screens import questions
from kubectl_vmredir.tui.screens.bind_dialog import BindDialog
from kubectl_vmredir.tui.screens.details_screen import DetailsScreen
from kubectl_vmredir.tui.screens.log_screen import LogScreen
from kubectl_vmredir.tui.selection import device_name, redirected_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.screen import Screen

    from kubectl_vmredir.model import LocalDevice
    from kubectl_vmredir.tui.feed import Feed
    from kubectl_vmredir.tui.selection import Selection
    from kubectl_vmredir.tui.session import Session
    from kubectl_vmredir.tui.widgets.pairs import Pair
    from kubectl_vmredir.tui.widgets.vms_pane import TreeRow
    from kubectl_vmredir.tui.world import World


NOTICE_S: Final = 5.0
"""How long it can be read why something is not done."""


class Acting:
    """What a screen does for its user. Whether it can be done was asked before.

    Args:
        screen: Where dialogs and messages are shown.
        feed: Knows the session, and the world.
        clock: Returns seconds, for dialogs.
    """

    def __init__(self, screen: Screen[None], feed: Feed, clock: Callable[[], float]) -> None:
        self._screen = screen
        self._feed = feed
        self._clock = clock
        self._refused = ""
        self._readable_until = 0.0

    @property
    def _world(self) -> World:
        return self._feed.world

    def act(self, name: str, selected: Selection) -> None:
        """Do what is of that name in ``acts``."""
        deeds: dict[str, Callable[[Selection], None]] = {
            "unbind": self._unbind,
            "reconnect": self._reconnect,
            "pause": self._pause,
            "migrate": self._migrate,
            "keep": self._keep,
            "details": self._details,
            "yaml": self._yaml,
            "slots": self._name_slots,
        }
        deeds[name](selected)

    # -- redirections -----------------------------------------------------------------------

    def bind(self, device: LocalDevice, row: TreeRow) -> None:
        """Ask whether to plug a device into a slot, or into any of a VM."""
        session = self._world.session
        assert session is not None, "why_not has seen one"
        request = BindRequest(DeviceSelector.of(device), row.vmi.vmi.ref, row.slot)

        def answered(request: BindRequest | None) -> None:
            if request is not None:
                self._command(lambda session: session.service.bind(request), "")

        self._screen.app.push_screen(BindDialog(session, request, device, self._clock), answered)

    def _unbind(self, selected: Selection) -> None:
        view, world = selected.redirection, self._world
        assert view is not None, "why_not has seen one"
        status = view.status
        done = f"{redirected_name(world, status)} is free again"

        def answered(answer: str | None) -> None:
            if answer is not None:
                self._command(lambda session: session.service.unbind(status.id), done)

        self._screen.app.push_screen(questions.unbind(world, status, self._clock), answered)

    def _reconnect(self, selected: Selection) -> None:
        view, world = selected.redirection, self._world
        assert view is not None, "why_not has seen one"
        status = view.status

        def answered(answer: str | None) -> None:
            if answer is not None:
                self._command(lambda session: session.service.reconnect(status.id), "")

        if status.state in questions.UNPLUGGED:
            answered("")
        else:
            self._screen.app.push_screen(questions.reconnect(world, status, self._clock), answered)

    def _pause(self, selected: Selection) -> None:
        view, world = selected.redirection, self._world
        assert view is not None, "why_not has seen one"
        status = view.status
        name = redirected_name(world, status)
        if selection.is_paused(selected):
            self._command(lambda session: session.service.resume(status.id), f"{name} goes on")
            return

        def answered(answer: str | None) -> None:
            if answer is not None:
                done = f"{name} is paused: p goes on"
                self._command(lambda session: session.service.pause(status.id), done)

        if status.state in questions.UNPLUGGED:
            answered("")
        else:
            self._screen.app.push_screen(questions.pause(world, status, self._clock), answered)

    def _keep(self, selected: Selection) -> None:
        view = selected.redirection
        assert view is not None, "why_not has seen one"
        self._command(
            lambda session: session.service.confirm(view.status.id),
            f"{redirected_name(self._world, view.status)} stays in the VM",
        )

    # -- VMs --------------------------------------------------------------------------------

    def _migrate(self, selected: Selection) -> None:
        session, entry = self._world.session, selected.vmi
        assert session is not None, "why_not has seen one"
        assert entry is not None, "why_not has seen one"
        vmi = entry.vmi
        done = f"{vmi.ref.name} is asked to migrate"

        def answered(answer: str | None) -> None:
            if answer is not None:
                self._command(lambda session: session.service.migrate(vmi.ref), done)

        question = questions.migrate(self._world, session, vmi, self._clock)
        self._screen.app.push_screen(question, answered)

    def _name_slots(self, selected: Selection) -> None:
        entry = selected.vmi
        assert entry is not None, "why_not has seen one"
        ref = entry.vmi.ref

        def answered(text: str | None) -> None:
            if text is not None:
                self.name_slots(selected, text)

        names = ",".join(entry.vmi.slots)
        self._screen.app.push_screen(questions.slot_names(ref, names, self._clock), answered)

    def name_slots(self, selected: Selection, text: str) -> None:
        """Give the slots of a VM the names in a text."""
        entry = selected.vmi
        assert entry is not None, "why_not has seen one"
        ref, names = entry.vmi.ref, [name.strip() for name in text.split(",")]

        async def named(session: Session) -> None:
            lasting = await session.service.name_slots(ref, names)
            until = "" if lasting else ", until it is restarted: there is no VM of that name"
            self._say(f"the slots of {ref.name} are named {', '.join(names)}{until}")

        self._command(named, "")

    # -- what is only shown -----------------------------------------------------------------

    def _details(self, selected: Selection) -> None:
        world = self._world
        if (view := selected.redirection) is not None and selected.in_story:
            shown = [view]

            def redirection_text() -> list[Pair]:
                shown[0] = world.redirections.get(view.status.id, shown[0])
                return details.of_redirection(world, shown[0])

            title = f"{redirected_name(world, view.status)} in {view.status.vmi}"
            self._show(title, redirection_text)
        elif (device := selected.device) is not None:
            self._show(device_name(device), lambda: details.of_device(device, world.use_of(device)))
        elif (entry := selected.vmi) is not None:
            ref = entry.vmi.ref
            self._show(str(ref), lambda: details.of_vmi((world.vmis or {}).get(ref, entry)))

    def _yaml(self, selected: Selection) -> None:
        entry = selected.vmi
        assert entry is not None, "why_not has seen one"
        ref = entry.vmi.ref

        async def read(session: Session) -> None:
            lines = (await session.service.vmi_yaml(ref)).splitlines()
            pairs: list[Pair] = [("", plain(line)) for line in lines]
            self._show(str(ref), lambda: pairs)

        self._command(read, "")

    def show_log(self) -> None:
        """Show what the agent writes down."""
        path = self._feed.entrance.log
        assert path is not None, "why_not has seen one"
        self._screen.app.push_screen(LogScreen(path))

    def show_doctor(self) -> None:
        """Show what this machine needs to redirect USB devices, and what of that it has."""

        async def look() -> None:
            checks = await asyncio.to_thread(self._feed.entrance.examine)
            self._show("Doctor: what this machine needs", lambda: details.of_checks(checks))

        self._screen.run_worker(look(), name="doctor", group="commands")

    def copy(self, command: str) -> None:
        """Put a command line into the clipboard."""
        self._screen.app.copy_to_clipboard(command)
        self._screen.notify(printable(command), title="Copied", markup=False)

    def refuse(self, reason: str) -> None:
        """Say why something is not done; once, as long as that can still be read."""
        now = self._clock()
        if reason == self._refused and now < self._readable_until:
            return
        self._refused, self._readable_until = reason, now + NOTICE_S
        self._screen.notify(printable(reason), severity="warning", timeout=NOTICE_S, markup=False)

    # -- parts of the above -----------------------------------------------------------------

    def _show(self, title: str, text: Callable[[], list[Pair]]) -> None:
        self._screen.app.push_screen(DetailsScreen(title, text))

    def _say(self, text: str) -> None:
        self._screen.notify(printable(text), markup=False)

    def _command(self, ask: Callable[[Session], Awaitable[object]], done: str) -> None:
        """Ask something of the service, and say how it went."""
        session = self._world.session
        if session is None:
            self.refuse(selection.why_no_session(self._world))
            return

        async def asked() -> None:
            try:
                await ask(session)
            except VmRedirError as error:
                self._complain(error)
            else:
                if done:
                    self._say(done)

        self._screen.run_worker(asked(), name="command", group="commands")

    def _complain(self, error: VmRedirError) -> None:
        hint = "\n".join(printable(line) for line in (error.hint or "").splitlines())
        text = f"{printable(str(error))}\n{hint}" if hint else printable(str(error))
        self._screen.notify(text, severity="error", timeout=10, markup=False)
