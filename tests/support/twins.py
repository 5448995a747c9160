"""Scenes that a guest of the lab plays, real or simulated, and what they are to come to.

Each scene is played with a :class:`Stage` and returns a transcript: what the guest and its
usb-host saw, without times and without what is chance. Real and simulated guest have to give
the same one. Where QEMU is a matter of chance the scene asks it so often that it is none.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from kubectl_vmredir.errors import MigrationFailed
from kubectl_vmredir.lab.devices.keyboard import Keyboard
from kubectl_vmredir.lab.devices.stick import Stick
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import Domain, DomainSpec, Hypervisor, MigrationPhase
from kubectl_vmredir.lab.guests.report import (
    ConsoleReader,
    Disconnect,
    DiskSeen,
    Fact,
    Gap,
    KernelLine,
    PassDone,
    ReadError,
)
from kubectl_vmredir.model import VmiRef, VmiUid
from tests.support.scripted_usb_host import POKE, TIMEOUT_S, Link, ScriptedUsbHost

IMAGE = random.Random(7).randbytes(1 << 20)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
SERIAL = "TWIN"


async def go_on(phase: MigrationPhase) -> None:
    pass


class Guest:
    """A domain, and a reader of its console."""

    def __init__(
        self, domain: Domain, console: asyncio.StreamReader, reader: ConsoleReader
    ) -> None:
        self.domain = domain
        self._console = console
        self._reader = reader
        self._facts: list[Fact] = []

    @property
    def folder(self) -> Path:
        return self.domain.spec.run_folder

    async def until(self, is_wanted: Callable[[Fact], bool]) -> list[str]:
        """Read the console up to such a fact, and return the facts up to it in words."""
        words: list[str] = []
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                while self._facts:
                    fact = self._facts.pop(0)
                    words += _words(fact)
                    if is_wanted(fact):
                        return words
                data = await self._console.read(4096)
                assert data, f"the console ended; {words}"
                self._facts += self._reader.feed(data)

    async def until_line(self, words: str) -> list[str]:
        """Read the console up to a line of the kernel with these words."""
        return await self.until(lambda fact: isinstance(fact, KernelLine) and words in fact.text)

    async def until_disconnect(self) -> list[str]:
        """Read the console up to where the kernel sees a device go."""
        return await self.until(lambda fact: isinstance(fact, Disconnect))


def _words(fact: Fact) -> list[str]:
    match fact:
        case DiskSeen(serial=serial, size=size):
            return [f"disk {serial} {size}"]
        case PassDone(sha256=sha256, errors=errors):
            return [f"pass {'right' if sha256 == SHA256 else 'WRONG'}, {errors} errors"]
        case Gap():
            return ["gap"]
        case ReadError():
            return ["error"]
        case Disconnect():
            return ["disconnect"]
        case _:
            return []


def is_pass(fact: Fact) -> bool:
    return isinstance(fact, PassDone)


class Stage:
    """What a scene is played on: a hypervisor, folders, and a stick.

    An async context manager's: see :func:`stage`.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        folder: Path,
        group: asyncio.TaskGroup,
        closing: ExitStack,
    ) -> None:
        self._hypervisor = hypervisor
        self._folder = folder
        self._group = group
        self._closing = closing
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self._console = ConsoleReader()
        self.stick = ScriptedUsbHost(Stick(SERIAL, IMAGE))

    async def boot(self) -> Guest:
        return await self._guest(await self._hypervisor.boot(self._spec()))

    async def listen(self) -> Guest:
        return await self._guest(await self._hypervisor.listen(self._spec()))

    async def link(self, guest: Guest, slot: int = 0) -> Link:
        link = await Link.open(guest.folder, slot)
        self._closing.callback(link.close)
        return link

    async def plug_in(
        self, guest: Guest, device: ScriptedUsbHost | None = None, slot: int = 0
    ) -> Link:
        """Give the guest the stick, or another device."""
        link = await self.link(guest, slot)
        serving = (device or self.stick).plug_in(link)
        self._tasks.append(self._group.create_task(serving, name="plug-in"))
        return link

    def serve(self, link: Link) -> None:
        """Let the stick go on behind this link."""
        self._tasks.append(self._group.create_task(self.stick.serve(link), name="serve"))

    async def move(self, source: Guest, target: Guest) -> None:
        """Migrate, up to where the target could run; the source is gone then."""
        async with asyncio.timeout(TIMEOUT_S):
            await source.domain.migrate(target.domain.address, on_phase=go_on)
            await target.domain.wait_migrated()

    async def _guest(self, domain: Domain) -> Guest:
        with sockets.short_path(domain.spec.run_folder, sockets.CONSOLE) as path:
            reader, writer = await asyncio.open_unix_connection(path)
        self._closing.callback(writer.close)
        return Guest(domain, reader, self._console)

    def _spec(self) -> DomainSpec:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir(parents=True)
        return DomainSpec(VmiRef("demo", "twin"), VmiUid("twin"), folder)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def stage(hypervisor: Hypervisor, folder: Path) -> AsyncIterator[Stage]:
    with ExitStack() as closing:
        async with asyncio.TaskGroup() as group:
            scene = Stage(hypervisor, folder, group, closing)
            try:
                yield scene
            finally:
                scene.stop()


# -- scenes ---------------------------------------------------------------------------------


async def attach(stage: Stage) -> list[str]:
    """A stick is plugged in, and read. The order of requests is that of their first time."""
    guest = await stage.boot()
    await stage.plug_in(guest)

    facts = await guest.until(is_pass)

    return [*dict.fromkeys(stage.stick.heard), *facts]


async def keyboard(stage: Stage) -> list[str]:
    """A keyboard is plugged in, made ready and polled."""
    guest = await stage.boot()
    device = ScriptedUsbHost(Keyboard("KEYS"))
    await stage.plug_in(guest, device)

    await device.has_heard("start_interrupt_receiving")

    return [*dict.fromkeys(device.heard)]


async def two_of_the_same(stage: Stage) -> list[str]:
    """Two sticks with one serial number: the second one is called by its port."""
    guest = await stage.boot()
    await stage.plug_in(guest)
    facts = await guest.until(is_pass)
    await stage.plug_in(guest, ScriptedUsbHost(Stick(SERIAL, IMAGE)), slot=1)

    facts += await guest.until(lambda fact: isinstance(fact, PassDone) and fact.serial != SERIAL)

    return [*dict.fromkeys(facts)]


async def cancelled(stage: Stage) -> list[str]:
    """A migration is cancelled when the guest has stopped already: it goes on where it was."""
    source, target = await stage.boot(), await stage.listen()
    await stage.plug_in(source)
    await source.until(is_pass)
    await stage.link(target)

    async def cancel(phase: MigrationPhase) -> None:
        if phase is MigrationPhase.PRE_SWITCHOVER:
            await source.domain.cancel_migration()

    with pytest.raises(MigrationFailed, match="cancelled"):
        await source.domain.migrate(target.domain.address, on_phase=cancel)
    with pytest.raises(MigrationFailed):
        await target.domain.wait_migrated()

    return [*await source.until(is_pass), *await source.until(is_pass)]


async def no_client(stage: Stage) -> list[str]:
    """The target has no client when it loads the state: the guest sees an unplug."""
    source, target = await stage.boot(), await stage.listen()
    link = await stage.plug_in(source)
    await source.until(is_pass)

    await stage.move(source, target)
    link.cut()
    stage.stick.heard.clear()
    await target.domain.resume()
    await stage.plug_in(target)
    facts = await target.until(is_pass)

    # The reader of the real guest may see its error before the kernel says why, and more than one.
    first = {"disconnect", "error"}
    return [
        *sorted(first & {*facts}),
        *(fact for fact in facts if fact not in first),
        stage.stick.heard[0],
    ]


async def silent_standby(stage: Stage) -> list[str]:
    """The target has a client already: it says no hello, and the guest notices nothing."""
    return await _hand_over(stage, split_at=0)


async def half_a_packet(stage: Stage) -> list[str]:
    """The source has read half of a packet: the target goes on in the middle of it."""
    return await _hand_over(stage, split_at=5000)


async def _hand_over(stage: Stage, *, split_at: int) -> list[str]:
    source, target = await stage.boot(), await stage.listen()
    source_link = await stage.plug_in(source)
    await source.until(is_pass)
    stage.stick.hold_next_read()
    answer = await stage.stick.held()
    await source_link.send(answer[:split_at])
    await source_link.consumed()
    standby = await stage.link(target)

    await stage.move(source, target)
    source_link.cut()
    stage.stick.heard.clear()
    stage.stick.release()
    await standby.send(answer[split_at:])
    stage.serve(standby)
    await target.domain.resume()
    facts = [*await target.until(is_pass), *await target.until(is_pass)]

    greetings = [word for word in stage.stick.heard if word in ("hello", "reset")]
    return [*facts, *greetings]


async def one_byte_too_many(stage: Stage) -> list[str]:
    """The target gets a byte that the source has consumed."""
    return await _wrong_byte(stage, -1)


async def one_byte_too_few(stage: Stage) -> list[str]:
    """The target misses a byte that the source has not consumed."""
    return await _wrong_byte(stage, +1)


async def _wrong_byte(stage: Stage, offset: int) -> list[str]:
    source, target = await stage.boot(), await stage.listen()
    source_link = await stage.plug_in(source)
    await source.until(is_pass)
    stage.stick.hold_next_read()
    answer = await stage.stick.held()
    await source_link.send(answer[:5000])
    await source_link.consumed()
    standby = await stage.link(target)

    await stage.move(source, target)
    source_link.cut()
    # What follows, in more than one read: in QEMU the second one is deadly.
    await standby.send(answer[5000 + offset :] + POKE * 1000)
    await target.domain.resume()
    async with asyncio.timeout(TIMEOUT_S):
        how = await target.domain.wait_ended()

    return ["SIGABRT" if "SIGABRT" in how and "read_buf == NULL" in how else how]


async def second_client(stage: Stage) -> list[str]:
    """A slot that is taken: the next client connects, unheard, until the first is gone."""
    guest = await stage.boot()
    first = await stage.plug_in(guest)
    await guest.until(is_pass)
    second = await stage.link(guest)
    passes = [*await guest.until(is_pass), *await guest.until(is_pass)]

    first.cut()
    gone = await guest.until_disconnect()
    async with asyncio.timeout(TIMEOUT_S):
        greeting = await second.receive()

    return [*passes, *gone, greeting[12:39].decode()]


async def idle_standby(stage: Stage) -> list[str]:
    """A client on the target's slot where the source has none: it hears nothing, ever."""
    source, target = await stage.boot(), await stage.listen()
    await stage.plug_in(source)
    await source.until(is_pass)
    idle = await stage.link(target, slot=2)

    await stage.move(source, target)
    await target.domain.resume()
    await stage.plug_in(target)
    facts = await target.until(is_pass)
    silent = not idle.has_received()
    idle.cut()
    fresh = await stage.link(target, slot=2)
    async with asyncio.timeout(TIMEOUT_S):
        greeting = await fresh.receive()

    return [facts[-1], "silent" if silent else "it spoke", greeting[12:39].decode()]


SCENES = {
    scene.__name__: scene
    for scene in (
        attach,
        keyboard,
        two_of_the_same,
        cancelled,
        no_client,
        silent_standby,
        half_a_packet,
        one_byte_too_many,
        one_byte_too_few,
        second_client,
        idle_standby,
    )
}
