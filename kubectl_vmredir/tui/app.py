"""The terminal program: it owns the screens, and draws the world when it has changed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message

from kubectl_vmredir.errors import RedirectionNotFound
from kubectl_vmredir.tui.feed import Feed
from kubectl_vmredir.tui.keys import Chapter, full
from kubectl_vmredir.tui.looks import theme_variables
from kubectl_vmredir.tui.screens import questions
from kubectl_vmredir.tui.screens.details_screen import DetailsScreen
from kubectl_vmredir.tui.screens.dialog import Dialog
from kubectl_vmredir.tui.screens.leaving import Leaving
from kubectl_vmredir.tui.screens.main_screen import MainScreen
from kubectl_vmredir.tui.screens.question import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.screen import Screen

    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.tui.session import Entrance

_NOT_OFFERED: Final = ("command_palette", "back")

FRAME_S: Final = 0.1
"""The shortest time between two drawings of what is heard."""


class VmRedirApp(App[None]):
    """Shows what a feed hears.

    Attributes:
        drawings: How often the world was drawn.
        painted: Set when the panes are on the screen, with whatever is known.

    Args:
        feed: Hears the service.
        clock: Returns seconds.
        wall_clock: Returns seconds since the epoch.
        frame_s: The shortest time between two drawings, in seconds.
    """

    TITLE = "vmredir"
    CSS_PATH: ClassVar[str | Path] = Path(__file__).with_name("app.tcss")
    ENABLE_COMMAND_PALETTE = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help", show=False, tooltip="Show this."),
        Binding("q,ctrl+q,ctrl+c", "quit", "Quit", show=False,
                tooltip="End; asks if devices are in use."),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False,
                tooltip="Go back to the shell; fg comes back."),
        Binding("ctrl+p", "command_palette", "Commands", show=False, priority=True,
                tooltip="Look for a command, or choose a theme."),
    ]  # fmt: skip

    class WorldChanged(Message, bubble=False):
        """Something was heard."""

    def __init__(
        self,
        feed: Feed,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        frame_s: float = FRAME_S,
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._wall_clock = wall_clock
        self._frame_s = frame_s
        self._told = False
        self._shown_at = -frame_s
        self.drawings = 0
        self.painted = asyncio.Event()
        super().__init__()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return the colours of the states, which each theme needs."""
        return theme_variables(self.current_theme)

    def get_default_screen(self) -> Screen[None]:
        """Return the screen with the panes."""
        return MainScreen(self._feed, clock=self._clock, wall_clock=self._wall_clock)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Return what the palette offers: what the keys do, and the themes."""
        yield SystemCommand("Theme", "Choose the colours.", self.action_change_theme)
        if isinstance(screen, MainScreen):
            for binding in full((*screen.BINDINGS, *self.BINDINGS)):
                if binding.action not in _NOT_OFFERED and "pane(" not in binding.action:
                    yield SystemCommand(
                        binding.description, binding.tooltip, partial(self._run, screen, binding)
                    )

    async def _run(self, screen: MainScreen, binding: Binding) -> None:
        # What is no action of the screen is one of the program.
        owner = screen if hasattr(screen, f"action_{binding.action.partition('(')[0]}") else self
        await owner.run_action(binding.action)

    @property
    def bug(self) -> Exception | None:
        """What ended the program, if it was a bug."""
        return self._exception

    def _fatal_error(self) -> None:
        # Textual's own would print a traceback with all local variables, secrets among them.
        self._close_messages_no_wait()

    async def on_event(self, event: events.Event) -> None:
        """Keep keys from a dialog that is deaf."""
        deaf = isinstance(self.screen, Dialog) and self.screen.deaf if self._screen_stack else False
        if not (deaf and isinstance(event, events.Key)):
            await super().on_event(event)

    def on_mount(self) -> None:
        """Draw what was heard before, and whatever is heard from now on."""
        self._feed.changed = self._hear
        self._hear()
        self.call_after_refresh(self.painted.set)

    def on_unmount(self) -> None:
        """Nobody draws any more."""
        self._feed.changed = lambda: None

    def _hear(self) -> None:
        # Many changes are one drawing: this is called for each of them.
        if not self._told:
            self._told = True
            self.post_message(self.WorldChanged())

    def on_vm_redir_app_world_changed(self) -> None:
        """Draw at once, or when the last drawing is old enough."""
        wait_s = self._shown_at + self._frame_s - self._clock()
        if wait_s <= 0:
            self.draw()
        else:
            self.set_timer(wait_s, self.draw)

    def draw(self) -> None:
        """Draw the world as it is now."""
        self._told = False
        self._shown_at = self._clock()
        self.drawings += 1
        with self.batch_update():
            for screen in self.screen_stack:
                if isinstance(screen, MainScreen | Dialog | DetailsScreen):
                    screen.show(self._feed.world)

    def action_suspend_process(self) -> None:
        """Stop the whole job, as the terminal does it for others: a shell waits for make, too."""
        if self._driver is None or not self._driver.can_suspend:
            return
        with self.suspend():
            # Textual's handler stops this process alone, and for ever if no shell goes on with it.
            handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.killpg(os.getpgrp(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, handler)

    def action_help(self) -> None:
        """Show the keys."""
        if isinstance(self.screen, MainScreen):
            self.screen.show_help([Chapter("Everywhere", self.BINDINGS)])

    async def action_quit(self) -> None:
        """End, after asking if devices are in use."""
        world = self._feed.world
        live = len(world.redirections)
        if not live or (world.session is None and world.agent_gone):
            self.exit()
            return
        if isinstance(self.screen, Question | Leaving):
            return
        lasting = world.session is not None and world.session.lasting
        question = questions.leave(live, self._clock, lasting=lasting, read_only=world.read_only)
        self.push_screen(question, self._leave)

    def _leave(self, answer: str | None) -> None:
        match answer:
            case None:
                pass
            case questions.KEEP:
                self.exit()
            case _:
                self.run_worker(self._unbind_all(), name="unbind-all")
                self.push_screen(
                    Leaving(self._feed.world, self._clock),
                    lambda ended: self.exit() if ended else None,
                )

    async def _unbind_all(self) -> None:
        session = self._feed.world.session
        if session is None:
            return

        async def unbind(redirection_id: RedirectionId) -> None:
            with contextlib.suppress(RedirectionNotFound):  # it has ended by itself
                await session.service.unbind(redirection_id)

        async with asyncio.TaskGroup() as group:
            for redirection_id in list(self._feed.world.redirections):
                group.create_task(unbind(redirection_id), name=f"unbind-{redirection_id}")


async def run(entrance: Entrance, *, read_only: bool = False) -> signal.Signals | None:
    """Show the program on the terminal until the user ends it, or a signal does.

    The session outlives the screen: leaving it gives back what is still redirected, as soon as
    that harms nobody.

    Args:
        entrance: The way to what is shown.
        read_only: Whether nothing may be changed.

    Returns:
        The signal that ended it; None if the user did.

    Raises:
        ExceptionGroup: If there is a bug.
    """
    feed = Feed(entrance, read_only=read_only)
    app = VmRedirApp(feed)
    loop = asyncio.get_running_loop()
    came: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        came.append(number)
        app.exit()

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)

    async def hear() -> None:
        await app.painted.wait()  # what a session imports takes longer than to paint
        await feed.run()

    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(hear(), name="feed")
        await app.run_async()
        hearing.cancel()
        if app.bug is not None:
            raise app.bug
    return came[0] if came else None
