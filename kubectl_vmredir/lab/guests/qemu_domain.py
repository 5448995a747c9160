"""One QEMU process: start, live migration and end, as libvirt does them.

It dies with this process, and with the thread that runs the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError, MigrationFailed
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import MigrationPhase
from kubectl_vmredir.lab.guests.qmp import Monitor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from kubectl_vmredir.lab.guests.domain import DomainSpec
    from kubectl_vmredir.model import JsonValue

logger = logging.getLogger(__name__)

PROGRAM: Final = "qemu-system-x86_64"
_MONITOR: Final = "qmp"
_LOG: Final = "qemu.log"
"""What QEMU wrote to stderr."""

_UNLIMITED: Final = 1 << 33
"""Bytes per second: more than memory can be copied."""
_RESTORE_TIMEOUT_S: Final = 60.0
_TERMINATE_TIMEOUT_S: Final = 2.0
_CANCEL_TIMEOUT_S: Final = 10.0

_CAPABILITIES: Final = ("events", "pause-before-switchover")
"""Of a migration, at both ends."""


class QemuDomain:
    """One QEMU process; see :class:`~kubectl_vmredir.lab.guests.domain.Domain`."""

    def __init__(self, spec: DomainSpec) -> None:
        self._spec = spec
        self._statuses: asyncio.Queue[str | None] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._how_ended = ""
        self._destroyed = False
        self._address: str | None = None
        self._incoming: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process
        self._monitor: Monitor

    @property
    def spec(self) -> DomainSpec:
        """What it was made from."""
        return self._spec

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._process.pid

    @property
    def address(self) -> str:
        """Where to migrate to, as QEMU writes it."""
        assert self._address is not None, "this domain does not listen"
        return self._address

    # -- start and end ------------------------------------------------------------------------

    async def start(self, argv: Sequence[str]) -> None:
        """Start QEMU with these arguments. :meth:`run` must follow in a task."""
        folder = self._spec.run_folder
        # The monitor's socket listens before QEMU is there, and is handed over, as libvirt does
        # it: the connection waits in the backlog, and nobody has to look whether it can be made.
        listener = sockets.listen(folder, _MONITOR)
        try:
            with (folder / _LOG).open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    "setpriv", "--pdeathsig", "KILL", "--",
                    PROGRAM, "-name", str(self._spec.vmi).replace("/", "_"), *argv,
                    "-chardev", f"socket,id=charmonitor,fd={listener.fileno()},server=on,wait=off",
                    "-mon", "chardev=charmonitor,id=monitor,mode=control",
                    cwd=folder,
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=[listener.fileno()],
                    start_new_session=True,  # what is pressed on a terminal is not for it
                )  # fmt: skip
            self._monitor = await Monitor.connect(folder, _MONITOR, self._event)
        except FileNotFoundError as exc:
            raise LabError(f"cannot start {PROGRAM}: {exc}") from exc
        finally:
            listener.close()

    async def run(self) -> None:
        """Serve the domain until QEMU has ended."""
        await self._monitor.run()
        returncode = await self._process.wait()
        self._how_ended = self._describe(returncode)
        if self._incoming is not None:
            self._incoming.cleanup()
        for name in (_MONITOR, sockets.CONSOLE, *sockets.SLOTS):
            (self._spec.run_folder / name).unlink(missing_ok=True)
        self._statuses.put_nowait(None)
        self._ended.set()
        logger.info("%s: %s", self._spec.vmi, self._how_ended)

    async def prepare(self) -> None:
        """Make the monitor and the migration ready.

        Raises:
            LabError: If QEMU does not start.
        """
        try:
            await self._monitor.execute("qmp_capabilities")
            await self._monitor.execute(
                "migrate-set-capabilities",
                capabilities=[{"capability": name, "state": True} for name in _CAPABILITIES],
            )
        except LabError as error:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._ended.wait()
            raise LabError(
                f"QEMU for VM {self._spec.vmi} did not start: {self._how_ended}"
            ) from error

    async def execute(self, command: str, **arguments: JsonValue) -> JsonValue:
        """Run one command of the monitor, and return its answer; see :class:`Monitor`.

        Raises:
            LabError: If QEMU refuses, has ended, or does not answer.
        """
        return await self._monitor.execute(command, **arguments)

    async def wait_ended(self) -> str:
        """Wait until QEMU has ended, and return how."""
        await self._ended.wait()
        return self._how_ended

    async def destroy(self) -> None:
        """End QEMU, as libvirt does."""
        self._destroyed = True
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_TERMINATE_TIMEOUT_S):
                await self._ended.wait()
        except TimeoutError:
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """End QEMU at once."""
        self._destroyed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    def _describe(self, returncode: int) -> str:
        if self._destroyed:
            return "destroyed"
        lines = (self._spec.run_folder / _LOG).read_text(errors="replace").splitlines()
        last = " / ".join(line for line in lines[-6:] if line.strip()) or "it wrote nothing"
        if returncode < 0:
            return f"QEMU was killed by {signal.Signals(-returncode).name}: {last}"
        return f"QEMU ended with status {returncode}: {last}"

    def _event(self, name: str, data: Mapping[str, JsonValue]) -> None:
        if name == "MIGRATION" and isinstance(status := data.get("status"), str):
            logger.debug("%s: migration %s", self._spec.vmi, status)
            self._statuses.put_nowait(status)

    # -- migration: target --------------------------------------------------------------------

    async def restore(self, file: Path) -> None:
        """Load what :meth:`save` wrote, as a domain that was started to be a target.

        Raises:
            LabError: If it cannot be loaded.
        """
        await self._monitor.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(file))}")
        try:
            async with asyncio.timeout(_RESTORE_TIMEOUT_S):
                await self.wait_migrated()
        except TimeoutError as exc:
            raise LabError(f"the state in {file} was not loaded in time") from exc

    async def listen(self) -> None:
        """Take a migration at :attr:`address` from now on."""
        # A folder with a short path, and for this user only: whoever can connect is the guest.
        self._incoming = tempfile.TemporaryDirectory(prefix="vmredir-")
        self._address = f"unix:{self._incoming.name}/migration"
        await self._monitor.execute("migrate-incoming", uri=self._address)

    async def wait_migrated(self) -> None:
        """Wait until the state is loaded."""
        while True:
            match await self._statuses.get():
                case "completed":
                    return
                case None:
                    raise MigrationFailed(f"VM {self._spec.vmi} did not come: {self._how_ended}")
                case _:
                    pass

    async def resume(self) -> None:
        """Let the guest run."""
        await self._monitor.execute("cont")

    # -- migration: source --------------------------------------------------------------------

    async def migrate(
        self, address: str, *, on_phase: Callable[[MigrationPhase], Awaitable[None]]
    ) -> None:
        """Migrate away; with pause-before-switchover, as libvirt always does."""
        self._statuses = asyncio.Queue()
        try:
            await self._monitor.execute(
                "migrate-set-parameters", max_bandwidth=self._spec.bandwidth or _UNLIMITED
            )
            await self._monitor.execute("migrate", uri=address)
        except LabError as error:
            raise MigrationFailed(f"VM {self._spec.vmi} did not move: {error}") from error
        over = False
        try:
            await self._follow(on_phase)
            over = True
        except MigrationFailed:
            over = True
            raise
        finally:
            if not over:
                await self._call_off()

    async def cancel_migration(self) -> None:
        """Cancel the migration under way."""
        with suppress(LabError):  # QEMU has ended: so has the migration
            await self._monitor.execute("migrate_cancel")

    async def save(self, file: Path) -> None:
        """Write the state of the guest to a file, and stop it for good."""

        async def go_on(phase: MigrationPhase) -> None:
            pass

        await self.migrate(f"exec:cat >{shlex.quote(str(file))}", on_phase=go_on)

    async def _follow(self, on_phase: Callable[[MigrationPhase], Awaitable[None]]) -> None:
        while True:
            match await self._statuses.get():
                case "active":
                    await on_phase(MigrationPhase.ACTIVE)
                case "pre-switchover":
                    await on_phase(MigrationPhase.PRE_SWITCHOVER)
                    # Refused if it failed or was cancelled meanwhile: then that status follows.
                    with suppress(LabError):
                        await self._monitor.execute("migrate-continue", state="pre-switchover")
                case "completed":
                    return
                case "cancelled":
                    raise MigrationFailed(f"the migration of VM {self._spec.vmi} was cancelled")
                case "failed":
                    raise MigrationFailed(f"VM {self._spec.vmi} did not move: {await self._why()}")
                case None:
                    raise MigrationFailed(f"VM {self._spec.vmi} did not move: {self._how_ended}")
                case _:
                    pass

    async def _why(self) -> str:
        match await self._monitor.execute("query-migrate"):
            case {"error-desc": str(text)}:
                return text
            case _:
                return "the copy failed"

    async def _call_off(self) -> None:
        with suppress(LabError, TimeoutError):
            async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                await self._monitor.execute("migrate_cancel")
                while await self._statuses.get() not in ("cancelled", "failed", "completed", None):
                    pass
