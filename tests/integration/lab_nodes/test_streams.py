"""What virt-handler's streams do on the wire (docs/facts/kubevirt.md)."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab.faults import Fault, NodeFaults
from tests.support.handlers import MASK, TIMEOUT_S, Client, Handler, handler

if TYPE_CHECKING:
    from pathlib import Path

SILENCE_S = 0.2
"""Nothing within this time is taken for nothing at all."""
MOST_IN_FLIGHT = 16 << 20
"""Buffers of the kernel and of both sides; without flow control it would be everything."""
CLOSE_1000 = bytes.fromhex("880203e8")


async def closed_by_node(client: Client) -> bool:
    return await client.rest() == b""


# -- framing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "frames"),
    [
        (10240, [("827e2800", 10240)]),
        (16384, [("027e2800", 10240), ("807e1800", 6144)]),
        (20481, [("027e2800", 10240), ("007e2800", 10240), ("8001", 1)]),
        (32768, [("027e8000", 32768), ("8000", 0)]),
        (40000, [("027e8000", 32768), ("8000", 0), ("827e1c40", 7232)]),
    ],
)
async def test_what_the_guest_writes_comes_in_gorillas_fragments(
    tmp_path: Path, length: int, frames: list[tuple[str, int]]
) -> None:
    payload = bytes(i % 251 for i in range(length))
    wire, at = b"", 0
    for head, part in frames:
        wire += bytes.fromhex(head) + payload[at : at + part]
        at += part
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        async with await node.dial() as client:
            _, writer = await guest.accept()

            writer.write(payload)

            assert await client.read(len(wire)) == wire
            writer.close()
            assert await closed_by_node(client)


async def test_the_guest_gets_binary_messages_only_and_pings_are_answered(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        async with await node.dial() as client:
            reader, writer = await guest.accept()

            client.send(0x81, b"text")
            client.send(0x02, b"one ")
            client.send(0x89, b"alive?")
            client.send(0x80, b"message")
            client.send(0x82, b"")
            client.send(0x82, b"!")

            async with asyncio.timeout(TIMEOUT_S):
                assert await reader.readexactly(12) == b"one message!"
            assert await client.read(8) == bytes.fromhex("8a06") + b"alive?"
            writer.close()


async def test_a_handshake_takes_the_subprotocol_and_no_extension(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        node.listen("virt-usbredir-0")
        offered = (
            "Sec-WebSocket-Protocol: plain.kubevirt.io\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        )

        async with await node.dial(headers=offered) as client:
            assert client.status == 101
            assert "Sec-WebSocket-Protocol: plain.kubevirt.io\r\n" in client.head
            assert "Extensions" not in client.head


# -- ends ------------------------------------------------------------------------------------------


async def test_a_close_frame_is_answered_by_its_code_and_both_sides_end(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        async with await node.dial() as client:
            reader, writer = await guest.accept()
            client.send(0x82, b"last words")
            client.send(0x88, bytes.fromhex("03e8") + b"bye")

            assert await client.rest() == CLOSE_1000
            async with asyncio.timeout(TIMEOUT_S):
                assert await reader.read() == b"last words"
            writer.close()


async def test_a_broken_frame_is_answered_by_close_1002(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        async with await node.dial() as client:
            _, writer = await guest.accept()
            client.writer.write(bytes.fromhex("820178"))

            assert await client.rest() == bytes.fromhex("880a03ea") + b"bad MASK"
            writer.close()


async def test_a_client_that_goes_ends_the_guests_side(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        client = await node.dial()
        reader, writer = await guest.accept()

        client.writer.transport.abort()

        async with asyncio.timeout(TIMEOUT_S):
            assert await reader.read() == b""
        writer.close()


async def test_nobody_listens_on_the_socket_shows_as_a_stream_that_ends_at_once(
    tmp_path: Path,
) -> None:
    async with handler(tmp_path) as node:
        node.listen("virt-usbredir-0").close()

        async with await node.dial() as client:
            assert client.status == 101
            assert await closed_by_node(client)
        async with await node.dial() as again:
            assert again.status == 101, "the slot is free again"


# -- slots and sessions ----------------------------------------------------------------------------


async def test_four_slots_in_order_a_fifth_is_refused_and_a_freed_one_is_next(
    tmp_path: Path,
) -> None:
    async with handler(tmp_path) as node:
        guests = [node.listen(f"virt-usbredir-{slot}") for slot in range(4)]
        clients = [await node.dial() for _ in guests]
        taken = [await guest.accept() for guest in guests]

        async with await node.dial() as fifth:
            assert fifth.status == 503
            assert "Content-Length: 0\r\n" in fifth.head
        clients[2].close()
        async with asyncio.timeout(TIMEOUT_S):
            assert await taken[2][0].read() == b""
        async with await node.dial() as sixth:
            assert sixth.status == 101
            _, writer = await guests[2].accept()
            writer.close()

        for client in clients:
            client.close()
        for _, writer in taken:
            writer.close()


async def test_the_newest_console_wins(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-serial0")
        older = await node.dial("console")
        reader, writer = await guest.accept()

        async with await node.dial("console") as newer:
            assert await closed_by_node(older)
            async with asyncio.timeout(TIMEOUT_S):
                assert await reader.read() == b""
            _, second = await guest.accept()
            second.write(b"login:")
            assert await newer.read(8) == bytes.fromhex("8206") + b"login:"
            second.close()
        writer.close()
        older.close()


async def test_a_screen_that_is_to_be_preserved_is(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-vnc")
        async with await node.dial("vnc?preserveSession=true") as first:
            _, writer = await guest.accept()

            async with await node.dial("vnc?preserveSession=true") as second:
                assert (second.status, await second.rest()) == (
                    503,
                    b"Active VNC connection. Request denied.",
                )
            assert first.status == 101
            writer.close()


# -- refusals --------------------------------------------------------------------------------------


async def test_refusals_before_the_handshake(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        assert await refused(node) == (
            400,
            f"failed opening virt-usbredir-0 for path root: /proc/{os.getpid()}/root, relative: "
            "/run/kubevirt-private/0c1a/virt-usbredir-0: no such file or directory",
        )
        node.folders.append(tmp_path)
        assert await refused(node) == (
            400,
            "Found multiple sockets for vmi demo/desk. waiting for only one to exist",
        )
        node.folders.clear()
        assert await refused(node) == (400, "No command socket found for vmi 0c1a")
        assert await refused(node, "../shelf/usbredir") == (404, "404: Page Not Found")


async def refused(node: Handler, stream: str = "usbredir") -> tuple[int, str]:
    async with await node.dial(stream) as client:
        return client.status, (await client.rest()).decode()


async def test_a_vmi_of_another_node_does_not_exist_here(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        node.node.vmis.clear()

        assert await refused(node) == (404, "VMI demo/desk does not exist")


async def test_a_client_without_a_certificate_gets_nothing(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        anonymous = ssl.create_default_context()
        anonymous.check_hostname = False
        anonymous.verify_mode = ssl.CERT_NONE
        node.context = anonymous

        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await node.dial()


# -- faults ----------------------------------------------------------------------------------------


async def test_full_slots_last_as_long_as_the_fault(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        node.listen("virt-usbredir-0")
        await node.server.apply(NodeFaults({Fault.FULL_SLOTS: 0.0}))

        async with await node.dial() as client:
            assert client.status == 503

        await node.server.apply(NodeFaults())
        async with await node.dial() as client:
            assert client.status == 101


async def test_a_ghost_keeps_its_slot(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guests = [node.listen(f"virt-usbredir-{slot}") for slot in (0, 1)]
        await node.server.apply(NodeFaults({Fault.GHOST_SLOT: 0.0}))
        ghost = await node.dial()
        reader, writer = await guests[0].accept()
        ghost.close()
        async with asyncio.timeout(TIMEOUT_S):
            await reader.read()
        writer.close()

        async with await node.dial() as client:
            _, writer = await guests[1].accept()
            assert client.status == 101
            writer.close()


async def test_a_socket_that_somebody_else_holds_is_silent_until_it_is_left(
    tmp_path: Path,
) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        await node.server.apply(NodeFaults({Fault.SILENT_BACKLOG: 0.0}))

        async with await node.dial() as client:
            assert client.status == 101
            occupant, occupants_writer = await guest.accept()
            client.send(0x82, b"hello")
            await node.server.apply(NodeFaults())
            async with asyncio.timeout(TIMEOUT_S):
                assert await occupant.read() == b""
            reader, writer = await guest.accept()

            async with asyncio.timeout(TIMEOUT_S):
                assert await reader.readexactly(5) == b"hello"
            occupants_writer.close()
            writer.close()


async def test_a_stream_is_reset_right_after_101(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        node.listen("virt-usbredir-0")
        await node.server.apply(NodeFaults({Fault.RST_AFTER_101: 0.0}))

        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            client = await node.dial()
            await client.read(1)


async def test_a_node_that_hangs_carries_nothing_and_answers_nobody(tmp_path: Path) -> None:
    async with handler(tmp_path) as node, asyncio.TaskGroup() as group:
        guest = node.listen("virt-usbredir-0")
        node.listen("virt-usbredir-1")
        async with await node.dial() as client:
            reader, writer = await guest.accept()
            await node.server.apply(NodeFaults({Fault.HANG: 0.0}))
            client.send(0x89, b"")
            writer.write(b"x")
            second = group.create_task(node.dial())
            carried = group.create_task(client.read(1))

            answered, _ = await asyncio.wait(
                [second, carried], timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED
            )
            assert not answered

            await node.server.apply(NodeFaults())
            assert await carried in (b"\x8a", b"\x82")
            assert (await second).status == 101
            (await second).close()
            del reader
            writer.close()


async def test_a_slow_network_carries_no_more_than_it_is_told(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        await node.server.apply(NodeFaults({Fault.SLOW_NETWORK: 100_000.0}))
        async with await node.dial() as client:
            _, writer = await guest.accept()
            loop = asyncio.get_running_loop()
            began = loop.time()

            for _ in range(3):  # the first goes at once, the second when the first is over
                writer.write(b"x" * 10_000)
                await client.read(10_004)

            assert loop.time() - began >= 0.19
            writer.close()


# -- flow control ----------------------------------------------------------------------------------


async def test_a_client_that_does_not_read_holds_the_guest_back(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        async with await node.dial() as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            _, writer = await guest.accept()

            assert await _accepted(writer) < MOST_IN_FLIGHT
            writer.transport.abort()


async def test_a_guest_that_does_not_read_holds_the_client_back(tmp_path: Path) -> None:
    async with handler(tmp_path) as node:
        guest = node.listen("virt-usbredir-0")
        async with await node.dial() as client:
            reader, writer = await guest.accept()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            del reader

            accepted = await _accepted(client.writer, bytes.fromhex("82ff0000000000100000") + MASK)

            assert accepted < MOST_IN_FLIGHT
            client.writer.transport.abort()
            writer.transport.abort()


async def _accepted(writer: asyncio.StreamWriter, head: bytes = b"") -> int:
    """Write until nothing is taken any more, and return how much was."""
    block = head + bytes(1 << 20)
    written = 0
    while written < 4 * MOST_IN_FLIGHT:
        writer.write(block)
        written += len(block)
        try:
            async with asyncio.timeout(SILENCE_S):
                await writer.drain()
        except TimeoutError:
            break
    return written
