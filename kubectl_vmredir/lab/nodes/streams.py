"""What a virt-handler serves: usbredir, console and vnc of the VMIs of its node, as websockets.

Source: KubeVirt, pkg/virt-handler/rest/console.go; docs/facts/kubevirt.md.
virt-handler upgrades the client first and dials the guest's socket then, so that a socket on
which nobody listens shows as a stream that ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from kubectl_vmredir.lab.faults import Fault, NodeFaults
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.nodes.handshake import Request, refusal
from kubectl_vmredir.lab.nodes.pipes import ClientSocket, GuestSocket, Pipe
from kubectl_vmredir.lab.nodes.slots import Sessions, Slots
from kubectl_vmredir.lab.race import race
from kubectl_vmredir.model import VmiRef

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from kubectl_vmredir.model import VmiUid

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
SCREEN: Final = "virt-vnc"
_HANDSHAKE_TIMEOUT_S: Final = 10.0
_CLOSE_TIMEOUT_S: Final = 2.0


class Guests(Protocol):
    """What the streams need to know of their node."""

    def vmi(self, ref: VmiRef) -> VmiUid | None:
        """Return the UID of a VMI that runs here, as far as its label tells; None otherwise."""

    def run_folders(self, vmi: VmiUid) -> Sequence[Path]:
        """Return the run folders of the launchers of a VMI that are here and have not ended."""


class _Refused(Exception):
    """A dial is answered otherwise than by 101."""

    def __init__(self, status: HTTPStatus, text: str = "") -> None:
        super().__init__(text)
        self.answer = refusal(status, text)


@asynccontextmanager
async def serve_streams(guests: Guests, tls: ssl.SSLContext) -> AsyncIterator[StreamServer]:
    """Serve streams on a port of the loopback interface, as long as the context lasts.

    Args:
        guests: Whose streams.
        tls: Of the server; it must ask for client certificates.
    """
    async with asyncio.TaskGroup() as group:
        server = StreamServer(guests, tls, group)
        await server.listen()
        try:
            yield server
        finally:
            server.close()


class StreamServer:
    """Answers each connection with one stream; see :func:`serve_streams`.

    Attributes:
        port: Where it listens; 0 before it has.
    """

    def __init__(self, guests: Guests, tls: ssl.SSLContext, group: asyncio.TaskGroup) -> None:
        self.port = 0
        self._guests = guests
        self._tls = tls
        self._group = group
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = Slots()
        self._consoles = Sessions()
        self._screens = Sessions()
        self._pipes: set[Pipe] = set()
        self._occupants: list[GuestSocket] = []
        self._faults = NodeFaults()
        self._faults_changed = asyncio.Event()

    async def listen(self) -> None:
        """Take connections, on the same port as before if it did once."""
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: ClientSocket(self._begin),
            LOOPBACK,
            self.port,
            ssl=self._tls,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=_CLOSE_TIMEOUT_S,
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def apply(self, faults: NodeFaults) -> None:
        """Make these faults from now on, and no others."""
        self._faults = faults
        if Fault.HANDLER_DOWN in faults:
            self.close()
        elif self._listener is None:
            await self.listen()
        for pipe in self._pipes:
            self._trouble(pipe)
        if Fault.SILENT_BACKLOG not in faults:
            self._leave_sockets()
        self._faults_changed.set()
        self._faults_changed = asyncio.Event()

    def close(self) -> None:
        """End all streams, and take no more connections."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for task in self._tasks:
            task.cancel()
        self._leave_sockets()

    # -- one connection -----------------------------------------------------------------------

    def _begin(self, client: ClientSocket, head: bytes) -> None:
        task = self._group.create_task(self._serve(client, head), name="stream")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: ClientSocket, head: bytes) -> None:
        try:
            await self._without(Fault.HANG)
            await self._route(client, _parsed(head))
        except _Refused as refused:
            client.transport.write(refused.answer)
        finally:
            client.transport.close()

    async def _route(self, client: ClientSocket, request: Request) -> None:
        match request.path:
            case ("v1", "namespaces", namespace, "virtualmachineinstances", name, stream):
                vmi = self._guests.vmi(VmiRef(namespace, name))
            case _:
                raise _Refused(HTTPStatus.NOT_FOUND, "404: Page Not Found")
        if vmi is None:
            raise _Refused(HTTPStatus.NOT_FOUND, f"VMI {namespace}/{name} does not exist")
        match stream:
            case "usbredir":
                await self._usbredir(client, request, vmi)
            case "console":
                folder = self._folder(vmi, request, sockets.CONSOLE)
                with self._consoles.take(vmi) as taken_away:
                    await self._stream(client, request, folder, sockets.CONSOLE, taken_away)
            case "vnc":
                folder = self._folder(vmi, request, SCREEN)
                if request.query.get("preserveSession") == "true" and self._screens.active(vmi):
                    raise _Refused(
                        HTTPStatus.SERVICE_UNAVAILABLE, "Active VNC connection. Request denied."
                    )
                with self._screens.take(vmi) as taken_away:
                    await self._stream(client, request, folder, SCREEN, taken_away)
            case _:
                raise _Refused(HTTPStatus.NOT_FOUND, "404: Page Not Found")

    async def _usbredir(self, client: ClientSocket, request: Request, vmi: VmiUid) -> None:
        slot = None if Fault.FULL_SLOTS in self._faults else self._slots.claim(vmi)
        if slot is None:
            logger.info("usbredir of VMI %s: no slot is free", vmi)
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE)
        logger.info("usbredir of VMI %s: slot %d is taken", vmi, slot)
        try:
            folder = self._folder(vmi, request, sockets.SLOTS[slot])
            await self._stream(client, request, folder, sockets.SLOTS[slot], asyncio.Event())
            client.transport.close()
            await self._without(Fault.GHOST_SLOT)
        finally:
            self._slots.free(vmi, slot)
            logger.info("usbredir of VMI %s: slot %d is free", vmi, slot)

    def _folder(self, vmi: VmiUid, request: Request, socket_name: str) -> Path:
        """Return where a socket of a VMI is."""
        match self._guests.run_folders(vmi):
            case []:
                raise _Refused(HTTPStatus.BAD_REQUEST, f"No command socket found for vmi {vmi}")
            case [folder]:
                if (folder / socket_name).exists():
                    return folder
                raise _Refused(
                    HTTPStatus.BAD_REQUEST,
                    f"failed opening {socket_name} for path root: /proc/{os.getpid()}/root, "
                    f"relative: /run/kubevirt-private/{vmi}/{socket_name}: "
                    "no such file or directory",
                )
            case _:
                raise _Refused(
                    HTTPStatus.BAD_REQUEST,
                    f"Found multiple sockets for vmi {request.path[2]}/{request.path[4]}. "
                    "waiting for only one to exist",
                )

    async def _stream(
        self,
        client: ClientSocket,
        request: Request,
        folder: Path,
        socket_name: str,
        taken_away: asyncio.Event,
    ) -> None:
        if not request.is_handshake:
            raise _Refused(HTTPStatus.BAD_REQUEST, "Bad Request\n")
        client.transport.write(request.accepted())
        if Fault.RST_AFTER_101 in self._faults:
            client.reset()
            return
        try:
            if Fault.SILENT_BACKLOG in self._faults:
                self._occupants.append(await _dial(folder, socket_name))
            guest = await _dial(folder, socket_name)
        except OSError as error:
            logger.info("%s in %s: %s", socket_name, folder, error)
            return
        pipe = Pipe(client, guest)
        self._pipes.add(pipe)
        self._trouble(pipe)
        try:
            await race(pipe.ended.wait(), taken_away.wait())
        finally:
            self._pipes.discard(pipe)
            pipe.close()

    # -- faults -------------------------------------------------------------------------------

    def _trouble(self, pipe: Pipe) -> None:
        pipe.slow_down(self._faults.bytes_per_s)
        pipe.hang(hangs=Fault.HANG in self._faults)

    def _leave_sockets(self) -> None:
        for occupant in self._occupants:
            occupant.transport.close()
        self._occupants.clear()

    async def _without(self, fault: Fault) -> None:
        """Wait until a fault is over, if it is on."""
        while fault in self._faults:
            await self._faults_changed.wait()


def _parsed(head: bytes) -> Request:
    try:
        return Request.parse(head)
    except ValueError as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, "400 Bad Request") from error


async def _dial(folder: Path, socket_name: str) -> GuestSocket:
    loop = asyncio.get_running_loop()
    with sockets.short_path(folder, socket_name) as path:
        _, protocol = await loop.create_unix_connection(GuestSocket, path)
    return protocol
