"""Turns what goes wrong with a request into our errors.

Source: Kubernetes API conventions, "Response Status Kind". Bodies that are no Status are usual:
the aggregator's 503 and 504, proxies.
"""

from __future__ import annotations

import json
import re
import ssl
from typing import TYPE_CHECKING, Final

import httpx

from kubectl_vmredir.errors import (
    CertificateRejected,
    ClusterError,
    ClusterUnreachable,
    Forbidden,
    LoginRequired,
)
from kubectl_vmredir.k8s.objects import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_vmredir.k8s.objects import JsonObject

_FORBIDDEN: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" '
    r'in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)"| (?P<everywhere>at the cluster scope))?'
)
_ANONYMOUS: Final = "system:anonymous"
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})


class StatusError(ClusterError):
    """The API server refused a request.

    Attributes:
        status: HTTP status.
        reason: ``reason`` of the Status, for instance ``NotFound``; empty if there was none.
        message: What the server said; untrusted text, control characters escaped.
    """

    def __init__(self, status: int, reason: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"the API server answered {status}: {message}", hint=hint)
        self.status = status
        self.reason = reason
        self.message = message


class TransientStatusError(StatusError):
    """The API server refused a request that may succeed later: 429 and most of 5xx."""

    retryable = True


def parse_status(body: bytes) -> JsonObject:
    """Return the Status in a body, empty if it holds none.

    Text before the Status is skipped: virt-api answers a handshake that is none with a line of
    text and a Status after it.
    """
    text = body.decode(errors="replace")
    start = text.find("{")
    if start < 0:
        return {}
    try:
        found = json.loads(text[start:])
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def refusal(status: int, body: bytes) -> ClusterError:
    """Return the error for a response that is neither a success nor a redirect."""
    parsed = parse_status(body)
    raw = parsed.get("message") if parsed else body.decode(errors="replace")
    message = raw if isinstance(raw, str) and raw.strip() else httpx.codes.get_reason_phrase(status)
    return refusal_of(status, str(parsed.get("reason") or ""), message)


def refusal_of(status: int, reason: str, message: str) -> ClusterError:
    """Return the error for a status, its reason and its message: untrusted text."""
    message = printable(message)
    match status:
        case 401:
            return login_required(message)
        case 403:
            return _forbidden(message)
        case _ if status in _TRANSIENT:
            return TransientStatusError(status, reason, message)
        case _:
            return StatusError(status, reason, message)


def login_required(message: str) -> LoginRequired:
    """Return the error for credentials that the cluster does not accept."""
    return LoginRequired(
        f"the cluster does not accept the credentials: {message}",
        hint="Log in again, and check with: kubectl auth whoami",
    )


def _forbidden(message: str) -> ClusterError:
    if (found := _FORBIDDEN.search(message)) is None:
        return Forbidden(
            f"the cluster does not allow it: {message}",
            hint="Ask the administrator of the cluster for this right.",
        )
    if found["user"] == _ANONYMOUS:
        return LoginRequired(
            "the cluster takes us for nobody: no credentials were sent",
            hint="The kubeconfig's user has none; choose another with --user or --context.",
        )
    resource = f"{found['resource']}.{found['group']}".rstrip(".")
    where = ""
    if found["namespace"]:
        where = f" in namespace {found['namespace']!r}"
    elif found["everywhere"]:
        where = " in all namespaces"
    return Forbidden(
        f"user {found['user']!r} may not {found['verb']} {resource}{where}",
        hint=(
            "Ask the administrator of the cluster for a Role with: "
            f"apiGroups [{found['group']!r}], resources [{found['resource']!r}], "
            f"verbs [{found['verb']!r}]."
        ),
    )


def unreachable(exc: Exception, server: str) -> ClusterError:
    """Return the error for an exception of httpx, ssl or the network.

    Args:
        exc: What was raised.
        server: URL of the API server.
    """
    for cause in _causes(exc):
        match cause:
            case ssl.SSLCertVerificationError():
                return certificate_rejected(cause, server)
            case httpx.ProxyError():
                return ClusterUnreachable(
                    f"the proxy on the way to {server} refused: {printable(str(cause))}",
                    hint="Check proxy-url in the kubeconfig, HTTPS_PROXY and NO_PROXY.",
                )
            case TimeoutError() | httpx.TimeoutException():
                return ClusterUnreachable(f"{server} does not answer in time")
            case ssl.SSLError():
                reason = getattr(cause, "reason", None) or str(cause)
                return ClusterUnreachable(
                    f"no TLS with {server}: {printable(reason)}",
                    hint="Something on the way is not the API server, or refuses our certificate.",
                )
            case OSError():
                text = cause.strerror or str(cause)
                return ClusterUnreachable(f"cannot reach {server}: {printable(text)}")
            case _:
                continue
    text = printable(str(exc)) or type(exc).__name__
    return ClusterUnreachable(f"the connection to {server} broke: {text}")


def certificate_rejected(exc: ssl.SSLCertVerificationError, server: str) -> CertificateRejected:
    """Return the error for a certificate that does not pass."""
    reason = getattr(exc, "verify_message", None) or str(exc)
    return CertificateRejected(
        f"the certificate of {server} is not trusted: {printable(reason)}",
        hint=(
            "Check certificate-authority-data (and tls-server-name) of the cluster in the "
            "kubeconfig.\nDo not go on unless you know why: somebody may be listening."
        ),
    )


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield what an exception comes from, the deepest first: libraries wrap and lose the text."""
    inner = exc.__cause__ or exc.__context__
    if inner is not None:
        yield from _causes(inner)
    yield exc
