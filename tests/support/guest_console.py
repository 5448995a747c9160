"""What a guest says on its console, read through the API wherever its VM is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from kubectl_vmredir.kubevirt.stream import Websocket
from kubectl_vmredir.kubevirt.websocket import dial
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.guests.report import ConsoleReader

if TYPE_CHECKING:
    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.lab.guests.report import Fact
    from tests.support.vms import Vm
    from tests.support.worlds import World

_STEP_LIMIT_S: Final = 120.0
"""A guest that boots without a snapshot, on a machine with more to do."""

_Fact = TypeVar("_Fact")


class GuestConsole:
    """The facts that a guest has told so far.

    Attributes:
        facts: In order of the console.
    """

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self._reader = ConsoleReader()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()

    def of(self, kind: type[_Fact]) -> list[_Fact]:
        """Return the facts of one kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def wait(self, kind: type[_Fact], count: int) -> list[_Fact]:
        """Wait until there are so many facts of one kind, and return them."""
        try:
            async with asyncio.timeout(_STEP_LIMIT_S):
                while len(found := self.of(kind)) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not {count} of {kind.__name__}: {self.facts[-20:]}") from None
        return found

    async def follow(self, world: World, vm: Vm, user: str) -> None:
        """Read the console of a VM as a user; dial again after each migration, until cancelled."""
        while True:
            node = objects.status(await vm.vmi())["nodeName"]
            self._ended.clear()
            access = await world.access(user)
            stream = await dial(f"{access.server}{vm.stream('console')}", access, self)
            if isinstance(stream, Websocket):
                try:
                    await self._ended.wait()
                finally:
                    await stream.close()
                await vm.has_left(node)

    # -- what the websocket tells -------------------------------------------------------------

    def received(self, data: memoryview) -> None:
        """Take what the guest printed."""
        self.facts += self._reader.feed(bytes(data))
        self._changed.set()

    def writable(self, writable: bool) -> None:
        """Nothing is ever written."""

    def pong(self, round_trip_s: float) -> None:
        """Nobody asked."""

    def ended(self, cause: VmRedirError) -> None:
        """The guest has left, or somebody newer took the console."""
        self._ended.set()
