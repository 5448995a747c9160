"""The whole client on the whole cluster: a stick, a VM that moves, a user with the role edit.

In the real world the VM is the project's guest in QEMU, moved by virt-controller. The guest reads
the stick directly, hashes it, and says on its console what it found; the stick's content is
random, so that no cache knows it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
import signal
from typing import TYPE_CHECKING

from kubectl_vmredir.lab.guests.report import DiskSeen, Gap, PassDone
from tests.support.commands import Cli
from tests.support.guest_console import GuestConsole
from tests.support.vms import NAMESPACE, reading_guest, vm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.worlds import World

MIGRATIONS = int(os.environ.get("VMREDIR_CLUSTER_MIGRATIONS", "5"))
STICK_BYTES = 1 << 20
HANDED_OVER = re.compile(
    r"connected: .*\((?P<kind>\w+) handover, node\d to node\d, link gap (?P<gap>\d+) ms\)"
)


def with_stick(home: Path, content: bytes) -> Cli:
    """Return the command with one virtual stick."""
    devices = home / "state" / "kubectl-vmredir" / "virtual" / "devices"
    devices.mkdir(parents=True)
    (devices / "stick.img").write_bytes(content)
    stick = {"kind": "stick", "serial": "CONTRACT", "image": "stick.img", "read_only": True}
    (devices / "devices.json").write_text(json.dumps([stick]))
    return Cli(home, {"XDG_STATE_HOME": str(home / "state")})


async def a_whole_pass_since(console: GuestConsole, disk: DiskSeen) -> PassDone:
    """Wait for a pass that began when the disk was there, and return it."""
    count = 1
    while True:
        passes = await console.wait(PassDone, count)
        if passes[-1].started >= disk.t:
            return passes[-1]
        count = len(passes) + 1


async def test_a_stick_stays_plugged_through_migrations(
    world: World, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    content = secrets.token_bytes(STICK_BYTES)
    cli, console = with_stick(tmp_path, content), GuestConsole()
    async with vm(world, annotations=reading_guest(world, "flash"), memory="192Mi") as desk:
        await desk.running()
        bind = [
            "bind", "--virtual", "--foreground", "1209:0001:CONTRACT", f"{desk.ref.name}/flash",
            "--kubeconfig", str(world.kubeconfig), "--context", "alice", "-n", NAMESPACE,
        ]  # fmt: skip
        async with asyncio.TaskGroup() as group, cli.start(*bind) as running:
            following = group.create_task(console.follow(world, desk, "alice"))
            await running.says("connected")
            disks = await console.wait(DiskSeen, 1)
            passes = [await a_whole_pass_since(console, disks[-1])]
            handovers = []
            for number in range(MIGRATIONS):
                await desk.moved()
                told = HANDED_OVER.search(await running.says("handover"))
                assert told is not None
                handovers.append(told)
                disks = await console.wait(DiskSeen, number + 2)
                passes.append(await a_whole_pass_since(console, disks[-1]))
            following.cancel()
            running.signal(signal.SIGINT)
            done = await running.end()

    gaps = {
        "link": [int(told["gap"]) for told in handovers],
        "guest": [gap.milliseconds for gap in console.of(Gap)],
    }
    for name, values in gaps.items():
        record_testsuite_property(f"{world.kind}_{name}_gaps_ms", values)
    assert {done.sha256 for done in passes} == {hashlib.sha256(content).hexdigest()}
    assert all(done.errors == 0 for done in passes)
    assert [told["kind"] for told in handovers] == ["cold"] * MIGRATIONS
    assert done.status == 130
    assert "error" not in done.err
