"""Sends requests to one API server, with credentials that are fresh."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import httpx

from kubectl_vmredir import __version__
from kubectl_vmredir.errors import ClusterError, LoginRequired
from kubectl_vmredir.k8s.credentials import credential_source
from kubectl_vmredir.k8s.proxy import proxy_for
from kubectl_vmredir.k8s.redirects import MAX_REDIRECTS, follow, too_many
from kubectl_vmredir.k8s.status import refusal
from kubectl_vmredir.k8s.tls import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator, Mapping

    from kubectl_vmredir.k8s.credentials import Credential
    from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, Impersonation
    from kubectl_vmredir.k8s.tls import CertificatePair

    Headers = tuple[tuple[str, str], ...]
    Params = Mapping[str, str | int | bool]

USER_AGENT: Final = f"kubectl-vmredir/{__version__}"
CONNECT_TIMEOUT_S: Final = 10.0
_MAX_BODY_BYTES: Final = 64 << 20
_KEEPALIVE: Final = (
    # A path that died in silence is noticed after 15 + 3 * 5 seconds.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),  # ms, while there is something to send
)

_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)
"""A watch has a connection for itself: with a limit, requests would wait for ever behind them."""


@dataclass(frozen=True, slots=True)
class Access:
    """What another connection needs to reach the same API server as the same user.

    Attributes:
        server: URL of the API server; may have a path, has no slash at the end.
        headers: Headers to send; secret.
        ssl_context: For https; None for http.
        server_name: Name that the certificate is checked for.
        proxy: URL of the proxy on the way, None for none; secret.
        credential: What the headers and the context were made from.
    """

    server: str
    headers: Headers = field(repr=False)
    ssl_context: ssl.SSLContext | None
    server_name: str
    proxy: str | None = field(repr=False)
    credential: Credential


class Transport:
    """Connections to one API server as one user.

    Credentials are asked for before each request; one that is refused (401) is renewed once,
    where it can be.

    Args:
        config: Which server, and who we are.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self._credentials = credential_source(config)
        self._pool: _Pool | None = None

    async def aclose(self) -> None:
        """Close all connections; safe to call again."""
        if self._pool is not None:
            await self._pool.http.aclose()
            self._pool = None

    async def access(self) -> Access:
        """Return what another connection needs, with credentials as they are now.

        Raises:
            KubeconfigError: If the credentials cannot be had because of the kubeconfig.
            LoginRequired: If they cannot be had because a person must log in.
        """
        credential = await self._credentials.current()
        server = urlsplit(self.config.server)
        secure = server.scheme == "https"
        return Access(
            server=self.config.server,
            headers=self._headers(credential),
            ssl_context=client_context(self.config, credential.certificate) if secure else None,
            server_name=self.config.tls_server_name or server.hostname or "",
            proxy=proxy_for(self.config.server, self.config.proxy_url, self.config.environ),
            credential=credential,
        )

    def reject(self, credential: Credential) -> bool:
        """Hear that the server refused a credential (401); say whether a fresh one may do."""
        return self._credentials.reject(credential)

    @asynccontextmanager
    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        content: bytes | None = None,
        content_type: str = "",
        head_timeout_s: float | None = None,
        read_timeout_s: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and give the successful response, its body unread.

        Args:
            method: HTTP method.
            path: Path below the server's URL.
            params: Query.
            content: Body.
            content_type: Its type.
            head_timeout_s: Time limit in seconds until the head of the response is there.
            read_timeout_s: How long the body may be silent, in seconds.

        Raises:
            ClusterError: If the server refuses, or the credentials cannot be had.
            httpx.HTTPError: If it cannot be reached, also while the body is read; see
                :func:`~kubectl_vmredir.k8s.status.unreachable`.
        """
        renewed = False
        while True:
            credential = await self._credentials.current()
            headers = self._headers(credential)
            if content is not None:
                headers += (("Content-Type", content_type),)
            async with self._connected(credential.certificate) as http:
                request = http.build_request(
                    method,
                    f"{self.config.server}{path}",
                    params=params,
                    content=content,
                    headers=headers,
                    timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S, read=read_timeout_s),
                )
                async with asyncio.timeout(head_timeout_s):
                    response = await _send_following(http, request)
                try:
                    if response.is_success:
                        yield response
                        return
                    refused = refusal(response.status_code, await read_body(response))
                finally:
                    await response.aclose()
            if not isinstance(refused, LoginRequired) or renewed:
                raise refused
            renewed = True
            if not self.reject(credential):
                raise refused

    def _headers(self, credential: Credential) -> Headers:
        headers = [("User-Agent", USER_AGENT), *_impersonation_headers(self.config.impersonation)]
        if credential.authorization:
            headers.append(("Authorization", credential.authorization))
        return tuple(headers)

    @asynccontextmanager
    async def _connected(
        self, certificate: CertificatePair | None
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Give the pool for a client certificate; an older one is closed when nobody uses it."""
        pool = self._pool
        if pool is None or pool.certificate != certificate:
            self._pool = _Pool(self.config, certificate)
            if pool is not None and not pool.users:
                await pool.http.aclose()
            pool = self._pool
        pool.users += 1
        try:
            yield pool.http
        finally:
            pool.users -= 1
            if pool is not self._pool and not pool.users:
                await pool.http.aclose()


class _Pool:
    """Connections that prove themselves with the same client certificate."""

    def __init__(self, config: ClusterConfig, certificate: CertificatePair | None) -> None:
        self.certificate = certificate
        self.users = 0
        self.http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                verify=client_context(config, certificate),
                trust_env=False,
                proxy=proxy_for(config.server, config.proxy_url, config.environ),
                socket_options=_KEEPALIVE,
                limits=_LIMITS,
            ),
            headers={"Accept": "application/json"},
        )


def _impersonation_headers(who: Impersonation) -> Iterator[tuple[str, str]]:
    """Source: Kubernetes, "User impersonation"."""
    if who.user:
        yield "Impersonate-User", who.user
    if who.uid:
        yield "Impersonate-Uid", who.uid
    for group in who.groups:
        yield "Impersonate-Group", group
    for key, values in who.extra.items():
        for value in values:
            yield f"Impersonate-Extra-{quote(key, safe='')}", value


async def _send_following(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Send a request, follow redirects to the same server."""
    for _ in range(MAX_REDIRECTS + 1):
        response = await http.send(request, stream=True)
        if not response.has_redirect_location:
            return response
        await response.aclose()
        target = follow(str(request.url), response.headers["Location"])
        if request.method != "GET":
            raise ClusterError(f"the API server redirects a {request.method} to {target}")
        request = http.build_request(
            "GET", target, headers=request.headers, extensions=request.extensions
        )
    raise too_many(str(request.url))


async def read_body(response: httpx.Response) -> bytes:
    """Read a whole body.

    Raises:
        ClusterError: If it is larger than any honest one.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise ClusterError(f"an answer of {response.url.host} has no end")
    return bytes(body)
