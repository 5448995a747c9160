"""The program on the lab of the demo: it shows and touches nothing else."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.bootstrap import demo_lab, open_demo
from kubectl_vmredir.cli.commands.screen import show
from kubectl_vmredir.tui.app import run
from kubectl_vmredir.tui.session import Entrance, Session

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator

CONTEXTS: Final = ("admin", "alice")
"""Of the lab's kubeconfig: who may migrate, and who may not."""

_HINT: Final = """\
A lab on this machine: nothing is real but the bytes.
enter enter enter  plug the stick into a VM
m → enter          move that VM to another node
u → enter          take the stick out again
?                  all keys"""


def show_demo(*, backend: str, chaos: bool) -> int:
    """Open the program on a lab that ends with it; return the exit status.

    Args:
        backend: What the guests are.
        chaos: Whether its VMs move by themselves.
    """

    async def main() -> signal.Signals | None:
        async with demo_lab(Path(folder), backend=backend, chaos=chaos) as demo:

            @asynccontextmanager
            async def open_session(context: str | None) -> AsyncIterator[Session]:
                async with open_demo(demo, context or CONTEXTS[0]) as found:
                    yield Session(
                        found.service,
                        found.namespace,
                        found.context,
                        found.user,
                        flags=None,
                        hint=_HINT,
                    )

            return await run(Entrance(open_session, contexts=lambda: CONTEXTS))

    with tempfile.TemporaryDirectory(prefix="vmredir-demo-") as folder:
        return show(main)
