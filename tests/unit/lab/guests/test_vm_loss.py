"""How the simulated VM is lost where QEMU can be: docs/facts/qemu.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubectl_vmredir.errors import MigrationFailed
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import MigrationPhase
from kubectl_vmredir.lab.guests.sim import SimHypervisor
from tests.support.scripted_usb_host import POKE, TIMEOUT_S, Link
from tests.support.twins import Guest, Stage, is_pass, stage
from tests.support.virtual_clock import after, at_rest

# In 64-bit ids, bodies and all, typed from usbredirproto.h.
REJECTED = {
    "filter_filter": ("17000000 0e000000 0000000000000000 2d312c2d312c2d312c2d312c3100", "SIGSEGV"),
    "set_configuration": ("06000000 01000000 0000000000000000 01", "SIGABRT"),
    "filter_reject": ("16000000 00000000 0000000000000000", "SIGABRT"),
    "interrupt_receiving_status of endpoint 0x00": (
        "11000000 02000000 0000000000000000 0000",
        "SIGABRT",
    ),
    "bulk_receiving_status of endpoint 0x00": (
        "1b000000 06000000 0000000000000000 000000000000",
        "SIGABRT",
    ),
    "an unknown type": ("2a000000 00000000 0000000000000000", "SIGABRT"),
}
IGNORED = {
    "poke": POKE.hex(),
    "iso_stream_status": "0e000000 02000000 0000000000000000 0080",
    "control_packet with an unknown id": (
        "64000000 0a000000 1111111111111111 80 06 80 00 0000 0000 0000"
    ),
    "bulk_packet with an unknown id": "65000000 0a000000 1111111111111111 81 00 0000 00000000 0000",
    "second device_connect": "01000000 0a000000 0000000000000000 02 000000 0912 0100 0001",
}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Stage]:
    async with SimHypervisor() as hypervisor, stage(hypervisor, tmp_path) as scene:
        yield scene


async def reading(scene: Stage) -> tuple[Guest, Link]:
    """Return a guest that reads the stick, and the stick's link."""
    guest = await scene.boot()
    link = await scene.plug_in(guest)
    await guest.until(is_pass)
    return guest, link


async def end_of(guest: Guest) -> str:
    async with asyncio.timeout(TIMEOUT_S):
        return await guest.domain.wait_ended()


@pytest.mark.parametrize("name", REJECTED)
async def test_a_packet_that_qemu_may_die_of_ends_the_vm(name: str, scene: Stage) -> None:
    packet, signal = REJECTED[name]
    guest, link = await reading(scene)
    scene.stick.hold_next_read()
    await scene.stick.held()

    await link.send(bytes.fromhex(packet))

    assert signal in await end_of(guest)
    assert not any(guest.folder.glob("virt-usbredir-*"))


@pytest.mark.parametrize("name", IGNORED)
async def test_a_packet_that_qemu_ignores_changes_nothing(name: str, scene: Stage) -> None:
    guest, link = await reading(scene)
    scene.stick.hold_next_read()
    answer = await scene.stick.held()

    await link.send(bytes.fromhex(IGNORED[name]) + answer)
    scene.stick.release()

    assert await guest.until(is_pass) == ["pass right, 0 errors"]


async def test_source_link_cut_while_stopped_costs_a_target_without_client(scene: Stage) -> None:
    source, link = await reading(scene)
    target = await scene.listen()

    await move_and_cut(scene, source, target, link)
    await target.domain.resume()

    assert "SIGSEGV" in await end_of(target)


@pytest.mark.parametrize(("held_s", "lost"), [(0.2, True), (1.0, False)])
async def test_a_standby_must_be_held_until_the_guest_has_seen_the_unplug(
    scene: Stage, held_s: float, lost: bool
) -> None:
    source, link = await reading(scene)
    target = await scene.listen()
    standby = await scene.link(target)

    await move_and_cut(scene, source, target, link)
    await target.domain.resume()
    await after(held_s)
    standby.cut()
    await at_rest()

    if lost:
        assert "SIGSEGV" in await end_of(target)
    else:
        await scene.plug_in(target)
        await target.until(is_pass)


async def test_a_link_that_ended_long_before_the_stop_does_no_harm(scene: Stage) -> None:
    source, link = await reading(scene)
    target = await scene.listen()
    link.cut()
    await source.until_disconnect()
    await after(1.0)

    await scene.move(source, target)
    await target.domain.resume()
    await scene.plug_in(target)

    await target.until(is_pass)


async def test_a_device_that_is_enumerated_under_a_standby_costs_the_target(scene: Stage) -> None:
    source, target = await scene.boot(), await scene.listen()
    await connect_and_be_silent(scene, source)
    await scene.link(target)

    await scene.move(source, target)
    await target.domain.resume()

    assert "USB_STATE_DEFAULT" in await end_of(target)


async def test_a_device_that_is_enumerated_without_a_standby_is_unplugged(scene: Stage) -> None:
    source, target = await scene.boot(), await scene.listen()
    await connect_and_be_silent(scene, source)

    await scene.move(source, target)
    await target.domain.resume()
    await scene.plug_in(target)

    assert "disconnect" in await target.until(is_pass)


async def test_suffix_to_a_client_that_came_after_the_load_ends_the_vm(scene: Stage) -> None:
    source, link = await reading(scene)
    target = await scene.listen()
    scene.stick.hold_next_read()
    answer = await scene.stick.held()

    await scene.move(source, target)
    link.cut()
    late = await scene.link(target)
    await late.send(answer)
    await target.domain.resume()

    assert "SIGABRT" in await end_of(target)


async def test_an_id_left_over_from_a_failed_switchover_stalls_a_transfer(scene: Stage) -> None:
    source, link = await reading(scene)
    target = await scene.listen()
    scene.stick.hold_next_read()
    answer = await scene.stick.held()

    async def lose_target(phase: MigrationPhase) -> None:
        if phase is MigrationPhase.PRE_SWITCHOVER:
            await target.domain.destroy()

    with pytest.raises(MigrationFailed):
        await source.domain.migrate(target.domain.address, on_phase=lose_target)
    await link.send(answer)
    scene.stick.release()
    passes = [await source.until(is_pass) for _ in range(10)]

    # usb-storage gives up after its 30 s, resets the stick, and reads on without an error.
    assert passes == [["pass right, 0 errors"]] * 10
    assert "reset high-speed USB device" in console_log(source)
    assert "cancel" in scene.stick.heard


def console_log(guest: Guest) -> str:
    return (guest.folder / sockets.CONSOLE_LOG).read_text()


async def move_and_cut(scene: Stage, source: Guest, target: Guest, link: Link) -> None:
    """Migrate, and cut the source's link while the guest is stopped, before its state is saved."""

    async def cut(phase: MigrationPhase) -> None:
        if phase is MigrationPhase.PRE_SWITCHOVER:
            link.cut()
            await at_rest()

    await source.domain.migrate(target.domain.address, on_phase=cut)
    await target.domain.wait_migrated()


async def connect_and_be_silent(scene: Stage, guest: Guest) -> None:
    """Attach the stick, and never answer a request."""
    link = await scene.link(guest)
    await scene.stick.introduce(link)
    await at_rest()
