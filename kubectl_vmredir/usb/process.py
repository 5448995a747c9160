"""The usb-host processes of this program: starts them, hears of their end, gives devices back.

What a process needs is opened here, so that errors are ours to tell: the device node, the sockets,
and the locked file of the journal. Of the sockets' far ends a copy is kept, so that there is
somebody to say why a process ended that could not say it itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import socket
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import kubectl_vmredir
from kubectl_vmredir.errors import UsbError
from kubectl_vmredir.program import program
from kubectl_vmredir.service.ports import UsbHostSockets
from kubectl_vmredir.usb.child import NAME, REFUSED
from kubectl_vmredir.usb.claiming import prepare
from kubectl_vmredir.usb.discovery import ROOT
from kubectl_vmredir.usb.journal import PATIENCE_S
from kubectl_vmredir.usb.leftover import CALL_LIMIT_S, open_left
from kubectl_vmredir.usb.threads import in_thread

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence
    from types import TracebackType

    from kubectl_vmredir.model import LocalDevice
    from kubectl_vmredir.usb.journal import Claim, Entry, Journal

logger = logging.getLogger(__name__)

_GRACE_S: Final = 2.0
"""What a process that gives a device back may take above that."""

END_TIMEOUT_S: Final = 6.0
"""How long the processes may take to give their devices back when we end."""

LOG_BYTES: Final = 64 * 1024
"""As much of what a process writes is logged, the rest is dropped."""

_READ_BYTES: Final = 4096
_PACKAGE_FOLDER: Final = Path(kubectl_vmredir.__file__).parents[1]


@dataclass(frozen=True, slots=True)
class _Running:
    """A usb-host process, and our copies of its ends of the sockets."""

    device: LocalDevice
    process: Process
    data: socket.socket
    control: socket.socket

    @property
    def releases(self) -> bool:
        """Whether it gives its device back: the other end of its data was closed, or its own."""
        poll = select.poll()
        poll.register(self.data, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))


class UsbHosts:
    """Owns the usb-host processes; an async context manager.

    Entering it gives back what a former process could not. Leaving it has all devices given back,
    and waits for that, bounded in time.

    Args:
        journal: Of the claims.
        root: Where ``sys``, ``proc`` and ``dev`` are.
        call_limit_s: See :data:`CALL_LIMIT_S`.
    """

    def __init__(
        self, journal: Journal, *, root: Path = ROOT, call_limit_s: int = CALL_LIMIT_S
    ) -> None:
        self._journal = journal
        self._root = root
        self._call_limit_s = call_limit_s
        self._stack = AsyncExitStack()
        self._group: asyncio.TaskGroup
        self._starting: set[asyncio.Task[UsbHostSockets | UsbError]] = set()
        self._running: dict[asyncio.Task[None], _Running] = {}

    async def __aenter__(self) -> Self:
        async with asyncio.TaskGroup() as rescues:
            for port_path in await self._ports():
                rescues.create_task(self._rescue(port_path), name=f"rescue-{port_path}")
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for running in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                running.process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                while tasks := {*self._starting, *self._running}:
                    await asyncio.wait(tasks)
        for running in self._running.values():
            logger.warning("device %s is not given back yet", running.device)
        for task in {*self._starting, *self._running}:
            task.cancel()
        # The group need not know what ended the body: it would wrap it.
        await self._stack.__aexit__(None, None, None)

    def releasing(self) -> set[int]:
        """Return the processes that are giving their devices back."""
        return {each.process.pid for each in self._running.values() if each.releases}

    async def start(self, device: LocalDevice) -> UsbHostSockets:
        """Start a usb-host for a device; the caller owns the sockets.

        Raises:
            UsbError: If it cannot be had; see :func:`kubectl_vmredir.usb.claiming.prepare`.
        """
        # What is half done cannot be cancelled: it goes on to its end, and is then undone.
        starting = self._group.create_task(self._start(device), name=f"start-{device.bus_device}")
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        try:
            started = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_drop)
            raise
        if isinstance(started, UsbError):
            raise started
        return started

    async def _start(self, device: LocalDevice) -> UsbHostSockets | UsbError:
        # An error is expected, so it is a result: raised, it would end the group.
        # One that is to end before it has begun has our own process id in the journal.
        releasing = {os.getpid(), *self.releasing()}
        name = f"usb-claim-{device.bus_device}"
        opening = partial(prepare, device, self._journal, self._root, releasing=releasing)
        try:
            with await in_thread(opening, name=name) as prepared, ExitStack() as undo:
                data, far_data = socket.socketpair()
                control, far_control = socket.socketpair()
                for end in (data, far_data, control, far_control):
                    undo.enter_context(end)
                    end.setblocking(False)
                inherited = {
                    "data": far_data.fileno(),
                    "control": far_control.fileno(),
                    "node": prepared.node,
                    "journal": prepared.entry.fileno(),
                }
                process = await _spawn(
                    tuple(inherited.values()),
                    **inherited,
                    root=self._root,
                    limit=self._call_limit_s,
                )
                undo.pop_all()
        except UsbError as error:
            return error
        running = _Running(device, process, far_data, far_control)
        task = self._group.create_task(self._watch(running), name=f"usb-host-{process.pid}")
        self._running[task] = running
        # A callback, because a task that is cancelled before it runs has no `finally`.
        task.add_done_callback(self._forget)
        return UsbHostSockets(data, control)

    def _forget(self, task: asyncio.Task[None]) -> None:
        running = self._running.pop(task)
        running.data.close()
        running.control.close()

    async def _watch(self, running: _Running) -> None:
        """Wait for the end of a process; say why, where it could not, and clean up after it."""
        await _log_output(running.process)
        status = await running.process.wait()
        logger.info("the usb-host of %s ended: %s", running.device, _meaning(status))
        if status != 0:
            _tell(running.control, _meaning(status))
        # Only looked at, as a rule: the device may be about to be claimed again.
        port_path = running.device.port_path
        if port_path in await self._ports():
            await self._rescue(port_path)

    async def _ports(self) -> Sequence[str]:
        return await in_thread(self._journal.ports, name="usb-claims")

    async def _rescue(self, port_path: str) -> None:
        """Give back what is left in a port by a process that is gone; says so if it cannot."""
        name = f"usb-rescue-{port_path}"
        try:
            async with asyncio.timeout(self._call_limit_s + PATIENCE_S + _GRACE_S):
                entry = await in_thread(partial(self._journal.lock, port_path), name=name)
                if entry is None:
                    return
                with entry:
                    opening = partial(open_left, entry, self._journal, self._root)
                    left = await in_thread(opening, name=name)
                    if left is None:
                        entry.clear()
                        return
                    node, claim = left
                    status = await self._put_back(node, claim, entry)
                    if status == 0:
                        entry.clear()
        except TimeoutError:
            _say_not_rescued(port_path, "it does not answer")
        except UsbError as error:
            _say_not_rescued(port_path, str(error))
        else:
            if status == 0:
                logger.info("the device in port %s has its drivers again", port_path)
            else:
                why = "the kernel refuses" if status == REFUSED else _meaning(status)
                _say_not_rescued(port_path, why)

    async def _put_back(self, node: int, claim: Claim, entry: Entry) -> int:
        """Have a process put drivers back; return its exit status. Closes the node."""
        try:
            process = await _spawn(
                (node, entry.fileno()),  # which stays locked for as long as the process lives
                node=node,
                interfaces=",".join(map(str, claim.driven)),
                configuration=claim.configuration,
                limit=self._call_limit_s,
            )
        finally:
            os.close(node)
        await _log_output(process)
        return await process.wait()


async def _spawn(descriptors: Sequence[int], **flags: object) -> Process:
    """Start this program as the usb-host, with descriptors to inherit."""
    environment = dict(os.environ)
    search = [str(_PACKAGE_FOLDER), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
    try:
        return await asyncio.create_subprocess_exec(
            *program(), NAME, *(f"--{name}={value}" for name, value in flags.items()),
            pass_fds=tuple(descriptors),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # what is pressed on a terminal is not for it
        )  # fmt: skip
    except OSError as exc:
        raise UsbError(f"the usb-host cannot be started: {exc.strerror}") from exc


async def _log_output(process: Process) -> None:
    """Log what a process writes, until its end."""
    assert process.stdout is not None
    left = LOG_BYTES
    while output := await process.stdout.read(_READ_BYTES):
        for line in output[:left].splitlines():
            logger.debug("usb-host %d: %r", process.pid, line.decode(errors="replace"))
        left = max(0, left - len(output))


def _meaning(status: int) -> str:
    """Return the end of a process in words."""
    match status:
        case 0:
            return "orderly"
        case _ if status == -signal.SIGALRM:
            return "the device, or its driver, hung"
        case _ if status < 0:
            return f"its process was ended by {signal.Signals(-status).name}"
        case _:
            return f"its process ended with status {status}"


def _tell(control: socket.socket, why: str) -> None:
    line = json.dumps({"event": "error", "message": f"the usb-host is gone: {why}"})
    with contextlib.suppress(OSError):  # nobody wants to know
        control.send(line.encode() + b"\n")


def _say_not_rescued(port_path: str, why: str) -> None:
    logger.warning(
        "the device in port %s is not given back to its drivers (%s): plug it in anew",
        port_path,
        why,
    )


def _drop(starting: asyncio.Task[UsbHostSockets | UsbError]) -> None:
    """Have a device given back whose claim nobody waits for any more."""
    if not starting.cancelled() and isinstance(sockets := starting.result(), UsbHostSockets):
        sockets.data.close()
        sockets.control.close()
