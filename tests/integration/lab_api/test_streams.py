from __future__ import annotations

import asyncio
import json
import socket

import pytest

from kubectl_vmredir.lab.api.faults import DialFault
from kubectl_vmredir.lab.api.server import ApiServer
from tests.support.lab_api import (
    STREAM_PATH,
    UPGRADE,
    WAIT_S,
    add_handler_pod,
    add_vmi,
    client,
    fake_handler,
    raw_client,
    request,
    vmi,
)

USBREDIR = f"{STREAM_PATH}/fedora/usbredir"


async def test_a_stream_carries_bytes_both_ways_as_they_are(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        handler.greeting = b"\x82\x02hi"
        head = await request(connection, server, USBREDIR, *UPGRADE)
        node = await handler.stream()
        await connection.send(b"no frame at all")

        assert head.split("\r\n") == [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ]
        assert await connection.receive(4) == b"\x82\x02hi"
        assert await node.reader.readexactly(15) == b"no frame at all"
        assert handler.requests == [
            "GET /v1/namespaces/demo/virtualmachineinstances/fedora/usbredir HTTP/1.1"
        ]


async def test_the_subprotocol_of_kubevirt_is_chosen_when_offered(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        offer = "Sec-WebSocket-Protocol: other, plain.kubevirt.io"
        head = await request(connection, server, USBREDIR, *UPGRADE, offer)
        await handler.stream()

        assert head.endswith("\r\nSec-WebSocket-Protocol: plain.kubevirt.io")


async def test_the_query_goes_to_virt_handler(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        path = f"{STREAM_PATH}/fedora/vnc?preserveSession=true"
        await request(connection, server, path, *UPGRADE)
        await handler.stream()

        [line] = handler.requests
        assert line.split()[1] == (
            "/v1/namespaces/demo/virtualmachineinstances/fedora/vnc?preserveSession=true"
        )


async def test_a_query_cannot_smuggle_a_header_to_virt_handler(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        path = f"{USBREDIR}?a=b%20HTTP/1.1%0d%0aX-Header:%20c"
        await request(connection, server, path, *UPGRADE)
        await handler.stream()

        assert handler.requests[0].endswith("?a=b%20HTTP/1.1%0d%0aX-Header:%20c HTTP/1.1")


async def test_the_end_of_the_node_is_close_notify_to_the_client(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        await request(connection, server, USBREDIR, *UPGRADE)
        node = await handler.stream()
        node.writer.transport.abort()

        assert await connection.ending() == "close_notify"


async def test_what_the_node_sent_last_arrives_before_the_end(server: ApiServer) -> None:
    data = bytes(range(256)) * 8192
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        await request(connection, server, USBREDIR, *UPGRADE)
        node = await handler.stream()
        node.writer.write(data)
        node.writer.close()

        assert await connection.receive(len(data)) == data
        assert await connection.ending() == "close_notify"


async def test_a_slow_client_gets_all_that_the_node_sent_before_its_end(
    server: ApiServer,
) -> None:
    data = bytes(range(256)) * (16 << 12)
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        await request(connection, server, USBREDIR, *UPGRADE)
        node = await handler.stream()
        for at in range(0, len(data), 1 << 20):
            node.writer.write(data[at : at + (1 << 20)])
        node.writer.close()
        async with client(server) as http:  # some time goes by
            await http.get("/healthz")

        assert await connection.receive(len(data)) == data
        assert await connection.ending() == "close_notify"


async def test_a_client_that_sends_at_the_end_sees_it_all_the_same(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        await request(connection, server, USBREDIR, *UPGRADE)
        node = await handler.stream()
        node.writer.write(b"last words")
        node.writer.close()
        await node.writer.wait_closed()
        for _ in range(20):
            await connection.send(b"x" * 1000)

        assert await connection.receive(10) == b"last words"
        assert await connection.ending() == "close_notify"


async def test_the_end_of_the_client_ends_the_stream_of_the_node(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler:
        async with raw_client(server) as connection:
            await request(connection, server, USBREDIR, *UPGRADE)
            node = await handler.stream()

        async with asyncio.timeout(WAIT_S):
            assert await node.reader.read() == b""


async def test_a_slow_client_slows_the_node_down(server: ApiServer) -> None:
    size = 64 << 20
    written = 0

    async def write_all(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while written < size:
            writer.write(bytes(1 << 20))
            written += 1 << 20
            await writer.drain()

    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        await request(connection, server, USBREDIR, *UPGRADE)
        node = await handler.stream()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await write_all(node.writer)
        async with asyncio.TaskGroup() as group:
            group.create_task(write_all(node.writer))
            while await connection.receive(1 << 20) and written < size:
                pass


CHECKS = [
    pytest.param(
        "usbredir",
        vmi("other"),
        404,
        'virtualmachineinstance.kubevirt.io "fedora" not found',
        id="no-such-vmi",
    ),
    pytest.param(
        "usbredir",
        vmi(passthrough=False, phase="Scheduled"),
        409,
        'Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io "fedora": '
        "Not configured with USB Redirection",
        id="no-passthrough-comes-before-not-running",
    ),
    pytest.param(
        "usbredir",
        {**vmi(), "spec": {"architecture": "s390x", "domain": {"devices": {}}}},
        409,
        'Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io "fedora": '
        "No USB support on s390x",
        id="s390x-comes-first",
    ),
    pytest.param("usbredir", vmi(phase="Scheduled"), 400, "VMI is not running", id="scheduled"),
    pytest.param("vnc", vmi(phase="Failed"), 400, "VMI is not running", id="vnc-failed"),
    pytest.param(
        "console",
        vmi(phase="Failed"),
        409,
        'Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io "fedora": '
        "VMI is in failed status",
        id="console-failed",
    ),
    pytest.param(
        "vnc",
        {**vmi(), "spec": {"domain": {"devices": {"autoattachGraphicsDevice": False}}}},
        400,
        "No graphics devices are present.",
        id="no-graphics",
    ),
    pytest.param(
        "console",
        {**vmi(), "spec": {"domain": {"devices": {"autoattachSerialConsole": False}}}},
        400,
        "No serial consoles are present.",
        id="no-console",
    ),
    pytest.param("usbredir", vmi(nodeName=""), 400, "No virt-handler on node  found", id="no-node"),
    pytest.param(
        "usbredir", vmi(nodeName="node9"), 400, "No virt-handler on node node9 found", id="node9"
    ),
]


@pytest.mark.parametrize(("stream", "obj", "code", "message"), CHECKS)
async def test_refusals_of_virt_api_come_in_its_order_and_words(
    server: ApiServer, stream: str, obj: dict[str, object], code: int, message: str
) -> None:
    add_vmi(server, obj)
    async with fake_handler(server) as handler, raw_client(server) as connection:
        head = await request(connection, server, f"{STREAM_PATH}/fedora/{stream}", *UPGRADE)
        length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
        body = await connection.receive(length)

        assert head.startswith(f"HTTP/1.1 {code} ")
        assert "Content-Type: application/json" in head
        assert body.startswith(b'{\n "kind": "Status",\n "apiVersion": "v1",\n "metadata": {},\n')
        assert json.loads(body)["message"] == message
        assert json.loads(body)["code"] == code
        assert await connection.ending() == "close_notify"
        assert handler.requests == []


async def test_a_refusal_of_virt_handler_is_wrapped(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, client(server, "alice") as http:
        text = b"VMI demo/fedora does not exist"
        handler.refusals.append(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
        )
        answer = await http.get(USBREDIR)

    said = (
        "Can't connect to websocket (404): websocket: bad handshake: "
        "application info: VMI demo/fedora does not exist"
    )
    assert answer.status_code == 500
    assert answer.json() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {said}",
        "reason": "InternalError",
        "details": {"causes": [{"message": said}]},
        "code": 500,
    }


async def test_all_slots_in_use_has_no_application_info(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, client(server, "alice") as http:
        handler.refusals.append(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        answer = await http.get(USBREDIR)

    assert answer.status_code == 500
    assert answer.json()["message"] == (
        "Internal error occurred: Can't connect to websocket (503): websocket: bad handshake"
    )


async def test_only_the_first_kilobyte_of_a_refusal_is_told(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, client(server, "alice") as http:
        handler.refusals.append(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 5000)
        answer = await http.get(USBREDIR)

    assert answer.json()["message"].endswith("application info: " + "x" * 1024)


async def test_refusals_were_told_in_short_before_kubevirt_1_8(server: ApiServer) -> None:
    add_vmi(server, vmi())
    server.faults.old_dial_texts = True
    async with fake_handler(server) as handler, client(server, "alice") as http:
        handler.refusals.append(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        answer = await http.get(USBREDIR)

    assert answer.json()["message"] == (
        "Internal error occurred: dialing virt-handler: websocket: bad handshake"
    )


async def test_a_dead_virt_handler_is_a_refused_connection(
    server: ApiServer, unused_tcp_port: int
) -> None:
    add_vmi(server, vmi())
    add_handler_pod(server, "node1", unused_tcp_port)
    async with client(server, "alice") as http:
        answer = await http.get(USBREDIR)

    assert answer.status_code == 500
    assert answer.json()["message"] == (
        f"Internal error occurred: dial tcp 127.0.0.1:{unused_tcp_port}: "
        "connect: connection refused"
    )


async def test_a_virt_handler_that_hangs_is_a_gateway_timeout(server: ApiServer) -> None:
    add_vmi(server, vmi())
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        add_handler_pod(server, "node1", hanging.getsockname()[1])
        async with client(server, "alice") as http:
            answer = await http.get(USBREDIR)

    assert answer.status_code == 504
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text == (
        '{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within '
        'the allotted timeout","reason":"Timeout","details":{},"code":504}\n'
    )


NOT_HANDSHAKES = [
    pytest.param(
        (),
        "400 Bad Request",
        "websocket: the client is not using the websocket protocol: "
        "'upgrade' token not found in 'Connection' header",
        id="plain-get",
    ),
    pytest.param(
        ("Connection: Upgrade", "Upgrade: foo"),
        "426 Upgrade Required",
        "websocket: the client is not using the websocket protocol: "
        "'websocket' token not found in 'Upgrade' header",
        id="other-protocol",
    ),
    pytest.param(
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 12"),
        "400 Bad Request",
        "websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header",
        id="old-version",
    ),
    pytest.param(
        (*UPGRADE[:3], "Sec-WebSocket-Key: short"),
        "400 Bad Request",
        "websocket: not a websocket handshake: 'Sec-WebSocket-Key' header must be Base64 "
        "encoded value of 16-byte in length",
        id="bad-key",
    ),
]


@pytest.mark.parametrize(("headers", "status", "message"), NOT_HANDSHAKES)
async def test_a_request_that_is_no_handshake_leaks_a_stream_of_the_node(
    server: ApiServer, headers: tuple[str, ...], status: str, message: str
) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        head = await request(connection, server, USBREDIR, *headers)
        length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
        phrase, _, body = (await connection.receive(length)).decode().partition("\n")
        node = await handler.stream()

        assert head.startswith(f"HTTP/1.1 {status}\r\n")
        assert "Content-Type: text/plain; charset=utf-8" in head
        assert phrase == status[4:]
        assert json.loads(body)["message"] == message
        assert not node.reader.at_eof()

        server.collect_garbage()

        async with asyncio.timeout(WAIT_S):
            assert await node.reader.read() == b""


async def test_who_may_not_is_refused_by_kube_apiserver_in_compact_json(
    server: ApiServer,
) -> None:
    add_vmi(server, vmi())
    async with client(server, "viewer") as http:
        answer = await http.get(USBREDIR)

    assert answer.status_code == 403
    assert answer.text == (
        '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":'
        '"virtualmachineinstances.subresources.kubevirt.io \\"fedora\\" is forbidden: User '
        '\\"viewer\\" cannot get resource \\"virtualmachineinstances/usbredir\\" in API group '
        '\\"subresources.kubevirt.io\\" in the namespace \\"demo\\"","reason":"Forbidden",'
        '"details":{"name":"fedora","group":"subresources.kubevirt.io","kind":'
        '"virtualmachineinstances"},"code":403}\n'
    )


DIAL_FAULTS = [
    pytest.param(DialFault.UNAUTHORIZED, 401, "Unauthorized", id="401"),
    pytest.param(DialFault.FORBIDDEN, 403, "cannot get resource", id="403"),
    pytest.param(DialFault.CONFLICT, 409, "Not configured with USB Redirection", id="409"),
    pytest.param(DialFault.SLOTS_FULL, 500, "websocket (503): websocket: bad hand", id="500"),
    pytest.param(DialFault.UNAVAILABLE, 503, "service unavailable\n", id="503"),
]


@pytest.mark.parametrize(("fault", "code", "text"), DIAL_FAULTS)
async def test_a_fault_refuses_the_next_dial_and_no_other(
    server: ApiServer, fault: DialFault, code: int, text: str
) -> None:
    add_vmi(server, vmi())
    server.faults.dials.append(fault)
    async with fake_handler(server) as handler, client(server, "alice") as http:
        answer = await http.get(USBREDIR)
        assert (answer.status_code, text in answer.text) == (code, True)
        assert handler.requests == []

        async with raw_client(server) as connection:
            assert " 101 " in await request(connection, server, USBREDIR, *UPGRADE)
            await handler.stream()


async def test_a_fault_resets_a_stream_right_after_its_handshake(server: ApiServer) -> None:
    add_vmi(server, vmi())
    server.faults.resets_after_101 = 1
    async with fake_handler(server), raw_client(server) as connection:
        assert " 101 " in await request(connection, server, USBREDIR, *UPGRADE)
        assert await connection.ending() == "RST"


async def test_a_stop_of_the_server_is_fin_without_close_notify(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, raw_client(server) as connection:
        await request(connection, server, USBREDIR, *UPGRADE)
        node = await handler.stream()
        await server.stop()

        assert await connection.ending() == "FIN"
        async with asyncio.timeout(WAIT_S):
            assert await node.reader.read() == b""


async def test_virt_api_can_die_and_come_back_while_the_api_server_goes_on(
    server: ApiServer,
) -> None:
    add_vmi(server, vmi())
    async with fake_handler(server) as handler, client(server, "alice") as http:
        async with raw_client(server) as connection:
            await request(connection, server, USBREDIR, *UPGRADE)
            await handler.stream()
            server.stop_virt_api()
            assert await connection.ending() == "close_notify"

        refused = await http.get(USBREDIR)
        assert refused.status_code == 503
        assert refused.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert refused.text.startswith("error trying to reach service: dial tcp ")

        server.start_virt_api()
        async with raw_client(server) as connection:
            assert " 101 " in await request(connection, server, USBREDIR, *UPGRADE)
            await handler.stream()
