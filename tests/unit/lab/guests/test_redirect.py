"""The device model, asked by hand: which devices it lets in, and what it says when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubectl_vmredir.lab.guests.sim import SimHypervisor
from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    ENDPOINT_COUNT,
    NO_CAPS,
    Cap,
    Side,
    Status,
    TransferType,
    UsbSpeed,
    endpoint_index,
)
from kubectl_vmredir.protocol.control import DeviceDisconnect, InterruptReceivingStatus
from kubectl_vmredir.protocol.data import InterruptPacket
from kubectl_vmredir.protocol.description import (
    DeviceConnect,
    Endpoint,
    EpInfo,
    Hello,
    Interface,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.packets import Packet, encode_packet
from kubectl_vmredir.protocol.parser import Parser
from tests.support.scripted_usb_host import Link, describe
from tests.support.twins import Guest, Stage, stage
from tests.support.virtual_clock import at_rest

INTERFACES = InterfaceInfo((Interface(0, UsbClass(3, 1, 1)),))
CONNECT = DeviceConnect(UsbSpeed.FULL, 0, 0, 0, 0x1209, 2)


def endpoints(interval: int = 10) -> EpInfo:
    table = [Endpoint()] * ENDPOINT_COUNT
    table[0] = table[endpoint_index(0x80)] = Endpoint(TransferType.CONTROL)
    table[endpoint_index(0x81)] = Endpoint(TransferType.INTERRUPT, interval, 0, 8)
    return EpInfo(tuple(table))


class RawHost:
    """A usb-host that says what the test wants, and writes down what it hears."""

    def __init__(self, link: Link, caps: Cap) -> None:
        self._link = link
        self._caps = caps
        self._parser = Parser(Side.GUEST, own_caps=caps)

    async def say(self, *packets: Packet) -> None:
        for packet in packets:
            caps = NO_CAPS if isinstance(packet, Hello) else self._caps
            await self._link.send(encode_packet(packet, packet_id=0, caps=caps))

    async def heard(self) -> list[str]:
        words: list[str] = []
        await at_rest()
        while self._link.has_received():
            words += [describe(p) for _, p in self._parser.feed(await self._link.receive())]
            await at_rest()
        return words


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Stage]:
    async with SimHypervisor() as hypervisor, stage(hypervisor, tmp_path) as scene:
        yield scene


async def greeted(scene: Stage, guest: Guest, caps: Cap = ALL_CAPS) -> RawHost:
    host = RawHost(await scene.link(guest), caps)
    assert await host.heard() == ["hello"]
    await host.say(Hello("raw", caps))
    return host


async def test_a_device_is_let_in_when_all_is_told(scene: Stage) -> None:
    host = await greeted(scene, await scene.boot())

    await host.say(INTERFACES, endpoints(), CONNECT)

    assert (await host.heard())[0] == "reset"


async def test_a_device_without_interface_info_is_rejected(scene: Stage) -> None:
    host = await greeted(scene, await scene.boot())

    await host.say(CONNECT)

    assert await host.heard() == ["filter_reject"]


@pytest.mark.parametrize(
    "missing", [Cap.IDS_64BITS, Cap.BULK_LENGTH_32BITS, Cap.EP_INFO_MAX_PACKET_SIZE]
)
async def test_a_usb_host_without_the_caps_for_xhci_is_rejected(scene: Stage, missing: Cap) -> None:
    caps = ALL_CAPS & ~missing & ~Cap.BULK_STREAMS
    host = await greeted(scene, await scene.boot(), caps)

    await host.say(INTERFACES, endpoints(), CONNECT)

    assert await host.heard() == ["filter_reject"]


async def test_an_interrupt_endpoint_without_an_interval_is_rejected(scene: Stage) -> None:
    host = await greeted(scene, await scene.boot())

    await host.say(INTERFACES, endpoints(interval=0))

    assert await host.heard() == ["filter_reject"]


async def test_a_disconnect_is_acknowledged(scene: Stage) -> None:
    guest = await scene.boot()
    host = await greeted(scene, guest)
    await host.say(INTERFACES, endpoints(), CONNECT)
    await host.heard()

    await host.say(DeviceDisconnect())

    assert await host.heard() == ["device_disconnect_ack"]
    assert await guest.until_disconnect() == ["disconnect"]


async def test_what_comes_for_endpoints_that_nobody_polls_is_dropped(scene: Stage) -> None:
    guest = await scene.boot()
    host = await greeted(scene, guest)
    await host.say(INTERFACES, endpoints(), CONNECT)
    await host.heard()

    await host.say(
        InterruptPacket(0x81, Status.SUCCESS, 1, b"k"),
        InterruptPacket(0x83, Status.SUCCESS, 1, b"k"),
        InterruptReceivingStatus(Status.STALL, 0x81),
    )

    assert await host.heard() == []
    log = (guest.folder / "qemu.log").read_text()
    assert "received int packet for non interrupt endpoint 83" in log
