"""Real QEMU behind a node: real unix sockets, real live migrations.

The command line is libvirt's as far as it can be seen from outside: machine, USB controller,
names of chardevs and sockets. A VM is up in a second: it is not booted but restored from a
snapshot, which is made once for each image and command line. All VMs therefore wake up with the
same random numbers and the same boot id.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import DomainSpec
from kubectl_vmredir.lab.guests.image.build import CMDLINE
from kubectl_vmredir.lab.guests.qemu_domain import PROGRAM, QemuDomain
from kubectl_vmredir.model import VmiRef, VmiUid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from kubectl_vmredir.lab.guests.image.build import GuestImage

logger = logging.getLogger(__name__)

_ACCELERATOR: Final = "tcg,thread=multi"
_BOOT_TIMEOUT_S: Final = 180.0
_READY: Final = b'"event":"ready"'


def arguments(image: GuestImage, memory_mib: int, accelerator: str) -> Sequence[str]:
    """Return QEMU's command line but for the monitor and for what it starts with.

    Socket paths are relative: QEMU runs in the run folder.
    """
    argv = [
        "-M", "q35", "-accel", accelerator, "-cpu", "qemu64", "-m", str(memory_mib),
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", CMDLINE,
        "-chardev",
        f"socket,id=charserial0,path={sockets.CONSOLE},server=on,wait=off"
        f",logfile={sockets.CONSOLE_LOG},logappend=on",
        "-serial", "chardev:charserial0",
        "-device", "qemu-xhci,id=usb,p2=8,p3=8",
    ]  # fmt: skip
    for slot, name in enumerate(sockets.SLOTS):
        argv += [
            "-chardev", f"socket,id=charredir{slot},path={name},server=on,wait=off",
            "-device",
            f"usb-redir,chardev=charredir{slot},id=redir{slot},bus=usb.0,port={slot + 1}",
        ]  # fmt: skip
    if image.root is not None:
        argv += [
            "-drive", f"if=none,id=root,file={image.root},format=raw,readonly=on",
            "-device", "virtio-blk-pci,drive=root",
        ]  # fmt: skip
    return argv


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A guest that has booted and saw no USB device yet."""

    state: Path
    console_log: Path


class QemuHypervisor:
    """Makes domains of QEMU; see :class:`~kubectl_vmredir.lab.guests.domain.Hypervisor`.

    Args:
        image: What VMs boot; snapshots are kept beside it.
        accelerator: QEMU's ``-accel``.
        extra: More of QEMU's command line: devices that a guest has besides.
    """

    def __init__(
        self,
        image: GuestImage,
        *,
        accelerator: str = _ACCELERATOR,
        extra: Sequence[str] = (),
    ) -> None:
        self._image = image
        self._accelerator = accelerator
        self._extra = extra
        self._group = asyncio.TaskGroup()
        self._domains: list[QemuDomain] = []
        self._version = ""

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        domains = list(self._domains)
        for domain in domains:
            domain.kill()
        # Before the group ends: after an exception it cancels the tasks that wait for QEMU.
        for domain in domains:
            await domain.wait_ended()
        await self._group.__aexit__(exc_type, exc, traceback)

    async def boot(self, spec: DomainSpec) -> QemuDomain:
        """Restore a guest that has just booted."""
        snapshot = await self._snapshot(spec.memory_mib)
        shutil.copyfile(snapshot.console_log, spec.run_folder / sockets.CONSOLE_LOG)
        async with self._started(spec, "-incoming", "defer") as domain:
            await domain.restore(snapshot.state)
        return domain

    async def listen(self, spec: DomainSpec) -> QemuDomain:
        """Start the target of a migration."""
        async with self._started(spec, "-incoming", "defer", "-S") as domain:
            await domain.listen()
        return domain

    @asynccontextmanager
    async def _started(self, spec: DomainSpec, *how: str) -> AsyncIterator[QemuDomain]:
        """Give a new domain, which ends with the context if that fails or is cancelled."""
        domain = QemuDomain(spec)
        await domain.start([*self._arguments(spec.memory_mib), *how])
        self._domains.append(domain)
        self._group.create_task(self._serve(domain), name=f"qemu-{spec.vmi}")
        try:
            await domain.prepare()
            yield domain
        except BaseException:
            domain.kill()
            raise

    async def _serve(self, domain: QemuDomain) -> None:
        await domain.run()
        self._domains.remove(domain)

    def _arguments(self, memory_mib: int) -> Sequence[str]:
        return [*arguments(self._image, memory_mib, self._accelerator), *self._extra]

    # -- snapshots ----------------------------------------------------------------------------

    async def _snapshot(self, memory_mib: int) -> _Snapshot:
        folder = self._image.kernel.parent / "snapshots" / await self._snapshot_key(memory_mib)
        snapshot = _Snapshot(folder / "state", folder / "console-log")
        folder.parent.mkdir(exist_ok=True)
        async with _locked(folder.parent / "lock"):
            if not folder.exists():
                await self._make_snapshot(memory_mib, folder)
        return snapshot

    async def _snapshot_key(self, memory_mib: int) -> str:
        if not self._version:
            self._version = await _version()
        argv = self._arguments(memory_mib)
        text = json.dumps([self._version, self._image.digest, argv])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    async def _make_snapshot(self, memory_mib: int, folder: Path) -> None:
        logger.info("booting the guest for a snapshot")
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            work, kept = Path(name), Path(name, "kept")
            os.mkdir(kept)
            spec = DomainSpec(VmiRef("lab", "snapshot"), VmiUid("snapshot"), work, memory_mib)
            try:
                async with (
                    asyncio.timeout(_BOOT_TIMEOUT_S),
                    self._started(spec, "-S") as domain,
                ):
                    await _wait_ready(domain)
                    await domain.save(kept / "state")
                    await domain.destroy()
            except TimeoutError as exc:
                raise LabError(f"the guest did not boot within {_BOOT_TIMEOUT_S:.0f} s") from exc
            os.replace(work / sockets.CONSOLE_LOG, kept / "console-log")
            os.replace(kept, folder)


async def _wait_ready(domain: QemuDomain) -> None:
    """Let a new guest run, and wait for its first word."""
    with sockets.short_path(domain.spec.run_folder, sockets.CONSOLE) as path:
        console, writer = await asyncio.open_unix_connection(path)
    with closing(writer):
        await domain.resume()
        while _READY not in (line := await console.readline()):
            if not line:
                raise LabError(f"the guest did not boot: {await domain.wait_ended()}")


async def _version() -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "--version", stdout=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as exc:
        raise LabError(
            f"{PROGRAM} is not installed",
            hint="On Debian: apt install qemu-system-x86. Or simulate the guest: --backend sim",
        ) from exc
    out, _ = await process.communicate()
    return out.decode()


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold a lock against other processes."""
    with path.open("w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield
