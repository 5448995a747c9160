"""Opens websockets to subresources of the API; a thin layer on picows.

Sources: RFC 6455; docs/facts/kubevirt.md.

The dial is not picows' own, because that follows redirects to anywhere, cuts the body of a refusal
where the first read ended, and does not tell how a connection ended. Its protocol class is used
instead, with what is missing put in front.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiofastnet
import picows
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from python_socks import ProxyError
from python_socks.async_.asyncio import Proxy

from kubectl_vmredir.errors import (
    ClusterError,
    ClusterUnreachable,
    PathBroken,
    RemoteProtocolError,
    StreamLost,
)
from kubectl_vmredir.k8s.objects import printable
from kubectl_vmredir.k8s.redirects import MAX_REDIRECTS, follow, too_many
from kubectl_vmredir.k8s.status import unreachable
from kubectl_vmredir.kubevirt.handshake import Answer
from kubectl_vmredir.kubevirt.stream import CLOSE_TIMEOUT_S, Websocket

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.k8s.transport import Access
    from kubectl_vmredir.kubevirt.handshake import Refusal
    from kubectl_vmredir.kubevirt.stream import StreamListener

SUBPROTOCOL: Final = "plain.kubevirt.io"
CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 65.0
"""Longer than the 60 s after which kube-apiserver gives up on a node that hangs: its answer says
more than our impatience, and a dial that waits goes through as soon as the node is back."""
_HAPPY_EYEBALLS_S: Final = 0.25

_READ_BUFFER_BYTES: Final = 256 << 10
_MAX_FRAME_BYTES: Final = 16 << 20
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_picows_logger = logging.getLogger(f"{__name__}.picows")
# Its debug messages hold the request, and so the token.
_picows_logger.setLevel(logging.WARNING)


async def dial(
    url: str,
    access: Access,
    listener: StreamListener,
    *,
    answer_timeout_s: float = ANSWER_TIMEOUT_S,
    subprotocols: tuple[str, ...] = (SUBPROTOCOL,),
    new_websocket: Callable[[StreamListener], Websocket] = Websocket,
) -> Websocket | Refusal:
    """Open a websocket, or return the answer that the server gave instead.

    The caller owns the websocket.

    A cancellation before the server has accepted gives up the half-made connection. After that it
    is put off until the caller has the websocket: nobody else could close it in an orderly way.
    Time limits are kept in here: do not wrap this in one.

    Args:
        url: https or http URL, below ``access.server``.
        access: Credentials, certificates, proxy.
        listener: May be called before this returns.
        answer_timeout_s: Time limit for the answer to the handshake, in seconds.
        subprotocols: What the server may choose from.
        new_websocket: Makes what is returned.

    Raises:
        RedirectRefused: If the server sends us to another one.
        ClusterUnreachable: If it cannot be reached, or does not answer in time.
        CertificateRejected: If its certificate is not the right one.
        ClusterError: If what it speaks is no websocket.
    """
    for _ in range(MAX_REDIRECTS + 1):
        protocol = await _connect(url, access, subprotocols, lambda: new_websocket(listener))
        await _wait_for_answer(protocol, access.server, answer_timeout_s)
        refusal = protocol.answer.refusal
        if refusal is None:
            protocol.websocket.subprotocol = protocol.answer.subprotocol
            return protocol.websocket
        location = refusal.headers.get("location")
        if refusal.status not in _REDIRECTS or location is None:
            return refusal
        url = follow(url, location)
    raise too_many(url)


async def _connect(
    url: str,
    access: Access,
    subprotocols: tuple[str, ...],
    new_websocket: Callable[[], Websocket],
) -> _Protocol:
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (80 if access.ssl_context is None else 443)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    secure = access.ssl_context is not None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            tunnel = await _tunnel(access.proxy, host, port) if access.proxy else None
            _transport, protocol = await aiofastnet.create_connection(
                asyncio.get_running_loop(),
                lambda: _Protocol(parts.netloc, target, access, subprotocols, new_websocket()),
                None if tunnel else host,
                None if tunnel else port,
                sock=tunnel,
                ssl=access.ssl_context,
                server_hostname=access.server_name if secure else None,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S if secure else None,
                happy_eyeballs_delay=None if tunnel else _HAPPY_EYEBALLS_S,
            )
    except OSError as exc:
        raise unreachable(exc, access.server) from exc
    return protocol


async def _tunnel(proxy: str, host: str, port: int) -> socket.socket:
    try:
        found: socket.socket = await Proxy.from_url(proxy).connect(host, port)
    except ProxyError as exc:
        raise ClusterUnreachable(
            f"the proxy on the way to {host} refused: {printable(str(exc))}",
            hint="Check proxy-url in the kubeconfig, HTTPS_PROXY and NO_PROXY.",
        ) from exc
    return found


async def _wait_for_answer(protocol: _Protocol, server: str, timeout_s: float) -> None:
    """Wait until the server has accepted or refused; see :func:`dial` for cancellation."""
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    try:
        async with asyncio.timeout(timeout_s):
            try:
                await protocol.wait_until_handshake_complete()
            except asyncio.CancelledError:
                if not protocol.established:
                    protocol.abort()
                    raise
    except TimeoutError as exc:
        raise unreachable(exc, server) from exc
    except picows.WSError as exc:
        raise ClusterError(f"{server} does not speak websocket: {printable(str(exc))}") from exc
    if task.cancelling() > cancelled_before:
        task.uncancel()
        asyncio.get_running_loop().call_soon(task.cancel)
    if not protocol.established and protocol.answer.refusal is None:
        raise unreachable(protocol.lost or ConnectionResetError("closed unanswered"), server)


class _Protocol(WSProtocol):  # type: ignore[misc]
    """picows' protocol, with an eye on the answer before the websocket and on the end after it.

    Attributes:
        answer: The answer to the handshake.
        websocket: The websocket, once it is established.
        lost: Why the connection broke; None while it is there, or if it just ended.
    """

    def __init__(
        self,
        host: str,
        target: str,
        access: Access,
        subprotocols: tuple[str, ...],
        websocket: Websocket,
    ) -> None:
        super().__init__(
            host_port=host,
            ws_path=target,
            is_client_side=True,
            ws_listener_factory=lambda _request, _response: websocket,
            logger=_picows_logger,
            disconnect_on_exception=False,
            websocket_handshake_timeout=None,
            enable_auto_ping=False,
            auto_ping_idle_timeout=0,
            auto_ping_reply_timeout=0,
            auto_ping_strategy=picows.WSAutoPingStrategy.PING_WHEN_IDLE,
            enable_auto_pong=True,
            max_frame_size=_MAX_FRAME_BYTES,
            extra_headers=(
                *access.headers,
                ("Sec-WebSocket-Protocol", ", ".join(subprotocols)),
            ),
            read_buffer_init_size=_READ_BUFFER_BYTES,
        )
        self.answer = Answer()
        self.websocket = websocket
        self.lost: Exception | None = None
        self._unread = bytearray()
        self._said_goodbye = False
        self._view = memoryview(b"")

    @property
    def established(self) -> bool:
        """Whether the websocket is there, or was."""
        return self.listener is not None

    def abort(self) -> None:
        """Drop the connection."""
        self.transport.disconnect(graceful=False)

    def get_buffer(self, size_hint: int) -> memoryview:
        self._view = super().get_buffer(size_hint)
        return self._view

    def buffer_updated(self, size: int) -> None:
        data = bytes(self._view[:size])
        self._unread += data
        self.answer.feed(data)
        if self.answer.refusal is not None:
            self.abort()
        elif self.answer.accepted:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let picows read the answer, now that it is known to be one that it understands."""
        unread, self._unread = memoryview(self._unread), bytearray()
        while unread:
            view = super().get_buffer(-1)
            size = min(len(view), len(unread))
            view[:size] = unread[:size]
            unread = unread[size:]
            super().buffer_updated(size)
        # From now on it is picows' connection: no detour for each read.
        self.get_buffer = super().get_buffer  # type: ignore[method-assign]
        self.buffer_updated = super().buffer_updated  # type: ignore[method-assign]

    def eof_received(self) -> bool:
        # Over TLS this is close_notify; a bare FIN is not told (asyncio, aiofastnet).
        self._said_goodbye = True
        self.answer.feed(b"")
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        if not self._said_goodbye:
            self.answer.feed(b"")
        super().connection_lost(exc)
        if self.established:
            self.websocket.connection_lost(self._cause())

    def _cause(self) -> VmRedirError:
        if violation := _violation(self.transport):
            return RemoteProtocolError(f"the API server broke the websocket: {violation}")
        if self._said_goodbye:
            return StreamLost("the VM's end of the stream is gone")
        reason = printable(str(self.lost)) if self.lost else ""
        return PathBroken(
            "the connection to the API server broke" + (f": {reason}" if reason else "")
        )


def _violation(transport: picows.WSTransport) -> str:
    """Return why picows closed a connection of its own accord; empty if it did not."""
    # It keeps the reason in a future that only this coroutine shows, and that is done by now.
    try:
        transport.wait_disconnected().send(None)
    except picows.WSError as exc:
        return printable(str(exc))
    except StopIteration:
        pass
    return ""
