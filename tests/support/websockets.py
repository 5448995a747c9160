"""Websockets of a test: a server that speaks raw frames over real TLS, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
from kubectl_vmredir.k8s.transport import Access
from kubectl_vmredir.kubevirt.handshake import Refusal
from kubectl_vmredir.kubevirt.stream import Websocket
from kubectl_vmredir.kubevirt.websocket import dial
from tests.support.certificates import Authority
from tests.support.scripted_server import Exchange, Script, ScriptedServer

PATH: Final = (
    "/apis/subresources.kubevirt.io/v1/namespaces/demo/virtualmachineinstances/desk/usbredir"
)
AUTHORITY: Final = Authority()


class Ears:
    """A listener that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.chunks: list[bytes] = []
        self.writable_calls: list[bool] = []
        self.round_trips_s: list[float] = []
        self.cause: VmRedirError | None = None
        self.on_received: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()

    def received(self, data: memoryview) -> None:
        self.heard += data
        self.chunks.append(bytes(data))
        self._changed.set()
        self.on_received()

    def writable(self, writable: bool) -> None:
        self.writable_calls.append(writable)
        self._changed.set()

    def pong(self, round_trip_s: float) -> None:
        self.round_trips_s.append(round_trip_s)
        self._changed.set()

    def ended(self, cause: VmRedirError) -> None:
        assert self.cause is None, "told twice"
        self.cause = cause
        self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def end(self) -> VmRedirError:
        await self.until(lambda: self.cause)
        assert self.cause is not None
        return self.cause


class World:
    """A server with a script, and a client of it."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    async def serve(self, script: Script, *names: str) -> ScriptedServer:
        context = AUTHORITY.server_context(self._folder, *(names or ("127.0.0.1",)))
        return await self._stack.enter_async_context(ScriptedServer(script, context))

    async def access(self, server: ScriptedServer, **changes: object) -> Access:
        """Return access to a server, as a user with the token ``s3cret`` unless told otherwise."""
        fields = {"server": server.url, "ca": AUTHORITY.pem, "user": UserConfig(token="s3cret")}
        config = ClusterConfig(**{**fields, **changes})  # type: ignore[arg-type]
        async with KubeClient(config) as client:
            return await client.access()

    async def dial(
        self, server: ScriptedServer, ears: Ears, **changes: object
    ) -> Websocket | Refusal:
        access = await self.access(server, **changes)
        async with asyncio.timeout(5):
            found = await dial(f"{access.server}{PATH}", access, ears)
        if isinstance(found, Websocket):
            self._stack.push_async_callback(found.close)
        return found

    async def open(self, script: Script, ears: Ears) -> Websocket:
        found = await self.dial(await self.serve(script), ears)
        assert isinstance(found, Websocket)
        return found


def accepting(then: Callable[[Exchange], Awaitable[None]]) -> Script:
    """Accept the websocket, go on as told, then wait for the client to close it."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance())
        await then(exchange)
        await exchange.until_closed()

    return script


async def nothing(exchange: Exchange) -> None:
    """Just be there."""
