"""What a client hears instead of a stream, word by word."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kubectl_vmredir.lab import objects
from tests.support.lab_api import UPGRADE
from tests.support.raw_streams import SUBPROTOCOL, RawStream, dial
from tests.support.vms import WAIT_LIMIT_S, GuestSocket, cordon, stream_path, vm
from tests.support.worlds import Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kubectl_vmredir.k8s.client import KubeClient
    from tests.support.vms import Vm
    from tests.support.worlds import World

VMI = "virtualmachineinstance.kubevirt.io"
CONFLICT = f'Operation cannot be fulfilled on {VMI} "{{}}": '
BAD_HANDSHAKE = "Internal error occurred: Can't connect to websocket ({}): websocket: bad handshake"
INFO = ": application info: "


async def refused(stream: RawStream) -> dict[str, Any]:
    """Return the Status of a refusal of virt-api, whose form is checked."""
    body = (await stream.body()).decode()
    status: dict[str, Any] = json.loads(body)
    assert stream.answer.headers["content-type"] == "application/json"
    assert stream.answer.headers["x-content-type-options"] == "nosniff"
    assert body.startswith('{\n "kind": "Status",\n "apiVersion": "v1",\n "metadata": {},\n')
    assert body.endswith(f' "code": {stream.answer.status}\n}}')
    assert status["status"] == "Failure"
    return status


async def refused_so(world: World, desk: Vm, message: str) -> dict[str, Any]:
    """Dial until the refusal is this one: a virt-handler hears of changes by a watch."""
    heard = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_LIMIT_S):
            while True:
                async with dial(world, desk.stream()) as stream:
                    status = await refused(stream) if stream.answer.status != 101 else {}
                heard.append(status.get("message"))
                if heard[-1] == message:
                    return status
    raise AssertionError(f"{message!r} never came, but {set(heard)}")


async def test_a_vmi_that_does_not_exist(world: World) -> None:
    async with dial(world, stream_path("nix")) as stream:
        status = await refused(stream)

    assert status["code"] == 404
    assert status["reason"] == "NotFound"
    assert status["message"] == f'{VMI} "nix" not found'
    assert status["details"] == {
        "name": "nix",
        "group": "kubevirt.io",
        "kind": "virtualmachineinstance",
    }


async def test_a_refused_upgrade_ends_the_connection_in_order(world: World) -> None:
    async with dial(world, stream_path("nix")) as stream:
        await stream.body()

        assert await stream.ending() == "close_notify"


async def test_a_vm_without_slots(world: World) -> None:
    async with vm(world, devices={}) as plain:
        await plain.running()
        async with dial(world, plain.stream()) as stream:
            status = await refused(stream)

    name = plain.ref.name
    assert status["code"] == 409
    assert status["reason"] == "Conflict"
    assert status["message"] == CONFLICT.format(name) + "Not configured with USB Redirection"
    assert status["details"] == {
        "name": name,
        "group": "kubevirt.io",
        "kind": "virtualmachineinstance",
    }


@pytest.mark.parametrize("kind", ["usbredir", "console", "vnc"])
async def test_a_vm_that_does_not_run(world: World, admin: KubeClient, kind: str) -> None:
    await cordon(admin, "node1", "node2")
    try:
        async with vm(world) as waiting:
            await waiting.wait(lambda vmi: objects.phase(vmi) == "Scheduling")
            async with dial(world, waiting.stream(kind)) as stream:
                status = await refused(stream)
    finally:
        await cordon(admin, "node1", "node2", unschedulable=False)

    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert status["message"] == "VMI is not running"


async def test_slots_are_asked_for_before_it_is_asked_whether_the_vm_runs(
    world: World, admin: KubeClient
) -> None:
    await cordon(admin, "node1", "node2")
    try:
        async with vm(world, devices={}) as waiting:
            await waiting.wait(lambda vmi: objects.phase(vmi) == "Scheduling")
            async with dial(world, waiting.stream()) as stream:
                status = await refused(stream)
    finally:
        await cordon(admin, "node1", "node2", unschedulable=False)

    assert status["code"] == 409
    assert "Not configured with USB Redirection" in status["message"]


ABSENT = [
    ("vnc", "autoattachGraphicsDevice", "No graphics devices are present."),
    ("console", "autoattachSerialConsole", "No serial consoles are present."),
]


@pytest.mark.parametrize(("kind", "device", "message"), ABSENT)
async def test_a_vm_without_screen_or_console(
    world: World, kind: str, device: str, message: str
) -> None:
    async with vm(world, devices={device: False}) as plain:
        await plain.running()
        async with dial(world, plain.stream(kind)) as stream:
            status = await refused(stream)

    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert status["message"] == message


@asynccontextmanager
async def told(world: World, desk: Vm, **status: str) -> AsyncIterator[None]:
    """Change the status of a VMI as only KubeVirt may, and let nobody say otherwise.

    The label with the name of the node goes with the status.
    """
    change: dict[str, Any] = {"status": status}
    if "nodeName" in status:
        change["metadata"] = {"labels": {objects.NODE_NAME: status["nodeName"]}}
    await world.freeze(Part.CONTROLLER)
    try:
        async with world.component() as kubevirt:
            await kubevirt.patch(desk.path, change)
        yield
    finally:
        await world.thaw(Part.CONTROLLER)


@pytest.mark.parametrize("node", ["", "node9"])
async def test_a_node_without_virt_handler(world: World, desk: Vm, node: str) -> None:
    async with told(world, desk, nodeName=node), dial(world, desk.stream()) as stream:
        status = await refused(stream)

    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert status["message"] == f"No virt-handler on node {node} found"


async def test_a_console_of_a_vm_that_failed(world: World, desk: Vm) -> None:
    async with told(world, desk, phase="Failed"), dial(world, desk.stream("console")) as stream:
        status = await refused(stream)

    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["message"] == CONFLICT.format(desk.ref.name) + "VMI is in failed status"


@pytest.mark.parametrize("kind", ["usbredir", "vnc"])
async def test_other_streams_of_a_vm_that_failed(world: World, desk: Vm, kind: str) -> None:
    async with told(world, desk, phase="Failed"), dial(world, desk.stream(kind)) as stream:
        status = await refused(stream)

    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert status["message"] == "VMI is not running"


async def test_a_virt_handler_that_does_not_know_the_vmi(world: World, desk: Vm) -> None:
    change = {"metadata": {"labels": {objects.NODE_NAME: "node9"}}}
    async with world.component() as kubevirt:
        await kubevirt.patch(desk.path, change)

    said = BAD_HANDSHAKE.format(404) + INFO + f"VMI {desk.ref} does not exist"
    status = await refused_so(world, desk, said)

    assert (status["code"], status["reason"]) == (500, "InternalError")
    assert status["details"] == {"causes": [{"message": said.partition(": ")[2]}]}


async def test_a_node_where_the_vm_has_no_launcher(world: World, desk: Vm) -> None:
    vmi = await desk.vmi()
    other = {"node1": "node2", "node2": "node1"}[objects.status(vmi)["nodeName"]]

    said = f"No command socket found for vmi {objects.uid(vmi)}"
    async with told(world, desk, nodeName=other):
        status = await refused_so(world, desk, BAD_HANDSHAKE.format(400) + INFO + said)

    assert (status["code"], status["reason"]) == (500, "InternalError")


async def test_a_vm_of_another_architecture(world: World, admin: KubeClient) -> None:
    await cordon(admin, "node1", "node2")
    try:
        async with vm(world, devices={}, architecture="s390x") as mainframe:
            await mainframe.wait(lambda vmi: objects.phase(vmi) == "Scheduling")
            async with dial(world, mainframe.stream()) as stream:
                status = await refused(stream)
    finally:
        await cordon(admin, "node1", "node2", unschedulable=False)

    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["message"] == CONFLICT.format(mainframe.ref.name) + "No USB support on s390x"


async def test_a_socket_that_is_not_there_and_its_number(world: World, desk: Vm) -> None:
    vmi, folder = await desk.vmi(), await desk.run_folder()
    (folder / "virt-usbredir-1").unlink()

    async with dial(world, desk.stream()), dial(world, desk.stream()) as second:
        status = await refused(second)

    text = BAD_HANDSHAKE.format(400) + INFO + "failed opening virt-usbredir-1 for path root: /proc/"
    pattern = (
        re.escape(text)
        + r"\d+"
        + re.escape(
            f"/root, relative: /run/kubevirt-private/{objects.uid(vmi)}/virt-usbredir-1: "
            "no such file or directory"
        )
    )
    assert (status["code"], status["reason"]) == (500, "InternalError")
    assert re.fullmatch(pattern, status["message"])


async def test_a_screen_that_is_not_to_be_taken_away(world: World, desk: Vm) -> None:
    with GuestSocket(await desk.run_folder(), "virt-vnc") as screen:
        async with dial(world, desk.stream("vnc")) as first:
            guest = await screen.accept()
            async with dial(world, desk.stream("vnc") + "?preserveSession=true") as second:
                status = await refused(second)
            await guest.send(b"RFB 003.008")

            assert await first.receive(11) == b"RFB 003.008"
    assert status["message"] == (
        BAD_HANDSHAKE.format(503) + INFO + "Active VNC connection. Request denied."
    )


async def test_a_path_that_virt_api_does_not_serve(world: World, desk: Vm) -> None:
    async with dial(world, desk.stream("nonsense"), user="admin") as stream:
        body = await stream.body()

    assert stream.answer.status == 404
    assert stream.answer.headers["content-type"].startswith("text/plain")
    assert body == b"404: Page Not Found"


NOT_HANDSHAKES = [
    pytest.param(
        (),
        400,
        "Bad Request",
        "websocket: the client is not using the websocket protocol: "
        "'upgrade' token not found in 'Connection' header",
        id="plain-get",
    ),
    pytest.param(
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 12"),
        400,
        "Bad Request",
        "websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header",
        id="old-version",
    ),
    pytest.param(
        ("Connection: Upgrade", "Upgrade: foo"),
        426,
        "Upgrade Required",
        "websocket: the client is not using the websocket protocol: "
        "'websocket' token not found in 'Upgrade' header",
        id="other-protocol",
    ),
    pytest.param(
        (*UPGRADE[:3], "Sec-WebSocket-Key: short"),
        400,
        "Bad Request",
        "websocket: not a websocket handshake: 'Sec-WebSocket-Key' header must be Base64 "
        "encoded value of 16-byte in length",
        id="bad-key",
    ),
]


@pytest.mark.parametrize(("headers", "code", "phrase", "message"), NOT_HANDSHAKES)
async def test_a_request_that_is_no_handshake(
    world: World, desk: Vm, headers: tuple[str, ...], code: int, phrase: str, message: str
) -> None:
    async with dial(world, desk.stream(), *headers, upgrade=False) as stream:
        first, _, body = (await stream.body()).decode().partition("\n")

    assert stream.answer.status == code
    assert stream.answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert first == phrase
    assert json.loads(body)["message"] == message


async def test_the_upgrade_is_answered_as_virt_api_does(world: World, desk: Vm) -> None:
    async with dial(world, desk.stream()) as stream:
        headers = stream.answer.headers

    assert stream.answer.status == 101
    assert headers["upgrade"] == "websocket"
    assert headers["connection"] == "Upgrade"
    assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "sec-websocket-protocol" not in headers
    assert "sec-websocket-extensions" not in headers


async def test_the_subprotocol_is_chosen_when_it_is_offered(world: World, desk: Vm) -> None:
    async with dial(world, desk.stream(), SUBPROTOCOL) as stream:
        assert stream.answer.headers["sec-websocket-protocol"] == "plain.kubevirt.io"


async def test_a_subprotocol_that_nobody_knows_is_ignored(world: World, desk: Vm) -> None:
    offers = "Sec-WebSocket-Protocol: other.example"
    async with dial(world, desk.stream(), offers) as stream:
        assert stream.answer.status == 101
        assert "sec-websocket-protocol" not in stream.answer.headers


async def test_compression_is_never_agreed_on(world: World, desk: Vm) -> None:
    offers = "Sec-WebSocket-Extensions: permessage-deflate"
    async with dial(world, desk.stream(), offers) as stream:
        assert stream.answer.status == 101
        assert "sec-websocket-extensions" not in stream.answer.headers
