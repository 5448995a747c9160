"""The API server: listens, knows who asks and whether they may, and hands requests on."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

import aiofastnet
from aiohttp import web

from kubectl_vmredir.errors import LabError

from . import auth, discovery, installation, kubeconfig, negotiation, reviews, splice
from .bodies import read_body
from .faults import Faults
from .files import write_private
from .pki import Pki
from .rbac import Rbac, User, describe
from .registry import Registry
from .requests import RequestInfo
from .resources import BY_PATH, SUBRESOURCES
from .rest import Call, Rest
from .roles import DEMO, KUBEVIRT, PEOPLE, default_bindings, service_account
from .status import Refusal, Subject, forbidden, forbidden_path
from .store import Store
from .streams import DIAL_TIMEOUT_S, Streams
from .subresources import Subresources

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_LOOPBACK: Final = "127.0.0.1"
_SAVE_INTERVAL_S: Final = 0.2
"""At most so often is the state written to its file."""
_SAVE_SHARE: Final = 0.05
"""At most so much of the time goes into that."""

_TLS_SHUTDOWN_S: Final = 1.0
"""How long a client may take to answer a close_notify."""

_STOP_TIMEOUT_S: Final = 1.0
"""How long handlers may take to see that their connection is gone."""


class ApiServer:
    """An API server on loopback, with all that it knows in one folder.

    An asynchronous context manager: serving begins and ends with it. :meth:`stop` and
    :meth:`start` in between are an outage: same port, nothing forgotten.

    Args:
        folder: Where certificates, tokens and the state are kept; made if it is not there.
        port: TCP port; 0 for any that is free.
        dial_timeout_s: When a request for a stream that no virt-handler answers is given up.

    Attributes:
        store: The objects.
        tokens: The bearer tokens.
        rbac: Who may do what.
        faults: What goes wrong.
        pki: The certificates.
    """

    def __init__(
        self, folder: Path, *, port: int = 0, dial_timeout_s: float = DIAL_TIMEOUT_S
    ) -> None:
        self._port = port
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.pki = Pki(folder / "pki")
        self.tokens = auth.Tokens(folder / "pki" / "tokens.json")
        self.rbac = Rbac(default_bindings())
        self.store = Store()
        self.faults = Faults()
        registry = Registry(self.store)
        self._rest = Rest(self.store, registry, self.faults)
        self._streams = Streams(
            self.store, self.pki.handler_context(), self.faults, dial_timeout_s=dial_timeout_s
        )
        self._subresources = Subresources(self.store, registry, self._streams, self.faults)
        self._state = folder / "state.json"
        self._writing = threading.Lock()
        self._exit_stack = AsyncExitStack()
        self._listener: asyncio.Server | None = None
        self._http: web.Server | None = None

    async def __aenter__(self) -> Self:
        self._load()
        await self.start()
        group = await self._exit_stack.enter_async_context(asyncio.TaskGroup())
        self._saver = group.create_task(self._keep_saved(), name="save-state")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        await self.stop()
        self._saver.cancel()
        self._save()
        return await self._exit_stack.__aexit__(exc_type, exc, traceback)

    @property
    def url(self) -> str:
        """Where it listens; the port is known from the first start on."""
        return f"https://{_LOOPBACK}:{self._port}"

    @property
    def ca_pem(self) -> str:
        """Certificate of the authority that clients shall trust."""
        return self.pki.cluster.pem

    def write_kubeconfig(self, path: Path) -> None:
        """Write the kubeconfig of the lab's people: one context each, ``alice`` is current."""
        users = {name: kubeconfig.token_user(self.tokens[name]) for name in PEOPLE}
        users["alice-cert"] = kubeconfig.certificate_user(self.pki.alice)
        users["alice-exec"] = kubeconfig.exec_user(self.tokens, "alice")
        kubeconfig.write(
            path,
            server=self.url,
            ca_pem=self.ca_pem,
            users=users,
            current="alice",
            namespace=DEMO,
        )

    def write_account_kubeconfig(self, path: Path, account: str) -> None:
        """Write the kubeconfig of a component: ``CONTROLLER`` or ``HANDLER`` of ``roles``."""
        token = self.tokens[service_account(account)]
        kubeconfig.write(
            path,
            server=self.url,
            ca_pem=self.ca_pem,
            users={account: kubeconfig.token_user(token)},
            current=account,
            namespace=KUBEVIRT,
        )

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            LabError: If the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._http = web.Server(
            self._handle, handler_cancellation=True, access_log=None, auto_decompress=False
        )
        try:
            self._listener = await aiofastnet.create_server(
                loop,
                self._http,
                _LOOPBACK,
                self._port,
                ssl=self.pki.server_context(),
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
            )
        except OSError as exc:
            raise LabError(f"the lab's API server cannot listen on port {self._port}") from exc
        self._port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop to listen and cut all connections, as if the process had been killed.

        Clients see FIN without TLS close_notify.
        """
        if self._listener is None or self._http is None:
            return
        self._listener.close()
        for connection in self._http.connections:
            if connection.transport is not None:
                splice.cut(connection.transport)
        self.collect_garbage()
        await self._http.shutdown(_STOP_TIMEOUT_S)
        self._listener = self._http = None

    def stop_virt_api(self) -> None:
        """Cut all streams, and answer for virt-api as if its process had been killed.

        Clients of streams see close_notify: kube-apiserver goes on.
        """
        self.faults.virt_api_down = True
        self._streams.cut()

    def start_virt_api(self) -> None:
        """Let virt-api serve again."""
        self.faults.virt_api_down = False

    def collect_garbage(self) -> None:
        """Free the slots that plain GETs of streams hold, as virt-api does a minute later."""
        self._streams.collect_garbage()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.faults.response_delay_s:
            await asyncio.sleep(self.faults.response_delay_s)
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return negotiation.refuse(request, refusal)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        info = RequestInfo.parse(request.method, request.path, request.query)
        certificate = request.get_extra_info("peercert")
        der = request.get_extra_info("ssl_object").getpeercert(True) or b""
        user = auth.authenticate(request.headers, certificate, self.tokens, der=der)
        user = auth.impersonate(request.headers, user, self.rbac)
        self._authorize(user, info)
        if not info.is_resource:
            return discovery.handle(request)
        if (info.group, info.version, info.resource) in reviews.RESOURCES:
            body = await read_body(request)
            answer = reviews.review(info, user, (request.content_type, body), self.rbac)
            return negotiation.respond(request, answer, HTTPStatus.CREATED)
        call = Call(request, info, user)
        if info.group == SUBRESOURCES:
            return await self._subresources.handle(call)
        return await self._rest.handle(call)

    def _authorize(self, user: User, info: RequestInfo) -> None:
        if self.rbac.decide(user, info).allowed:
            return
        why = describe(user, info)
        if info.is_resource:
            raise forbidden(Subject(info.group, info.resource), info.name, why)
        raise forbidden_path(why)

    def _load(self) -> None:
        if self._state.exists():
            self.store.load(BY_PATH, json.loads(self._state.read_text(encoding="utf-8")))
        else:
            installation.populate(self.store, self.pki)

    async def _keep_saved(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            changed, begun_at = self.store.changed, loop.time()
            await asyncio.to_thread(self._write_state, json.dumps(self.store.dump()))
            took_s = loop.time() - begun_at
            await changed.wait()
            await asyncio.sleep(max(_SAVE_INTERVAL_S, took_s / _SAVE_SHARE))

    def _save(self) -> None:
        self._write_state(json.dumps(self.store.dump()))

    def _write_state(self, text: str) -> None:
        # The last save may meet one that is under way in a thread: it waits for it.
        with self._writing:
            write_private(self._state, text)
