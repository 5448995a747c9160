"""Two VMs on a real control plane, and one agent that keeps four devices in each."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.guests.report import PassDone
from kubectl_vmredir.model import DeviceSelector
from kubectl_vmredir.service.interface import BindRequest
from tests.support.commands import Cli
from tests.support.guest_console import GuestConsole
from tests.support.plane.watching import Audience
from tests.support.vms import Vm, cordon, reading_guest, vm
from tests.support.worlds import World

BUSY: Final = {"stick": "stick", "serial": "serial", "keyboard": "keyboard", "card": "smartcard"}
"""Kinds of the devices of each VM, by their slots. A guest reads its stick all the time."""

IDLE: Final = {"modem": "serial", "serial": "serial", "keyboard": "keyboard", "card": "smartcard"}
"""The same without a stick: guests that do little, for a machine that has more to do."""

USER: Final = "alice"
"""Has the role edit in the namespace, and no other right."""

_NODES: Final = ("node1", "node2")
_STICK_BYTES: Final = 256 << 10
_PASSES: Final = 4
"""A guest says its last two again: one of so many began after its console was opened."""


@dataclass(frozen=True)
class Stage:
    """What is harmed, and who watches.

    Attributes:
        world: The control plane.
        vms: On different nodes as long as both move together.
        agent: The service of the agent.
        audience: Hears of all redirections.
        contents: SHA-256 of the stick of each VM, in hex; none if they have none.
        log: The log of the agent.
    """

    world: World
    vms: tuple[Vm, ...]
    agent: AgentClient
    audience: Audience
    contents: tuple[str, ...]
    log: Path

    async def node(self) -> str:
        """Return where the first VM is."""
        return str(objects.status(await self.vms[0].vmi())["nodeName"])

    async def read_by_guests(self) -> bool:
        """Wait until each guest has read its stick; return whether it found what is on it.

        Those without a stick have nothing to read, and read it right.
        """
        async with asyncio.TaskGroup() as group:
            reading = [
                group.create_task(self._whole_pass(machine), name="read-console")
                for machine in self.vms[: len(self.contents)]
            ]
        passes = [task.result() for task in reading]
        return [done.sha256 for done in passes] == list(self.contents) and not any(
            done.errors for done in passes
        )

    async def _whole_pass(self, machine: Vm) -> PassDone:
        console = GuestConsole()
        async with asyncio.TaskGroup() as group:
            following = group.create_task(console.follow(self.world, machine, USER))
            passes = await console.wait(PassDone, _PASSES)
            following.cancel()
        return passes[-1]


@asynccontextmanager
async def set_up(world: World, home: Path, devices: Mapping[str, str]) -> AsyncIterator[Stage]:
    """Start VMs and agent, and bind all; the agent ends with the context.

    Args:
        world: A control plane without VMs.
        home: An empty folder with a short path, of a user who has nothing else running.
        devices: Kinds of those of each VM, by their slots.
    """
    contents = _make_devices(home, devices)
    async with AsyncExitStack() as stack:
        vms = await _two_vms(stack, world, tuple(devices))
        agent, log = await stack.enter_async_context(_agent(world, home))
        audience = Audience()
        changes = await stack.enter_async_context(agent.subscribe(numbers=True))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        following = group.create_task(audience.follow(changes), name="audience")
        stack.callback(following.cancel)
        await _bind(agent, vms, devices)
        yield Stage(world, vms, agent, audience, contents, log)


async def _two_vms(stack: AsyncExitStack, world: World, slots: Sequence[str]) -> tuple[Vm, ...]:
    vms: list[Vm] = []
    async with world.client() as admin:
        for node in _NODES:
            others = [other for other in _NODES if other != node]
            await cordon(admin, *others)
            annotations = reading_guest(world, *slots)
            machine = await stack.enter_async_context(
                vm(world, annotations=annotations, memory="192Mi")
            )
            await machine.running()
            await cordon(admin, *others, unschedulable=False)
            vms.append(machine)
    return tuple(vms)


@asynccontextmanager
async def _agent(world: World, home: Path) -> AsyncIterator[tuple[AgentClient, Path]]:
    places = Places(home / "run" / "kubectl-vmredir", home / "state" / "kubectl-vmredir")
    places.runtime.parent.mkdir(mode=0o700)
    folders = (("XDG_RUNTIME_DIR", places.runtime), ("XDG_STATE_HOME", places.state))
    cli = Cli(home, {name: str(folder.parent) for name, folder in folders})
    started = await cli("agent", "run", "--background")
    assert started.status == 0, started.err
    try:
        async with connect(places.socket) as (line, _):
            client = AgentClient(line)
            options = Options(kubeconfig=str(world.kubeconfig), context=USER, virtual=True)
            await client.open(Access.here(options, cli.variables, home))
            yield client, places.log
    finally:
        stopped = await cli("agent", "stop", "--force")
        assert stopped.status == 0, stopped.err


async def _bind(agent: AgentClient, vms: Sequence[Vm], slots: Iterable[str]) -> None:
    devices = {device.serial: device for device in await agent.devices() if device.virtual}
    for number, machine in enumerate(vms):
        for slot in slots:
            device = DeviceSelector.of(devices[_serial(slot, number)])
            await agent.bind(BindRequest(device, machine.ref, slot))


def _make_devices(home: Path, kinds: Mapping[str, str]) -> tuple[str, ...]:
    """Make the devices of all VMs; return the SHA-256 of each stick."""
    folder = home / "state" / "kubectl-vmredir" / "virtual" / "devices"
    folder.mkdir(mode=0o700, parents=True)
    devices: list[dict[str, object]] = []
    contents: list[str] = []
    for number in range(len(_NODES)):
        for slot, kind in kinds.items():
            of_sticks: dict[str, object] = {}
            if kind == "stick":
                content, image = secrets.token_bytes(_STICK_BYTES), f"stick{number}.img"
                (folder / image).write_bytes(content)
                contents.append(hashlib.sha256(content).hexdigest())
                of_sticks = {"image": image, "read_only": True}
            devices.append({"kind": kind, "serial": _serial(slot, number), **of_sticks})
    (folder / "devices.json").write_text(json.dumps(devices))
    return tuple(contents)


def _serial(slot: str, number: int) -> str:
    return f"{slot.upper()}{number}"
