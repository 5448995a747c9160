"""A hundred thousand messages that nobody should send; ``make fuzz-agent`` sends more."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import pytest

from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.agent.server import MAX_CLIENTS
from kubectl_vmredir.agent.wire import codec_of
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.guests.report import Disconnect, DiskSeen
from kubectl_vmredir.model import DeviceSelector, RedirectionState, VmiRef
from kubectl_vmredir.service.interface import BindRequest
from tests.support.agent_process import access_to, client_for, guest_of, reaches
from tests.support.gibberish import Gibberish

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES: Final = int(os.environ.get("VMREDIR_FUZZ_MESSAGES", "100000"))
SEED: Final = int(os.environ.get("VMREDIR_FUZZ_SEED", "1"))

AT_ONCE: Final = 8
FLOODS: Final = 4
MOST_GROWTH_BYTES: Final = 16 << 20
"""What an allocator keeps of the memory that one flood or a list of clients took."""

STICK: Final = DeviceSelector.parse("1209:0001:FLASH001")
ANSWER_LIMIT_S: Final = 10.0


async def say(path: Path, lines: list[bytes], *, hear: bool) -> None:
    """Converse, wherever it ends; whether the answers are read or not."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            writer.writelines(lines)
            if hear:
                writer.write_eof()
                while await reader.read(1 << 16):
                    pass
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


async def fuzz(path: Path, gibberish: Gibberish, messages: int) -> int:
    """Send so many messages, a few conversations at a time; return how many those were."""
    sent = 0

    async def talk() -> int:
        nonlocal sent
        count = 0
        while sent < messages:
            lines = gibberish.conversation(messages - sent)
            sent += len(lines)
            count += 1
            await say(path, lines, hear=count % 4 != 0)
        return count

    async with asyncio.TaskGroup() as group:
        talkers = [group.create_task(talk()) for _ in range(AT_ONCE)]
    return sum(talker.result() for talker in talkers)


async def flood(path: Path) -> None:
    """Have more connect at once than there may be, who say nothing, and go."""
    async with asyncio.TaskGroup() as group:
        for _ in range(MAX_CLIENTS + 50):
            group.create_task(say(path, [], hear=False))


class Footprint:
    """What the agent takes of the machine."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    @property
    def resident_bytes(self) -> int:
        """Memory that is its own, or shared."""
        return int((self._proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """Open files."""
        return len(list((self._proc / "fd").iterdir()))


async def settled(client: AgentClient, clients: int) -> None:
    """Wait until nobody but so many clients is connected."""
    async with asyncio.timeout(ANSWER_LIMIT_S), client.watch_overview():
        while (await client.status()).clients != clients:
            pass


async def test_nothing_that_a_client_sends_disturbs_the_agent(lab: Lab, desk: VmiRef) -> None:
    path = Places.of_user().socket
    gibberish = Gibberish(SEED, codec_of(Access).encode(access_to(lab.kubeconfig)))
    async with guest_of(lab, desk) as guest, client_for(lab.kubeconfig) as client:
        bound = await client.bind(BindRequest(STICK, desk))
        await reaches(client, bound, RedirectionState.CONNECTED)
        await guest.says(DiskSeen, 1)
        pid = (await client.status()).pid
        footprint = Footprint(pid)
        await fuzz(path, gibberish, MESSAGES // 10)
        await settled(client, 1)
        memory, descriptors = footprint.resident_bytes, footprint.descriptors

        conversations = 0
        for _ in range(FLOODS):
            await flood(path)
            conversations += await fuzz(path, gibberish, MESSAGES * 9 // 10 // FLOODS)
            async with connect(path) as (line, _):  # somebody else is answered meanwhile
                assert (await AgentClient(line).status()).pid == pid

        await settled(client, 1)
        growth = footprint.resident_bytes - memory
        print(f"{conversations} conversations, {growth / 1e6:.1f} MB more")  # noqa: T201
        (view,) = (await client.snapshot()).redirections
        assert (view.status.id, view.status.state) == (bound, RedirectionState.CONNECTED)
        assert guest.of(Disconnect) == []
        assert growth < MOST_GROWTH_BYTES
        assert footprint.descriptors == descriptors
        await client.unbind(bound)
        assert await client.stop() == ()
