"""Real virtctl on the lab, with guests behind it that move."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.protocol.constants import PacketType
from tests.support.commands import Cli
from tests.support.programs import Desk, a_desk
from tests.support.real_clients import LIMIT_S, RealClient

pytestmark = [pytest.mark.peers, pytest.mark.asyncio(loop_scope="module")]

HELLO_BYTES = 80


async def port_of(process: Process) -> int:
    """Return the port on which ``virtctl usbredir --no-launch`` waits for a client."""
    assert process.stdout is not None
    while (line := await process.stdout.readline()) and b"usbredir client at" not in line:
        pass
    return int(line.rpartition(b":")[2])


async def test_stream_of_virtctl_usbredir_dies_when_the_vm_moves(
    lab: Lab, virtctl: RealClient
) -> None:
    """What this project is there for."""
    async with (
        a_desk(lab, "left-behind") as desk,
        virtctl.started("usbredir", "--no-launch", desk.ref.name) as process,
        asyncio.timeout(LIMIT_S),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", await port_of(process))
        hello = await reader.readexactly(HELLO_BYTES)
        await desk.streams("0 taken")

        move = await lab.migrate(desk.ref)

        assert await move.finished()
        _, err = await process.communicate()
        assert await reader.read() == b""
        writer.close()
        await desk.streams("0 taken", "0 free")

    assert hello[0] == PacketType.HELLO
    assert process.returncode == 1
    assert b"websocket: close 1006 (abnormal closure): unexpected EOF" in err


async def test_our_device_comes_back_beside_a_stream_of_virtctl_that_does_not(
    lab: Lab, virtctl: RealClient, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, {"KUBECONFIG": str(lab.kubeconfig)})
    async with (
        a_desk(lab, "shared") as desk,
        virtctl.started("usbredir", "--no-launch", desk.ref.name) as process,
        asyncio.timeout(LIMIT_S),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", await port_of(process))
        await reader.readexactly(HELLO_BYTES)
        bind = ("bind", "--virtual", "--foreground", "1209:0002:KEYS001", f"{desk.ref.name}/b")
        async with cli.start(*bind) as ours:
            await ours.says("connected: plugged in")
            await desk.streams("0 taken", "1 taken")

            move = await lab.migrate(desk.ref)

            assert await move.finished()
            await ours.says("went with the VM")
            assert await process.wait() == 1
            writer.close()
            ours.signal(signal.SIGINT)
            assert (await ours.end()).status == ExitCode.INTERRUPTED


async def test_slot_is_free_again_when_virtctl_ends(lab: Lab, virtctl: RealClient) -> None:
    async with (
        a_desk(lab, "free-again") as desk,
        virtctl.started("usbredir", "--no-launch", desk.ref.name) as process,
        asyncio.timeout(LIMIT_S),
    ):
        await port_of(process)
        await desk.streams("0 taken")

        process.terminate()

        await desk.streams("0 taken", "0 free")


async def test_migrate_moves_the_vm(lab: Lab, virtctl: RealClient) -> None:
    async with a_desk(lab, "asked-to-move") as desk:
        source = node_of(desk)

        done = await virtctl("migrate", desk.ref.name, "--context=admin")

        assert done.out == f"VM {desk.ref.name} was scheduled to migrate\n"
        await lab.wait_vmi(desk.ref, lambda vmi: objects.status(vmi)["nodeName"] != source)
        await settled(desk)


async def test_migrate_cancel_keeps_it_where_it_is(lab: Lab, virtctl: RealClient) -> None:
    async with a_desk(lab, "called-back") as desk:
        source = node_of(desk)
        move = await lab.migrate(desk.ref, Step.PRE_SWITCHOVER)
        await move.held(Step.PRE_SWITCHOVER)

        done = await virtctl("migrate-cancel", desk.ref.name, "--context=admin")

        assert done.status == 0, done.err
        assert not await move.finished()
        assert node_of(desk) == source
        vmi = await lab.wait_vmi(desk.ref, lambda vmi: objects.migration_state(vmi).get("failed"))
        assert objects.migration_state(vmi)["abortStatus"] == "Succeeded"


def node_of(desk: Desk) -> str:
    vmi = desk.lab.vmi(desk.ref)
    assert vmi is not None
    return str(objects.status(vmi)["nodeName"])


async def settled(desk: Desk) -> None:
    """Wait until no migration of a VM is under way."""
    await desk.lab.until(
        lambda: all(
            objects.is_final(vmim)
            for vmim in desk.lab.cache.items(Collection.VMIMS)
            if objects.spec(vmim)["vmiName"] == desk.ref.name
        ),
        "its migrations are over",
    )
