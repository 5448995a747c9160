from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.report import (
    ConsoleReader,
    Disconnect,
    DiskSeen,
    Fact,
    PassDone,
    ReadError,
)
from kubectl_vmredir.lab.guests.sim import SimHypervisor
from tests.support.scripted_usb_host import TIMEOUT_S, Link
from tests.support.twins import SHA256, go_on, is_pass, stage

TARGET = """
import asyncio, sys
from pathlib import Path
from kubectl_vmredir.lab.guests.domain import DomainSpec
from kubectl_vmredir.lab.guests.sim import SimHypervisor
from kubectl_vmredir.model import VmiRef, VmiUid

async def main():
    async with SimHypervisor() as hypervisor:
        spec = DomainSpec(VmiRef("demo", "twin"), VmiUid("twin"), Path(sys.argv[1]))
        domain = await hypervisor.listen(spec)
        print(domain.address, flush=True)
        await domain.wait_migrated()
        await domain.resume()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


def test_a_guest_moves_to_another_process_in_the_middle_of_a_read(tmp_path: Path) -> None:
    # Processes take time, so the clock must not jump here.
    with asyncio.Runner() as runner:
        runner.run(_move_to_another_process(tmp_path))


async def _move_to_another_process(tmp_path: Path) -> None:
    folder = tmp_path / "target"
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TARGET, str(folder),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    async with (
        asyncio.timeout(TIMEOUT_S),
        SimHypervisor() as hypervisor,
        stage(hypervisor, tmp_path / "source") as scene,
    ):
        source = await scene.boot()
        link = await scene.plug_in(source)
        await source.until(is_pass)
        scene.stick.hold_next_read()
        answer = await scene.stick.held()
        address = (await process.stdout.readline()).decode().strip()
        standby = await Link.open(folder)

        await source.domain.migrate(address, on_phase=go_on)
        link.cut()
        await standby.send(answer)
        scene.stick.release()
        scene.serve(standby)
        with sockets.short_path(folder, sockets.CONSOLE) as path:
            console, writer = await asyncio.open_unix_connection(path)
        reader, facts = ConsoleReader(), list[Fact]()
        while sum(isinstance(fact, PassDone) for fact in facts) < 4:
            facts += reader.feed(await console.readline())
        standby.cut()
        writer.close()
        process.stdin.close()
        assert await process.wait() == 0
    standby.close()

    # The pass that was cut through is right as well, and the disk was plugged in once.
    assert [fact.sha256 for fact in facts if isinstance(fact, PassDone)] == [SHA256] * 4
    assert sum(isinstance(fact, DiskSeen) for fact in facts) == 1
    assert not any(isinstance(fact, Disconnect | ReadError) for fact in facts)
