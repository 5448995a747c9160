"""The components as processes of their own, which know a URL and a kubeconfig."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.backends import Backend
from kubectl_vmredir.lab.cluster import CONTROLLERS, Lab
from kubectl_vmredir.lab.processes import Component
from kubectl_vmredir.lab.timeline import Step
from tests.support.labs import DESK

_PARENT = """
import asyncio, sys
from pathlib import Path
from kubectl_vmredir.lab.processes import Component

async def main():
    async with Component("API server", Path(sys.argv[1], "api"), ["api"]) as api:
        await api.first_line()
        print(api.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def ended(pid: int) -> None:
    """Wait until a process that is no child of ours has ended."""
    descriptor = os.pidfd_open(pid)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(20):
            await gone.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_controllers_killed_by_sigkill_in_mid_migration_and_started_again_finish_it(
    tmp_path: Path,
) -> None:
    async with Lab(tmp_path, backend=Backend.SIM, split=True) as lab:
        await lab.create_vm(DESK, slots=("flash",))
        await lab.wait_running(DESK)
        move = await lab.migrate(DESK, Step.PRE_SWITCHOVER)
        await move.held(Step.PRE_SWITCHOVER)

        await lab.kill(CONTROLLERS)
        await move.release()
        vmi = await lab.wait_vmi(DESK, lambda vmi: objects.migration_state(vmi).get("completed"))
        assert objects.status(vmi)["nodeName"] == "node2", "the nodes need no controllers for it"
        assert move.vmim is not None
        assert objects.phase(move.vmim) == "Running"
        await lab.start_controllers()

        assert await move.finished()
        assert await (await lab.migrate(DESK)).finished()
        assert [log.relative_to(tmp_path).parts[0] for log in lab.console_log(DESK)] == [
            "node1",
            "node2",
            "node1",
        ]


async def test_a_component_ends_with_whoever_started_it_even_by_sigkill(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(40):
        child = int(await parent.stdout.readline())

    parent.kill()
    await parent.wait()

    await ended(child)


async def test_a_component_that_cannot_start_says_why_in_its_log(tmp_path: Path) -> None:
    nowhere = tmp_path / "no.kubeconfig"
    args = ["controllers", "--server", "https://127.0.0.1:1", "--kubeconfig", str(nowhere)]
    component = Component("controllers", tmp_path / "controllers", args)

    async with component:
        await ended(component.pid)

    assert "no.kubeconfig" in component.log.read_text()
    assert "Traceback" not in component.log.read_text()
