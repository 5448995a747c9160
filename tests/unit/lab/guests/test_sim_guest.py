"""What the simulated guest makes of devices, and of clients of its console."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubectl_vmredir.lab.devices.stick import Stick
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.kernel import MAX_DISK_BYTES
from kubectl_vmredir.lab.guests.machine import Console
from kubectl_vmredir.lab.guests.report import DiskSeen, Fact, PassDone
from kubectl_vmredir.lab.guests.sim import SimHypervisor
from tests.support.scripted_usb_host import ScriptedUsbHost
from tests.support.twins import IMAGE, Stage, is_pass, stage
from tests.support.virtual_clock import at_rest


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Stage]:
    async with SimHypervisor() as hypervisor, stage(hypervisor, tmp_path) as scene:
        yield scene


async def test_two_sticks_are_two_disks(scene: Stage) -> None:
    guest = await scene.boot()
    other = ScriptedUsbHost(Stick("OTHER", IMAGE))
    seen: list[Fact] = []

    def both_read(fact: Fact) -> bool:
        seen.append(fact)
        return {f.serial for f in seen if isinstance(f, PassDone)} == {"TWIN", "OTHER"}

    await scene.plug_in(guest)
    await scene.plug_in(guest, other, slot=3)
    await guest.until(both_read)

    disks = {fact.serial: fact.name for fact in seen if isinstance(fact, DiskSeen)}
    assert disks == {"TWIN": "sda", "OTHER": "sdb"}


async def test_a_disk_with_an_odd_serial_number_is_called_by_its_port(scene: Stage) -> None:
    guest = await scene.boot()

    await scene.plug_in(guest, ScriptedUsbHost(Stick('"}\n@{"event', IMAGE)))

    facts = await guest.until(is_pass)
    assert facts == [f"disk usb1-1 {len(IMAGE)}", "pass right, 0 errors"]


async def test_a_disk_that_is_too_big_to_move_is_not_read(scene: Stage) -> None:
    guest = await scene.boot()

    await scene.plug_in(guest, ScriptedUsbHost(Stick("BIG", bytes(MAX_DISK_BYTES + 512))))

    assert await guest.until_line("too big") == []


async def test_a_stick_that_is_pulled_out_is_acknowledged(scene: Stage) -> None:
    guest = await scene.boot()
    link = await scene.plug_in(guest)
    await guest.until(is_pass)

    await scene.stick.pull_out(link)

    await guest.until_disconnect()
    await scene.stick.has_heard("device_disconnect_ack")


async def test_a_device_that_never_answers_is_given_up(scene: Stage) -> None:
    guest = await scene.boot()
    link = await scene.link(guest)

    await scene.stick.introduce(link)

    await guest.until_line("device descriptor read/64, error -110")
    await guest.until_line("unable to enumerate USB device")


async def test_a_console_client_that_does_not_read_loses_lines_and_holds_nothing_up(
    tmp_path: Path,
) -> None:
    console = Console(tmp_path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / sockets.CONSOLE))
        await at_rest()

        for number in range(10_000):
            console.write(f"line {number:0100}")

        log = (tmp_path / sockets.CONSOLE_LOG).read_bytes()
        received = await drain(client)
        console.write("after")
        rest = await drain(client)
    console.close()
    assert len(log.splitlines()) == 10_000
    assert log.startswith(received)
    assert len(received) < len(log)
    assert rest == b"after\r\n"


async def drain(client: socket.socket) -> bytes:
    client.setblocking(False)
    received = b""
    while True:
        await at_rest()
        try:
            received += client.recv(1 << 20)
        except BlockingIOError:
            return received


async def test_a_chain_of_moves_keeps_the_numbers_of_devices(scene: Stage) -> None:
    guest = await scene.boot()
    link = await scene.plug_in(guest)
    await guest.until(is_pass)
    for number in (3, 4, 5):
        target = await scene.listen()
        await scene.move(guest, target)
        link.cut()
        await target.domain.resume()
        link = await scene.plug_in(target)

        await target.until_line(f"new high-speed USB device number {number} ")
        await guest.domain.destroy()
        guest = target
