from __future__ import annotations

from http import HTTPStatus

import pytest

from kubectl_vmredir.lab.nodes.handshake import Request, refusal

HEAD = (
    b"GET /v1/namespaces/demo/virtualmachineinstances/desk/vnc?preserveSession=true HTTP/1.1\r\n"
    b"Host: node1:8186\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


def test_a_request_is_taken_apart() -> None:
    request = Request.parse(HEAD)

    assert request.path == ("v1", "namespaces", "demo", "virtualmachineinstances", "desk", "vnc")
    assert request.query == {"preserveSession": "true"}
    assert request.headers["host"] == "node1:8186"
    assert request.is_handshake


def test_the_accept_key_of_the_rfc() -> None:
    # RFC 6455 section 1.3.
    answer = Request.parse(HEAD).accepted()

    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"Protocol:" not in answer


def test_the_subprotocol_is_taken_if_it_is_offered() -> None:
    request = Request.parse(HEAD + b"\r\nSec-WebSocket-Protocol: x, plain.kubevirt.io")

    assert b"Sec-WebSocket-Protocol: plain.kubevirt.io\r\n" in request.accepted()


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (b"GET", b"POST"),
        (b"Upgrade: WebSocket", b"Upgrade: h2c"),
        (b"keep-alive, Upgrade", b"keep-alive"),
        (b"Version: 13", b"Version: 8"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b""),
    ],
)
def test_what_is_no_handshake(line: bytes, instead: bytes) -> None:
    assert not Request.parse(HEAD.replace(line, instead)).is_handshake


@pytest.mark.parametrize(
    "head", [b"", b"GET /", b"GET / SPDY/3\r\nA: b", b"GET / HTTP/1.1\r\nbroken"]
)
def test_what_is_no_request(head: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them
        Request.parse(head)


def test_refusals_with_and_without_a_text() -> None:
    assert refusal(HTTPStatus.SERVICE_UNAVAILABLE) == (
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    assert refusal(HTTPStatus.NOT_FOUND, "VMI a/b does not exist").endswith(
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 22\r\n\r\n"
        b"VMI a/b does not exist"
    )
