"""The terminal program on a scripted service, for as long as a test looks at it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot

from kubectl_vmredir.tui.app import VmRedirApp
from kubectl_vmredir.tui.feed import Feed
from kubectl_vmredir.tui.session import Entrance
from tests.support.scripted_service import NOON, ScriptedService, entrance_to

WIDE: Final = (140, 40)
NARROW: Final = (80, 24)

_LIMIT_S: Final = 5.0


class Clock:
    """Goes only when a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Tui:
    """The program, and what a test does with it.

    Attributes:
        app: The program.
        pilot: Presses keys.
        service: What is behind it.
        feed: Hears the service.
        clock: That of dialogs.
    """

    def __init__(
        self,
        app: VmRedirApp,
        pilot: Pilot[None],
        service: ScriptedService,
        feed: Feed,
        clock: Clock,
    ) -> None:
        self.app = app
        self.feed = feed
        self.pilot = pilot
        self.service = service
        self.clock = clock

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until all has come of them that comes at once."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def types(self, text: str) -> None:
        """Press keys faster than the program hears them."""
        for character in text:
            self.app.post_message(events.Key(_character_to_key(character), character))
        await self.pilot.pause()

    async def sees(self, *texts: str) -> str:
        """Wait until all of the texts are on the screen; return what is."""
        return await self._until(lambda: all(text in self.text for text in texts), texts)

    async def sees_no_more(self, text: str) -> str:
        """Wait until the text is not on the screen any more; return what is."""
        return await self._until(lambda: text not in self.text, (f"no {text}",))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        await self._until(condition, ("what is not there",))

    async def _until(self, condition: Callable[[], bool], texts: tuple[str, ...]) -> str:
        try:
            async with asyncio.timeout(_LIMIT_S):
                while not condition():
                    await self.pilot.pause()
        except TimeoutError as exc:
            raise AssertionError(f"waited for {texts} on the screen:\n{self.text}") from exc
        return self.text

    async def ends(self) -> None:
        """Wait until the program has ended."""
        async with asyncio.timeout(_LIMIT_S):
            while self.app.is_running:
                await self.pilot.pause()

    @property
    def text(self) -> str:
        """What is on the screen, without colours."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in lines)


@asynccontextmanager
async def running(
    service: ScriptedService,
    *,
    size: tuple[int, int] = WIDE,
    entrance: Entrance | None = None,
    read_only: bool = False,
    theme: str = "textual-dark",
    wall_clock: Callable[[], float] = lambda: NOON,
) -> AsyncIterator[Tui]:
    """Run the program; draw at once what is heard, and try again at once what fails."""
    feed = Feed(
        entrance or entrance_to(service),
        read_only=read_only,
        wall_clock=wall_clock,
        backoff=lambda: itertools.repeat(3600.0),
    )
    clock = Clock()
    app = VmRedirApp(feed, clock=clock, wall_clock=wall_clock, frame_s=0.0)
    async with app.run_test(size=size, notifications=True) as pilot, asyncio.TaskGroup() as group:
        app.theme = theme
        app.animation_level = "none"
        hearing = group.create_task(feed.run(), name="feed")
        await pilot.pause()
        yield Tui(app, pilot, service, feed, clock)
        hearing.cancel()
