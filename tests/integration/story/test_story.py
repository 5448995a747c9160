"""The story of the demo cannot be told well when something is wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
from kubectl_vmredir.kubevirt.dial import ApiDialer
from kubectl_vmredir.lab import story
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.console import follow_console
from kubectl_vmredir.lab.devices.function import Function
from kubectl_vmredir.lab.devices.keyboard import Keyboard
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.devices.stick import Stick
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.story import Report, Stage
from kubectl_vmredir.model import DeviceSelector, VmiRef
from kubectl_vmredir.service.service import Service
from tests.support.programs import a_client

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = os.urandom(256 << 10)


@asynccontextmanager
async def a_stage(lab: Lab, function: Function | None = None) -> AsyncIterator[Stage]:
    """Give what the demo plays on, with a small stick or another device."""
    stick = Stick("FLASH001", IMAGE, read_only=True)
    await lab.create_vm(story.VM, slots=(story.SLOT,))
    await lab.wait_running(story.VM)
    async with (
        VirtualDevices([function or stick]) as devices,
        a_client(lab) as client,
        Service(devices, KubevirtCluster(client), ApiDialer(client)) as service,
    ):
        [device] = await devices.devices()
        yield Stage(
            service=service,
            device=DeviceSelector.of(device),
            image=IMAGE,
            bytes_served=lambda: stick.bytes_served,
            migrate=lab.migrate,
            console=follow_console(lab, story.VM),
            backend="sim",
            clock_speed=1,
        )
    await lab.delete_vm(story.VM)
    await lab.until(
        lambda: lab.cache.get(Collection.VMS, "demo", "fedora") is None, "the VM is gone"
    )


async def tell(stage: Stage, migrations: int = 1) -> tuple[Report, str]:
    said: list[str] = []
    report = await story.tell(stage, migrations=migrations, say=said.append)
    return report, "\n".join(said)


async def test_story_that_goes_well(lab: Lab) -> None:
    async with a_stage(lab) as stage:
        report, said = await tell(stage, migrations=2)

    assert report.ok
    assert [(move.source_node, move.target_node) for move in report.migrations] == [
        ("node1", "node2"),
        ("node2", "node1"),
    ]
    assert all(move.guest_gap_ms >= move.link_gap_ms >= 100 for move in report.migrations)
    assert set(report.sha256_guest) == {report.sha256_expected}
    assert report.bytes_served >= len(IMAGE) * len(report.sha256_guest)
    assert said.count("checksum right") == 3


async def test_bytes_that_are_not_those_of_the_stick_are_not_ok(lab: Lab) -> None:
    async with a_stage(lab) as stage:
        wrong = dataclasses.replace(stage, image=os.urandom(len(IMAGE)))

        report, said = await tell(wrong)

    assert not report.ok
    assert report.sha256_expected not in report.sha256_guest
    assert said.count("CHECKSUM WRONG") == 2


async def test_bytes_that_the_stick_has_not_served_are_not_ok(lab: Lab) -> None:
    async with a_stage(lab) as stage:
        cached = dataclasses.replace(stage, bytes_served=lambda: len(IMAGE))

        report, _ = await tell(cached)

    assert not report.ok


# A guest that reads leaves no time to be skipped, so what waits for long has one that does not.


async def says(*facts: dict[str, object]) -> AsyncIterator[bytes]:
    """Say this on the console of a guest, and no more."""
    for number, fact in enumerate(facts):
        yield f"@{json.dumps({'seq': number, 'serial': 'FLASH001', **fact})}\n".encode()
    await asyncio.Event().wait()


DISK: dict[str, object] = {"event": "disk", "name": "sda", "bytes": len(IMAGE), "t": 1.0}
PASS: dict[str, object] = {
    "event": "pass", "n": 1, "bytes": len(IMAGE), "sha256": hashlib.sha256(IMAGE).hexdigest(),
    "started": 1.0, "ended": 2.0, "errors": 0, "max_gap_ms": 1,
}  # fmt: skip


async def never(vmi: VmiRef) -> None:
    """Migrate nothing."""


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        ((), "the guest did not report the stick in 120 s"),
        ((DISK,), "the guest did not report a whole pass in 120 s"),
        ((DISK, PASS), "no handover within 120 s of a migration"),
    ],
)
async def test_what_does_not_happen_ends_the_story(
    lab: Lab, facts: tuple[dict[str, object], ...], missing: str
) -> None:
    async with a_stage(lab, Keyboard("K1")) as stage:
        with pytest.raises(ExceptionGroup) as caught:
            await tell(dataclasses.replace(stage, console=says(*facts), migrate=never))

    assert caught.group_contains(LabError, match=missing)
