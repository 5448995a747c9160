"""Virtual devices as the service sees them: real socket pairs, one event loop."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from kubectl_vmredir.errors import DeviceBusy, DeviceNotFound, UsbError
from kubectl_vmredir.lab.devices.function import Function
from kubectl_vmredir.lab.devices.keyboard import INTERRUPT_IN, Keyboard
from kubectl_vmredir.lab.devices.session import OUTPUT_BYTES
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.devices.stick import BULK_IN, BULK_OUT, Stick
from kubectl_vmredir.model import (
    DeviceSelector,
    DeviceUse,
    LocalDevice,
    Speed,
    UsbClass,
    VendorProduct,
)
from kubectl_vmredir.protocol.constants import Status
from kubectl_vmredir.protocol.control import (
    CancelDataPacket,
    DeviceDisconnect,
    InterruptReceivingStatus,
    StartInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket, InterruptPacket
from kubectl_vmredir.protocol.description import DeviceConnect, EpInfo, Hello, InterfaceInfo
from kubectl_vmredir.service.ports import DeviceSource
from tests.support.usb_guest import cbw, csw, read_10
from tests.support.usb_host_sockets import SocketGuest, owned

OK = Status.SUCCESS
CLAIMED = {"event": "claimed", "drivers": []}
IMAGE = os.urandom(1 << 20)


@pytest.fixture
async def source() -> AsyncIterator[VirtualDevices]:
    devices: list[Function] = [
        Stick("FLASH001", IMAGE),
        Stick("FLASH002", IMAGE),
        Keyboard("KEYS001"),
    ]
    async with VirtualDevices(devices) as source:
        yield source


async def run_command(guest: SocketGuest, cdb: bytes, length: int) -> bytes:
    """Run a command that succeeds and sends ``length`` bytes; return them."""
    await guest.send(BulkPacket(BULK_OUT, OK, 31, data=cbw(cdb, length)), 1)
    await guest.send(BulkPacket(BULK_IN, OK, length), 2)
    await guest.send(BulkPacket(BULK_IN, OK, 13), 3)
    assert await guest.receive() == (1, BulkPacket(BULK_OUT, OK, 31))
    _, data = await guest.receive()
    assert await guest.receive() == (3, BulkPacket(BULK_IN, OK, 13, data=csw(0)))
    assert isinstance(data, BulkPacket)
    return data.data


async def read_blocks(guest: SocketGuest, block: int, count: int) -> bytes:
    """Read, past a unit attention that may be in the way."""
    await run_command(guest, bytes.fromhex("03 00 00 00 12 00"), 18)
    return await run_command(guest, read_10(block, count), count * 512)


async def test_devices_look_like_local_ones(source: VirtualDevices) -> None:
    port: DeviceSource = source
    first, second, keyboard = await port.devices()

    assert first == LocalDevice(
        ids=VendorProduct(0x1209, 0x0001),
        bus=100,
        address=1,
        port_path="100-1",
        serial="FLASH001",
        manufacturer="kubectl-vmredir",
        product="Virtual Stick",
        speed=Speed.HIGH,
        classes=(UsbClass(8, 6, 0x50),),
        node=None,
        virtual=True,
    )
    assert (first.ids, first.kind) == (second.ids, "storage")
    assert second.serial == "FLASH002"
    assert (keyboard.kind, keyboard.speed) == ("keyboard", Speed.FULL)
    for device in (first, second, keyboard):
        assert DeviceSelector.parse(f"port:{device.port_path}").matches(device)
        assert DeviceSelector.parse(device.bus_device).matches(device)


async def test_nothing_but_our_own_claim_uses_a_virtual_device(source: VirtualDevices) -> None:
    device, *_ = await source.devices()

    assert await source.use(device) == DeviceUse()
    with owned(await source.claim(device)):
        assert await source.use(device) == DeviceUse(redirected_by=os.getpid())


async def test_use_of_a_device_that_is_gone_is_not_found(source: VirtualDevices) -> None:
    device, *_ = await source.devices()
    source.unplug(device)

    with pytest.raises(DeviceNotFound):
        await source.use(device)


async def test_claim_says_claimed_and_hello_at_once(source: VirtualDevices) -> None:
    device, *_ = await source.devices()

    with owned(await source.claim(device)) as guest:
        assert await guest.event() == CLAIMED
        assert isinstance((await guest.receive())[1], Hello)
        await guest.send_bytes(guest.codec.hello())
        announced = [(await guest.receive())[1] for _ in range(3)]

    assert [type(packet) for packet in announced] == [InterfaceInfo, EpInfo, DeviceConnect]


async def test_stick_is_read_through_the_sockets(source: VirtualDevices) -> None:
    device, *_ = await source.devices()

    with owned(await source.claim(device)) as guest:
        await guest.connect()

        assert await read_blocks(guest, 0, 128) == IMAGE[:65536]


async def test_keyboard_is_typed_on_through_the_sockets() -> None:
    keyboard = Keyboard("KEYS001")
    async with VirtualDevices([keyboard]) as source:
        [device] = await source.devices()
        with owned(await source.claim(device)) as guest:
            await guest.connect()
            await guest.send(StartInterruptReceiving(INTERRUPT_IN))
            assert await guest.receive() == (0, InterruptReceivingStatus(OK, INTERRUPT_IN))

            keyboard.press(0x04)

            _, down = await guest.receive()
            _, up = await guest.receive()
    assert isinstance(down, InterruptPacket)
    assert down.data == bytes.fromhex("0000040000000000")
    assert isinstance(up, InterruptPacket)
    assert up.data == bytes(8)


async def test_claimed_device_is_busy_until_its_data_socket_is_closed(
    source: VirtualDevices,
) -> None:
    device, other, _ = await source.devices()

    with owned(await source.claim(device)) as guest:
        with pytest.raises(DeviceBusy, match=rf"held by this process \({os.getpid()}\)"):
            await source.claim(device)
        with owned(await source.claim(other)) as other_guest:
            assert await other_guest.event() == CLAIMED
        await guest.give_back()

    with owned(await source.claim(device)) as guest:
        assert await guest.event() == CLAIMED


async def test_stop_request_ends_the_session(source: VirtualDevices) -> None:
    device, *_ = await source.devices()

    with owned(await source.claim(device)) as guest:
        assert await guest.event() == CLAIMED
        await guest.request(b'{"request": "st')
        await guest.request(b'op"}\n')

        with pytest.raises(EOFError):
            await guest.event()
    with owned(await source.claim(device)) as guest:
        assert await guest.event() == CLAIMED


@pytest.mark.parametrize("line", [b"what?\n", b'{"request": "jump"}\n', b"[]\n", b"\xff\n"])
async def test_unknown_request_is_not_heeded(source: VirtualDevices, line: bytes) -> None:
    device, *_ = await source.devices()

    with owned(await source.claim(device)) as guest:
        await guest.request(line)
        await guest.connect()

        assert await read_blocks(guest, 3, 1) == IMAGE[1536:2048]


async def test_endless_request_ends_the_session(source: VirtualDevices) -> None:
    device, *_ = await source.devices()

    with owned(await source.claim(device)) as guest:
        assert await guest.event() == CLAIMED
        await guest.request(b"x" * 10000)

        with pytest.raises((EOFError, ConnectionError)):
            await guest.event()


async def test_guest_that_breaks_the_protocol_ends_the_session_as_an_error(
    source: VirtualDevices,
) -> None:
    device, *_ = await source.devices()

    with owned(await source.claim(device)) as guest:
        await guest.send_bytes(b"\xff" * 12)

        assert await guest.event() == CLAIMED
        assert await guest.event() == {
            "event": "error",
            "message": "unknown packet type 4294967295",
        }
        with pytest.raises(EOFError):
            await guest.event()
    with owned(await source.claim(device)) as guest:
        assert await guest.event() == CLAIMED


async def test_unplugged_device_is_lost_and_its_requests_fail(source: VirtualDevices) -> None:
    device, *others = await source.devices()

    with owned(await source.claim(device)) as guest:
        await guest.connect()
        source.unplug(device)

        assert await source.devices() == others
        assert await guest.event() == CLAIMED
        assert await guest.event() == {"event": "lost", "reason": "unplugged"}
        assert await guest.receive() == (0, DeviceDisconnect())
        await guest.send(BulkPacket(BULK_IN, OK, 512), 7)
        assert await guest.receive() == (7, BulkPacket(BULK_IN, Status.IOERROR, 0))
    with pytest.raises(DeviceNotFound, match="no USB device 1209:0001:FLASH001"):
        await source.claim(device)


async def test_unplugged_device_may_be_plugged_in_and_claimed_while_the_old_session_lasts(
    tmp_path: Path,
) -> None:
    image = tmp_path / "stick.img"
    image.write_bytes(IMAGE)
    stick = Stick("FLASH001", image)
    async with VirtualDevices([stick]) as source:
        [before] = await source.devices()
        with owned(await source.claim(before)) as old_guest:
            source.unplug(before)
            after = source.plug(stick)
            assert (after.port_path, after.address) == (before.port_path, before.address + 1)
            with owned(await source.claim(after)) as new_guest:
                await new_guest.connect()
                await old_guest.request(b'{"request": "stop"}\n')
                assert await old_guest.event() == CLAIMED
                assert await old_guest.event() == {"event": "lost", "reason": "unplugged"}
                with pytest.raises(EOFError):
                    await old_guest.event()

                assert await read_blocks(new_guest, 0, 2) == IMAGE[:1024]


async def test_killed_host_says_nothing_more_and_its_device_can_be_claimed_again(
    source: VirtualDevices,
) -> None:
    device, *_ = await source.devices()

    with owned(await source.claim(device)) as guest:
        await guest.connect()
        assert await guest.event() == CLAIMED

        assert source.kill_host(device)

        with pytest.raises(EOFError):
            await guest.receive()
        with pytest.raises(EOFError):
            await guest.event()
    assert not source.kill_host(device)
    with owned(await source.claim(device)) as guest:
        assert await guest.event() == CLAIMED


async def test_device_of_another_address_is_not_found(source: VirtualDevices) -> None:
    device, *_ = await source.devices()
    source.unplug(device)

    with pytest.raises(DeviceNotFound):
        source.unplug(device)


async def test_changes_are_announced_even_before_anybody_waits(source: VirtualDevices) -> None:
    device, *_ = await source.devices()

    async with asyncio.timeout(1), aclosing(source.changes()) as changes:
        source.unplug(device)
        source.plug(Keyboard("KEYS002"))
        await anext(changes)
        serials = [device.serial for device in await source.devices()]
        assert serials == ["FLASH002", "KEYS001", "KEYS002"]

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait_for_change(changes))
            await asyncio.sleep(0)
            assert not waiting.done()
            source.plug(Keyboard("KEYS003"))


async def wait_for_change(changes: AsyncIterator[None]) -> None:
    await anext(changes)


async def test_file_is_held_while_the_stick_is_claimed(tmp_path: Path) -> None:
    image = tmp_path / "stick.img"
    image.write_bytes(IMAGE)
    async with (
        VirtualDevices([Stick("FLASH001", image)]) as here,
        VirtualDevices([Stick("FLASH001", image)]) as there,
    ):
        [device] = await here.devices()
        with owned(await here.claim(device)) as guest:
            with pytest.raises(DeviceBusy, match=f"held by process {os.getpid()}"):
                await there.claim(device)
            await guest.give_back()

        with owned(await there.claim(device)) as guest:
            assert await guest.event() == CLAIMED


async def test_image_that_cannot_be_used_is_an_error_of_the_device(tmp_path: Path) -> None:
    async with VirtualDevices([Stick("FLASH001", tmp_path / "gone.img")]) as source:
        [device] = await source.devices()

        with pytest.raises(UsbError, match="No such file"):
            await source.claim(device)


async def test_sessions_end_with_the_source() -> None:
    async with VirtualDevices([Stick("FLASH001", IMAGE)]) as source:
        [device] = await source.devices()
        sockets = await source.claim(device)

    with owned(sockets) as guest:
        assert await guest.event() == CLAIMED
        with pytest.raises(EOFError):
            await guest.event()


async def test_guest_that_does_not_read_stops_the_stick_and_loses_nothing() -> None:
    stick = Stick("FLASH001", IMAGE)
    rounds = 4 * OUTPUT_BYTES // 65536
    async with VirtualDevices([stick]) as source:
        [device] = await source.devices()
        with owned(await source.claim(device)) as guest:
            await guest.connect()
            await read_blocks(guest, 0, 1)
            for number in range(rounds):
                command = cbw(read_10(number * 128 % 2048, 128), 65536)
                await guest.send(BulkPacket(BULK_OUT, OK, 31, data=command), 3 * number)
                await guest.send(BulkPacket(BULK_IN, OK, 65536), 3 * number + 1)
                await guest.send(BulkPacket(BULK_IN, OK, 13), 3 * number + 2)
            for _ in range(1000):  # turns of the loop, more than the stick has use for
                await asyncio.sleep(0)
            assert stick.bytes_served < rounds * 65536 / 2

            received = b""
            for number in range(rounds):
                assert (await guest.receive())[0] == 3 * number
                _, data = await guest.receive()
                assert isinstance(data, BulkPacket)
                received += data.data
                assert (await guest.receive())[0] == 3 * number + 2

    assert received == IMAGE * 4


async def test_device_with_a_latency_can_still_be_cancelled() -> None:
    async with VirtualDevices([Stick("FLASH001", IMAGE)], latency_s=3600) as source:
        [device] = await source.devices()
        with owned(await source.claim(device)) as guest:
            await guest.connect()
            await guest.send(BulkPacket(BULK_OUT, OK, 31, data=cbw(read_10(0, 1), 512)), 5)

            await guest.send(CancelDataPacket(), 5)

            assert await guest.receive() == (5, BulkPacket(BULK_OUT, Status.CANCELLED, 0))
