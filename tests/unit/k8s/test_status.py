from __future__ import annotations

import json
import ssl

import httpx
import pytest

from kubectl_vmredir.errors import (
    CertificateRejected,
    ClusterUnreachable,
    Forbidden,
    LoginRequired,
)
from kubectl_vmredir.k8s.status import (
    StatusError,
    TransientStatusError,
    parse_status,
    refusal,
    unreachable,
)

SERVER = "https://api:6443"


def status(code: int, reason: str, message: str) -> bytes:
    return json.dumps(
        {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    ).encode()


def test_status_is_kept_in_its_parts() -> None:
    error = refusal(404, status(404, "NotFound", 'pods "x" not found'))

    assert isinstance(error, StatusError)
    assert (error.status, error.reason, error.message) == (404, "NotFound", 'pods "x" not found')
    assert str(error) == 'the API server answered 404: pods "x" not found'
    assert not error.retryable


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_some_refusals_may_pass(code: int) -> None:
    error = refusal(code, b"service unavailable\n")

    assert isinstance(error, TransientStatusError)
    assert error.retryable
    assert error.message == "service unavailable"


@pytest.mark.parametrize("body", [b"", b" \n", b"\xff\xfe", b"{", b"[]", b'{"kind": "Other"}'])
def test_body_need_not_be_a_status(body: bytes) -> None:
    error = refusal(418, body)

    assert isinstance(error, StatusError)
    assert error.message
    assert error.reason == ""


def test_status_behind_a_line_of_text_is_found() -> None:
    body = b"Bad Request\n" + status(400, "BadRequest", "no upgrade")

    assert parse_status(body)["message"] == "no upgrade"


def test_message_is_made_harmless() -> None:
    error = refusal(400, status(400, "", "a\x1b[31mb\nc\u202e" + "x" * 2000))

    assert isinstance(error, StatusError)
    assert error.message.startswith("a\\x1b[31mb c\\u202exxx")
    assert len(error.message) < 1100


def test_401_asks_for_a_login() -> None:
    error = refusal(401, status(401, "Unauthorized", "Unauthorized"))

    assert isinstance(error, LoginRequired)
    assert error.hint is not None


@pytest.mark.parametrize(
    ("message", "sentence", "group"),
    [
        (
            'virtualmachineinstances.kubevirt.io is forbidden: User "alice" cannot list resource '
            '"virtualmachineinstances" in API group "kubevirt.io" at the cluster scope',
            "user 'alice' may not list virtualmachineinstances.kubevirt.io in all namespaces",
            "apiGroups ['kubevirt.io']",
        ),
        (
            'pods "x" is forbidden: User "alice" cannot get resource "pods" in API group "" in '
            'the namespace "demo"',
            "user 'alice' may not get pods in namespace 'demo'",
            "apiGroups ['']",
        ),
    ],
)
def test_403_says_which_right_is_missing(message: str, sentence: str, group: str) -> None:
    error = refusal(403, status(403, "Forbidden", message))

    assert isinstance(error, Forbidden)
    assert str(error) == sentence
    assert error.hint is not None
    assert group in error.hint


def test_403_of_other_wording_is_passed_on() -> None:
    error = refusal(403, status(403, "Forbidden", 'admission webhook "x" denied the request'))

    assert isinstance(error, Forbidden)
    assert "denied the request" in str(error)


def test_403_as_anonymous_means_that_no_credentials_were_sent() -> None:
    message = (
        'namespaces is forbidden: User "system:anonymous" cannot list resource "namespaces" in '
        'API group "" at the cluster scope'
    )

    assert isinstance(refusal(403, status(403, "Forbidden", message)), LoginRequired)


def raised_from(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


def test_refused_connection_is_named_by_its_cause() -> None:
    exc = raised_from(
        httpx.ConnectError("All connection attempts failed"),
        ConnectionRefusedError(111, "Connection refused"),
    )

    error = unreachable(exc, SERVER)

    assert isinstance(error, ClusterUnreachable)
    assert str(error) == f"cannot reach {SERVER}: Connection refused"


def test_bad_certificate_is_told_from_a_bad_connection() -> None:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = "certificate has expired"

    error = unreachable(raised_from(httpx.ConnectError("x"), cause), SERVER)

    assert isinstance(error, CertificateRejected)
    assert str(error) == f"the certificate of {SERVER} is not trusted: certificate has expired"


@pytest.mark.parametrize(
    ("exc", "sentence"),
    [
        (TimeoutError(), f"{SERVER} does not answer in time"),
        (httpx.ReadTimeout(""), f"{SERVER} does not answer in time"),
        (
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            f"the connection to {SERVER} broke: Server disconnected without sending a response.",
        ),
        (httpx.ReadError(""), f"the connection to {SERVER} broke: ReadError"),
        (
            httpx.ProxyError("407 Proxy Authentication Required"),
            f"the proxy on the way to {SERVER} refused: 407 Proxy Authentication Required",
        ),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
            f"no TLS with {SERVER}: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)",
        ),
    ],
)
def test_broken_connection(exc: Exception, sentence: str) -> None:
    error = unreachable(exc, SERVER)

    assert isinstance(error, ClusterUnreachable)
    assert error.retryable
    assert str(error) == sentence
