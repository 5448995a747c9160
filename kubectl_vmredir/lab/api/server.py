"""The API server: listens, knows who asks and whether they may, and hands requests on."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from kubectl_vmredir.errors import LabError

from . import auth, discovery, kubeconfig, negotiation, reviews
from .faults import Faults
from .objects import metadata
from .pki import Pki
from .rbac import Rbac, User, describe
from .registry import Registry
from .requests import RequestInfo
from .resources import BY_PATH, CONFIG_MAPS, KUBEVIRTS, NAMESPACES, SECRETS
from .rest import Call, Rest, read_object
from .roles import CONTROLLER, DEMO, HANDLER, KUBEVIRT, PEOPLE, default_bindings, service_account
from .status import Refusal, Subject, forbidden, forbidden_path
from .store import Store

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from .objects import Json

_LOOPBACK: Final = "127.0.0.1"
_SAVE_INTERVAL_S: Final = 0.2
"""At most so often is the state written to its file."""

_TLS_SHUTDOWN_S: Final = 1.0
"""How long a client may take to answer a close_notify."""

HANDLER_CERTIFICATE: Final = "kubevirt-virt-handler-server-certs"
"""Secret (kubernetes.io/tls) with the server certificate of each virt-handler, as KubeVirt's."""

KUBEVIRT_CA: Final = "kubevirt-ca"
"""ConfigMap with the authority of KubeVirt's components, key ``ca-bundle``."""


class ApiServer:
    """An API server on loopback, with all that it knows in one folder.

    An asynchronous context manager: serving begins and ends with it. :meth:`stop` and
    :meth:`start` in between are an outage: same port, nothing forgotten.

    Args:
        folder: Where certificates, tokens and the state are kept; made if it is not there.
        port: TCP port; 0 for any that is free.

    Attributes:
        store: The objects.
        tokens: The bearer tokens.
        rbac: Who may do what.
        faults: What goes wrong.
        pki: The certificates.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self._folder = folder
        self._port = port
        self.pki = Pki(folder / "pki")
        self.tokens = auth.Tokens(folder / "pki" / "tokens.json")
        self.rbac = Rbac(default_bindings())
        self.store = Store()
        self.faults = Faults()
        self._rest = Rest(self.store, self.faults)
        self._state = folder / "state.json"
        self._exit_stack = AsyncExitStack()
        self._group: asyncio.TaskGroup | None = None
        self._listener: asyncio.Server | None = None
        self._http: web.Server | None = None
        self._transports: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        self._load()
        self._group = await self._exit_stack.enter_async_context(asyncio.TaskGroup())
        await self.start()
        self._saver = self._group.create_task(self._keep_saved(), name="save-state")
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
            self._listener = await loop.create_server(
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
        for transport in list(self._transports):
            cut(transport)
        await self._http.shutdown(0)
        self._listener = self._http = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        self._transports.add(transport)
        if self.faults.response_delay_s:
            await asyncio.sleep(self.faults.response_delay_s)
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return negotiation.refuse(request, refusal)
        finally:
            self._transports.discard(transport)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        info = RequestInfo.parse(request.method, request.path, request.query)
        certificate = request.get_extra_info("peercert")
        user = auth.authenticate(request.headers, certificate, self.tokens)
        user = auth.impersonate(request.headers, user, info, self.rbac)
        self._authorize(user, info)
        if not info.is_resource:
            return discovery.handle(request)
        if (info.group, info.version, info.resource) in reviews.RESOURCES:
            body = await read_object(request)
            return negotiation.respond(request, reviews.review(info, user, body, self.rbac), 201)
        return await self._rest.handle(Call(request, info, user))

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
            _populate(self.store, self.pki)

    async def _keep_saved(self) -> None:
        while True:
            changed = self.store.changed
            await asyncio.to_thread(self._write_state, json.dumps(self.store.dump()))
            await changed.wait()
            await asyncio.sleep(_SAVE_INTERVAL_S)

    def _save(self) -> None:
        self._write_state(json.dumps(self.store.dump()))

    def _write_state(self, text: str) -> None:
        draft = self._state.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(self._state)


def cut(transport: asyncio.Transport) -> None:
    """End a connection as the kernel does for a killed process: FIN, and no TLS close_notify."""
    raw = transport.get_extra_info("socket")
    with suppress(OSError):  # it was gone before
        raw.shutdown(socket.SHUT_RDWR)
    transport.abort()


def _populate(store: Store, pki: Pki) -> None:
    """Create what a fresh cluster with KubeVirt has."""
    registry = Registry(store)
    for name in ("default", "kube-system", KUBEVIRT, DEMO):
        registry.create(NAMESPACES, "", {"metadata": {"name": name}})
    registry.create(
        CONFIG_MAPS,
        KUBEVIRT,
        {"metadata": {"name": KUBEVIRT_CA}, "data": {"ca-bundle": pki.kubevirt.pem}},
    )
    pair = {"tls.crt": pki.handler.certificate, "tls.key": pki.handler.key}
    secret = {
        "metadata": {"name": HANDLER_CERTIFICATE},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(path.read_bytes()).decode() for key, path in pair.items()},
    }
    registry.create(SECRETS, KUBEVIRT, secret)
    kubevirt: Json = {
        "apiVersion": KUBEVIRTS.api_version,
        "kind": KUBEVIRTS.kind,
        "metadata": {"name": "kubevirt"},
        "spec": {},
    }
    created = registry.create(KUBEVIRTS, KUBEVIRT, kubevirt)
    status = {"phase": "Deployed", "observedKubeVirtVersion": "v1.9.0"}
    registry.update(
        KUBEVIRTS, KUBEVIRT, metadata(created)["name"], {**created, "status": status}, "status"
    )


async def serve(folder: Path, port: int = 0) -> None:
    """Serve until cancelled, with all kubeconfigs written into the folder."""
    async with ApiServer(folder, port=port) as server:
        server.write_kubeconfig(folder / "kubeconfig")
        for account in (CONTROLLER, HANDLER):
            server.write_account_kubeconfig(folder / f"{account}.kubeconfig", account)
        await asyncio.Event().wait()
