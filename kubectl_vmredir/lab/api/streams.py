"""The streams of a VMI: usbredir, console and vnc, from the checks to the last byte.

Source: KubeVirt, pkg/virt-api/rest/streamer.go and the handlers beside it; order of checks and
texts in docs/facts/kubevirt.md.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from . import dial, splice, websocket
from .negotiation import answer
from .objects import Json, dig, metadata, to_wire
from .resources import PODS, VMIS
from .roles import KUBEVIRT
from .status import Refusal, Subject, bad_request, conflict, not_found

if TYPE_CHECKING:
    import ssl

    from .faults import Faults
    from .rest import Call
    from .store import Store

VMI: Final = Subject("kubevirt.io", "virtualmachineinstance")
"""A VMI in the words of virt-api."""

TEXT: Final = "text/plain; charset=utf-8"

KINDS: Final = ("usbredir", "console", "vnc")

PORT_ANNOTATION: Final = "lab.vmredir.io/port"
"""On a virt-handler pod: the port of its streams."""

DEFAULT_PORT: Final = 8186
DIAL_TIMEOUT_S: Final = 60.0
"""kube-apiserver gives up on a request after so long."""

LEAK_S: Final = 60.0
"""How long a plain GET holds a slot: until the garbage collection of an idle virt-api."""
LEAK_DIALS: Final = 100
"""How many dials it holds the slot for: a busy virt-api collects its garbage earlier."""


def check(kind: str, vmi: Json) -> None:
    """Check whether a VMI has such a stream now.

    Raises:
        Refusal: 409 or 400; the first reason that there is.
    """
    name = metadata(vmi)["name"]
    devices = dig(vmi, "spec", "domain", "devices") or {}
    match kind:
        case "usbredir":
            if dig(vmi, "spec", "architecture") == "s390x":
                raise conflict(VMI, name, "No USB support on s390x")
            if "clientPassthrough" not in devices:
                raise conflict(VMI, name, "Not configured with USB Redirection")
        case "vnc":
            if devices.get("autoattachGraphicsDevice") is False:
                raise bad_request("No graphics devices are present.")
        case "console":
            if devices.get("autoattachSerialConsole") is False:
                raise bad_request("No serial consoles are present.")
            if dig(vmi, "status", "phase") == "Failed":
                raise conflict(VMI, name, "VMI is in failed status")
        case _:
            raise AssertionError(kind)
    if dig(vmi, "status", "phase") != "Running":
        raise bad_request("VMI is not running")


class Streams:
    """Carries streams between clients and virt-handlers.

    Args:
        store: Where the VMIs and the pods of virt-handler are.
        context: TLS towards a virt-handler.
        faults: What goes wrong.
        dial_timeout_s: See :data:`DIAL_TIMEOUT_S`.
    """

    def __init__(
        self,
        store: Store,
        context: ssl.SSLContext,
        faults: Faults,
        *,
        dial_timeout_s: float = DIAL_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._context = context
        self._faults = faults
        self._dial_timeout_s = dial_timeout_s
        self._open: set[asyncio.Transport] = set()
        self._leaked: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._dials_since_leak = 0

    async def handle(self, call: Call) -> web.StreamResponse:
        """Answer a request for a stream; returns when the stream has ended.

        Raises:
            Refusal: In virt-api's words.
        """
        info, request = call.info, call.request
        self._dials_since_leak += 1
        if self._dials_since_leak > LEAK_DIALS:
            self.collect_garbage()
        vmi = self._store.get(VMIS, info.namespace, info.name)
        if vmi is None:
            raise not_found(VMI, info.name)
        check(info.subresource, vmi)
        host, port = self._handler_of(dig(vmi, "status", "nodeName") or "")
        raw_query = request.rel_url.raw_query_string  # decoded, it could end the request line
        query = f"?{raw_query}" if raw_query else ""
        target = (
            f"/v1/namespaces/{info.namespace}/virtualmachineinstances/{info.name}"
            f"/{info.subresource}{query}"
        )
        try:
            async with asyncio.timeout(self._dial_timeout_s):
                node = await dial.dial(
                    host, port, target, self._context, old_texts=self._faults.old_dial_texts
                )
        except TimeoutError:
            return _gateway_timeout()
        try:
            accepted = websocket.accept(request.headers)
        except websocket.NotAHandshake as refusal:
            self._leak(node.transport)
            return _not_a_handshake(refusal)
        await self._carry(request, accepted, node)
        # Nobody reads this: the connection is gone, and was not HTTP any more.
        return web.Response()

    def cut(self) -> None:
        """Cut all streams towards the nodes, as the end of virt-api does."""
        for transport in self._open:
            transport.abort()
        self.collect_garbage()

    def collect_garbage(self) -> None:
        """Close what plain GETs left open, as virt-api does a minute later."""
        for transport, timer in self._leaked.items():
            timer.cancel()
            transport.abort()
        self._leaked.clear()

    def _handler_of(self, node: str) -> tuple[str, int]:
        for pod in self._store.list(PODS, KUBEVIRT):
            labels = metadata(pod).get("labels") or {}
            if labels.get("kubevirt.io") != "virt-handler":
                continue
            if dig(pod, "spec", "nodeName") == node and (host := dig(pod, "status", "podIP")):
                annotations = metadata(pod).get("annotations") or {}
                return host, int(annotations.get(PORT_ANNOTATION, DEFAULT_PORT))
        raise bad_request(f"No virt-handler on node {node} found")

    def _leak(self, transport: asyncio.Transport) -> None:
        def collect() -> None:
            del self._leaked[transport]
            transport.abort()

        self._dials_since_leak = 0
        self._leaked[transport] = asyncio.get_running_loop().call_later(LEAK_S, collect)

    async def _carry(self, request: web.BaseRequest, accepted: bytes, node: dial.Opened) -> None:
        transport = request.transport
        if transport is None:  # the client went while virt-handler was dialed
            node.transport.abort()
            return
        transport.write(accepted + node.early)
        self._open.add(node.transport)
        try:
            if self._faults.resets_after_101:
                self._faults.resets_after_101 -= 1
                splice.reset(transport)
                node.transport.abort()
            else:
                await splice.join(splice.Side(transport), splice.Side(node.transport))
        finally:
            self._open.discard(node.transport)
            # aiohttp does not see the end of a connection that it has handed over.
            request.protocol.connection_lost(None)


VIRT_API_HEADERS: Final = {"X-Content-Type-Options": "nosniff"}
"""What each answer of virt-api has."""


def refuse(request: web.BaseRequest, refusal: Refusal) -> web.Response:
    """Return a refusal as an answer of virt-api, which indents its JSON for everybody.

    kube-apiserver closes the connection of a refused upgrade.
    """
    text = to_wire(refusal.status(), indent=1)
    response = answer(text, "application/json", refusal.code, VIRT_API_HEADERS)
    if websocket.wants_upgrade(request.headers):
        response.force_close()
    return response


def _not_a_handshake(refusal: websocket.NotAHandshake) -> web.Response:
    status = to_wire(bad_request(refusal.message).status(), indent=1)
    headers = {**VIRT_API_HEADERS, "Sec-Websocket-Version": "13"}
    if refusal.status is HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
    text = f"{refusal.status.phrase}\n{status}"
    return answer(text, TEXT, refusal.status, headers)


def _gateway_timeout() -> web.Response:
    """Return what kube-apiserver says when virt-api has not answered in time."""
    body = {
        "metadata": {},
        "status": "Failure",
        "message": "Timeout: request did not complete within the allotted timeout",
        "reason": "Timeout",
        "details": {},
        "code": 504,
    }
    return answer(to_wire(body) + "\n", TEXT, HTTPStatus.GATEWAY_TIMEOUT)
