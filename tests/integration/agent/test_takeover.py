"""An update in place: a command of a newer version meets an agent of an older one."""

from __future__ import annotations

import asyncio
import signal

import pytest

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.messages import PROTOCOL
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.agent.server import FORCED_WAIT_S
from kubectl_vmredir.agent.start import reach_agent
from kubectl_vmredir.errors import OtherVersion
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.guests.report import Disconnect, DiskSeen
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.model import DeviceSelector, RedirectionId, RedirectionState, VmiRef
from kubectl_vmredir.service.interface import BindRequest
from tests.support.agent_process import (
    Guest,
    client_for,
    guest_of,
    hello_of_agent,
    other_agent,
    reaches,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

STICK = DeviceSelector.parse("1209:0001:FLASH001")
OLDER = [pytest.param("0.0.9", PROTOCOL, id="version"), pytest.param("0.0.9", 0, id="protocol")]


async def wish_for(lab: Lab, vmi: VmiRef, guest: Guest) -> RedirectionId:
    """Have an agent bind the stick, and end: all that is left of it is the wish."""
    async with client_for(lab.kubeconfig) as client:
        bound = await client.bind(BindRequest(STICK, vmi, "token"))
        await guest.says(DiskSeen, 1)
        assert await client.stop() == ()
    return bound


@pytest.mark.parametrize(("version", "protocol"), OLDER)
async def test_newer_command_takes_over_and_the_guest_sees_one_replug(
    lab: Lab, desk: VmiRef, version: str, protocol: int
) -> None:
    async with guest_of(lab, desk) as guest:
        bound = await wish_for(lab, desk, guest)
        async with other_agent(version, protocol) as older:
            await guest.says(DiskSeen, 2)
            assert len(guest.of(Disconnect)) == 1

            async with client_for(lab.kubeconfig) as client:
                status = await reaches(client, bound, RedirectionState.CONNECTED)
                await guest.says(DiskSeen, 3)

                assert await older.wait() == 0
                assert (status.vmi, status.slot) == (desk, "token")
                assert (await client.status()).version == __version__
                assert len(guest.of(Disconnect)) == 2
                await client.unbind(bound)
                await client.stop()
            await guest.says(Disconnect, 3)
            assert len(guest.of(DiskSeen)) == 3


@pytest.mark.parametrize(
    ("version", "protocol", "way_out"),
    [
        pytest.param("99.0", PROTOCOL, "kubectl vmredir agent stop", id="version"),
        pytest.param("99.0", PROTOCOL + 1, "kill {pid}", id="protocol"),
        pytest.param("tomorrow", PROTOCOL, "kubectl vmredir agent stop", id="no-version-at-all"),
    ],
)
async def test_older_command_is_told_so_and_ends_nothing(
    version: str, protocol: int, way_out: str
) -> None:
    async with other_agent(version, protocol) as newer:
        with pytest.raises(OtherVersion, match=f"of version {version}, this is") as caught:
            async with reach_agent(Places.of_user()):
                pass

        assert way_out.format(pid=newer.pid) in str(caught.value.hint)
        assert (await hello_of_agent()).pid == newer.pid


@pytest.mark.parametrize(("version", "protocol"), OLDER)
async def test_older_agent_ends_only_when_that_harms_no_vm(
    lab: Lab, desk: VmiRef, version: str, protocol: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def command(bound: RedirectionId) -> None:
        async with client_for(lab.kubeconfig) as client:
            await reaches(client, bound, RedirectionState.CONNECTED)
            await client.unbind(bound)
            await client.stop()

    async with guest_of(lab, desk) as guest:
        bound = await wish_for(lab, desk, guest)
        async with other_agent(version, protocol) as older:
            await guest.says(DiskSeen, 2)
            move = await lab.migrate(desk, hold_at=Step.STARTED)
            await move.held(Step.STARTED)

            async with asyncio.TaskGroup() as group:
                group.create_task(command(bound), name="command")
                await stays(older)
                assert f"is of version {version}" in caplog.text
                older.send_signal(signal.SIGTERM)  # as of one more command
                await stays(older)
                assert len(guest.of(Disconnect)) == 1

                await move.release()
                assert await move.finished()
            assert await older.wait() == 0


async def stays(agent: asyncio.subprocess.Process) -> None:
    """See that an agent does not end in the time that a forced end takes."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(FORCED_WAIT_S * 1.5):
            await agent.wait()
