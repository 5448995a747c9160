"""Device sessions, with real sockets to the usb-host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from kubectl_vmredir.continuity.events import (
    Effect,
    Event,
    LinkOpened,
    SendToGuest,
)
from kubectl_vmredir.continuity.machine import ContinuityMachine
from kubectl_vmredir.errors import DeviceBusy, LocalProtocolError, UsbError
from kubectl_vmredir.model import LocalDevice, RedirectionId, VmiRef, VmiUid, VmiView
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.gate import RULES, Gate, Rule, Wait, silent_until_hello
from kubectl_vmredir.service.links import HELD_BYTES, Destination
from kubectl_vmredir.service.migration import VmiFacts
from kubectl_vmredir.service.ports import UsbHostSockets
from kubectl_vmredir.service.session import BATCH_BYTES, DeviceSession
from kubectl_vmredir.service.sessions import DeviceSessions
from kubectl_vmredir.service.usbhost import (
    APPETITE_CHECK_S,
    CONTROL_LINE_BYTES,
    HOST_STUCK_S,
    LAST_WORDS_TIMEOUT_S,
)
from tests.support.fake_usb import FakeDevices, FakeUsbHost, device
from tests.support.model_host import BULK_OUT
from tests.support.scripted_dialer import FakeLink, ScriptedDialer, Silence
from tests.support.virtual_clock import after, at_rest

HOLDER = RedirectionId("r1")
REF = VmiRef("demo", "fedora")
HERE = Destination(REF, VmiUid("v1"), "node1", 0)
AT_REST = VmiFacts(certain_at=0.0, vmi=VmiView(REF, VmiUid("v1"), phase="Running", node="node1"))


@dataclass(slots=True)
class Bench:
    """A session with its device, its link, and the gate in between."""

    sessions: DeviceSessions
    session: DeviceSession
    devices: FakeDevices
    dialer: ScriptedDialer
    facts: list[VmiFacts]

    @property
    def host(self) -> FakeUsbHost:
        return self.devices.hosts[-1]

    @property
    def link(self) -> FakeLink:
        return self.dialer.links[-1]

    async def dial(self) -> None:
        await self.session.dial(self.dialer, HERE)
        await at_rest()


@asynccontextmanager
async def a_bench(
    *,
    rules: Sequence[Rule] = RULES,
    new_machine: Callable[[], ContinuityMachine] = ContinuityMachine,
) -> AsyncIterator[Bench]:
    devices = FakeDevices(device())
    facts = [AT_REST]
    gate = Gate(lambda _ref: facts[0], rules)
    try:
        async with DeviceSessions(devices, gate, new_machine=new_machine) as sessions:
            session = await sessions.claim(device(), HOLDER)
            yield Bench(sessions, session, devices, ScriptedDialer(), facts)
    finally:
        devices.end()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with a_bench() as bench:
        yield bench


# -- the usb-host -----------------------------------------------------------------------------


async def test_claimed_device_tells_which_drivers_it_was_taken_from(bench: Bench) -> None:
    assert bench.session.usb_host.drivers == ("usb-storage",)


async def test_session_that_is_held_is_the_one_that_is_claimed_again(bench: Bench) -> None:
    assert await bench.sessions.claim(device(), HOLDER) is bench.session
    assert len(bench.devices.hosts) == 1


async def test_device_of_one_redirection_is_not_given_to_another(bench: Bench) -> None:
    with pytest.raises(DeviceBusy, match="held by redirection r1"):
        await bench.sessions.claim(device(), RedirectionId("r2"))

    assert await bench.sessions.find(device(), RedirectionId("r2")) is None


async def test_close_asks_the_usb_host_to_stop_and_waits_for_it(bench: Bench) -> None:
    await bench.sessions.close(bench.session)

    assert bench.host.requests == [{"request": "stop"}]
    assert bench.host.released
    assert await bench.sessions.find(device(), HOLDER) is None


async def test_usb_host_that_does_not_stop_is_left_after_five_seconds(bench: Bench) -> None:
    bench.host.stubborn = True
    begun = asyncio.get_running_loop().time()

    await bench.sessions.close(bench.session)

    assert asyncio.get_running_loop().time() == begun + 5


async def test_message_in_pieces_is_put_together(bench: Bench) -> None:
    bench.host.say_bytes(b'{"event": "lo')
    await at_rest()
    bench.host.say_bytes(b'st", "reason": "unplugged"}\n{"event": "lost"')
    await after(LAST_WORDS_TIMEOUT_S)

    assert bench.session.lost == "unplugged"


async def test_what_a_usb_host_said_before_its_device_was_lost_still_reaches_the_guest(
    bench: Bench,
) -> None:
    await bench.dial()
    guest = bench.link.guest
    assert guest is not None
    guest.transfer(2, 1)
    bench.link.flush()
    await at_rest()
    bench.host.model.complete(0)

    bench.host.say(event="lost", reason="unplugged")
    await at_rest()
    bench.host.flush()
    await at_rest()

    assert not guest.requests
    assert bench.session.lost == ""
    bench.host.end()
    await at_rest()
    assert bench.session.lost == "unplugged"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"what?\n", "the usb-host said what is no message"),
        (b"[1]\n", "the usb-host said what is no message"),
        (b"\xff\n", "the usb-host said what is no message"),
        (b"." * (CONTROL_LINE_BYTES + 1), "the usb-host said a line without end"),
    ],
)
async def test_usb_host_that_cannot_be_understood_is_given_up(
    bench: Bench, line: bytes, reason: str
) -> None:
    bench.host.say_bytes(line)
    await at_rest()

    assert bench.session.lost == reason


async def test_messages_of_a_later_version_are_ignored(bench: Bench) -> None:
    bench.host.say(event="humidity", percent=40)
    bench.host.say(event="claimed", drivers="many")
    await at_rest()

    assert bench.session.lost == ""


async def test_error_that_the_usb_host_told_is_the_reason_of_its_end(bench: Bench) -> None:
    bench.host.say(event="error", message="LIBUSB_ERROR_IO")
    await at_rest()
    assert bench.session.lost == ""

    bench.host.end()
    await at_rest()

    assert bench.session.lost == "LIBUSB_ERROR_IO"


async def test_claim_that_hangs_is_given_up() -> None:
    class Hanging(FakeDevices):
        async def claim(self, device: LocalDevice) -> UsbHostSockets:
            await asyncio.Event().wait()
            raise AssertionError

    async with DeviceSessions(Hanging(device()), Gate(lambda _ref: AT_REST)) as sessions:
        with pytest.raises(UsbError, match="device 1234:5678 was not claimed in 30 s"):
            await sessions.claim(device(), HOLDER)


# -- links ------------------------------------------------------------------------------------


async def test_two_dials_at_once_are_one(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.session.dial(bench.dialer, HERE), name="one")
        group.create_task(bench.session.dial(bench.dialer, HERE), name="two")

    assert len(bench.dialer.links) == 1


async def test_link_to_a_device_that_was_lost_meanwhile_is_not_answered(bench: Bench) -> None:
    bench.host.end()
    await at_rest()

    await bench.dial()
    assert bench.link.received == b""
    assert await bench.session.close_link("the device is gone") is None

    assert bench.session.endpoint is None


async def test_close_that_hangs_is_taken_for_done_after_five_seconds(bench: Bench) -> None:
    await bench.dial()
    bench.link.close_hangs = True
    begun = asyncio.get_running_loop().time()

    await bench.session.close_link("enough")

    assert bench.session.endpoint is None
    assert bench.session.last_end is not None
    assert str(bench.session.last_end.cause) == "enough"
    assert asyncio.get_running_loop().time() == begun + 5


async def test_link_that_was_given_up_is_not_heard_any_more(bench: Bench) -> None:
    await bench.dial()
    given_up = bench.link
    given_up.close_hangs = True
    await bench.session.close_link("enough")
    heard = bench.session.bytes_down

    given_up.deliver(b"late")
    given_up.writable(False)
    given_up.answers_pings = True
    given_up.ping()
    given_up.end()
    await after(1)

    assert bench.session.bytes_down == heard
    assert bench.session.pongs == 0


async def test_close_without_a_link_is_nothing(bench: Bench) -> None:
    assert await bench.session.close_link("nothing") is None
    assert await bench.session.detach() is None
    bench.session.attach()
    bench.session.ping()


async def test_qemu_that_talks_on_before_it_is_answered_loses_its_link(bench: Bench) -> None:
    bench.facts[0] = VmiFacts()
    bench.dialer.script.append(Silence())
    bench.facts[0] = AT_REST
    await bench.session.dial(bench.dialer, HERE)
    bench.facts[0] = VmiFacts()  # the watch is lost: nothing is answered

    bench.link.deliver(b"x" * HELD_BYTES)
    assert bench.session.close_wanted == ""
    bench.link.deliver(b"x")

    assert bench.session.close_wanted == "the VM talks on before it is answered"
    assert bench.link.received == b""


async def test_guest_that_does_not_let_go_of_a_lost_device_is_not_waited_for_long(
    bench: Bench,
) -> None:
    await bench.dial()
    bench.link.guest = None
    begun = asyncio.get_running_loop().time()
    bench.host.end()
    await at_rest()

    assert await bench.session.detach() is None

    assert asyncio.get_running_loop().time() == begun + 3


async def test_leaving_the_context_ends_what_is_left() -> None:
    async with a_bench() as bench:
        await bench.dial()

    assert bench.link.closes == 1
    assert bench.host.released


# -- bytes ------------------------------------------------------------------------------------


async def test_usb_host_is_not_read_while_the_link_takes_no_more(bench: Bench) -> None:
    await bench.dial()
    guest = bench.link.guest
    assert guest is not None
    guest.transfer(2, 1)
    bench.link.flush()
    await at_rest()
    before = len(bench.link.received)

    bench.link.writable(False)
    bench.host.model.complete(0)
    bench.host.flush()
    await after(1)
    assert len(bench.link.received) == before

    bench.link.writable(True)
    await at_rest()
    assert len(bench.link.received) > before
    assert not guest.requests


async def test_link_is_not_read_while_the_usb_host_takes_no_more(bench: Bench) -> None:
    await bench.dial()
    guest = bench.link.guest
    assert guest is not None
    bench.host.stop_reading()
    sent = 0
    while bench.link.reading:
        sent += 1
        guest.transfer(3, sent, stamps=8000)  # to BULK_OUT
        bench.link.flush()
        assert sent < 1000, "nothing pushes back"
    bench.host.model.pending.clear()

    bench.host.go_on_reading()
    await at_rest()

    assert bench.link.reading
    assert {item.packet.endpoint for item in bench.host.model.pending} == {BULK_OUT}
    assert len(bench.host.model.pending) == sent


def ask(bench: Bench, packet_id: int) -> None:
    """Have the guest ask for something, and the usb-host find it in its socket."""
    guest = bench.link.guest
    assert guest is not None
    guest.transfer(1, packet_id, stamps=1)
    bench.link.flush()


async def test_usb_host_that_takes_nothing_any_more_is_lost_and_all_requests_with_it(
    bench: Bench,
) -> None:
    await bench.dial()
    bench.host.stop_reading()
    ask(bench, 1)

    await after(HOST_STUCK_S)
    assert bench.session.lost == ""
    ask(bench, 2)
    await after(2 * APPETITE_CHECK_S)

    assert bench.session.lost == "the usb-host has taken nothing for 30 s"
    guest = bench.link.guest
    assert guest is not None
    assert not guest.requests
    assert bench.link.open


async def test_usb_host_that_takes_what_comes_however_late_is_not_lost(bench: Bench) -> None:
    await bench.dial()
    for packet_id in range(1, 6):
        bench.host.stop_reading()
        ask(bench, packet_id)
        await after(HOST_STUCK_S - APPETITE_CHECK_S)
        bench.host.go_on_reading()
        await at_rest()

    await after(4 * HOST_STUCK_S)

    assert bench.session.lost == ""


async def test_usb_host_that_we_do_not_read_need_not_read_us(bench: Bench) -> None:
    await bench.dial()
    bench.link.writable(False)
    bench.host.stop_reading()
    ask(bench, 1)

    await after(10 * HOST_STUCK_S)
    assert bench.session.lost == ""
    bench.link.writable(True)
    await after(2 * HOST_STUCK_S)

    assert bench.session.lost != ""


async def test_session_that_is_closed_with_something_unread_looks_no_more(bench: Bench) -> None:
    await bench.dial()
    bench.host.stop_reading()
    ask(bench, 1)
    await bench.session.close_link("enough")

    await bench.sessions.close(bench.session)
    await after(2 * HOST_STUCK_S)

    assert bench.session.lost == ""


async def test_what_comes_back_while_a_link_is_written_to_waits_for_its_turn(
    bench: Bench,
) -> None:
    await bench.dial()
    guest = bench.link.guest
    assert guest is not None
    guest.transfer(2, 1)
    bench.link.flush()
    await at_rest()
    bench.link.while_sending = lambda: bench.link.writable(False)

    bench.host.model.complete(0)
    bench.host.flush()
    await at_rest()
    bench.link.while_sending = None
    bench.link.writable(True)
    await at_rest()

    assert not guest.requests
    assert bench.session.restart_wanted == ""


class Chatty(ContinuityMachine):
    """Gives out three more packets with each that the guest sends."""

    size = 10

    def guest_bytes(self, chunk: memoryview) -> Sequence[Effect] | None:
        if chunk:
            return super().guest_bytes(chunk)
        return [SendToGuest(b"x" * self.size) for _ in range(3)]


@pytest.mark.parametrize(("size", "messages"), [(10, 1), (BATCH_BYTES // 2, 3)])
async def test_small_packets_are_sent_as_one_message_and_large_ones_are_not_copied(
    size: int, messages: int
) -> None:
    class Machine(Chatty):
        pass

    Machine.size = size
    async with a_bench(new_machine=Machine) as bench:
        await bench.dial()
        before = bench.link.messages
        bench.link.guest = None

        bench.link.deliver(b"")

        assert bench.link.messages - before == messages


# -- rule 3, and bugs -------------------------------------------------------------------------


class Rude(ContinuityMachine):
    """Speaks first."""

    def handle(self, event: Event) -> Sequence[Effect]:
        effects = list(super().handle(event))
        return [*effects, SendToGuest(b"hi")] if isinstance(event, LinkOpened) else effects


async def test_byte_before_the_hello_is_not_sent_and_ends_the_session() -> None:
    async with a_bench(new_machine=Rude) as bench:
        bench.dialer.script.append(Silence())
        await bench.dial()

        assert bench.link.received == b""
        assert bench.session.restart_wanted == (
            "internal error: would speak before the hello of VM demo/fedora"
        )


async def test_without_rule_3_it_is_sent() -> None:
    rest = [rule for rule in RULES if rule is not silent_until_hello]
    async with a_bench(new_machine=Rude, rules=rest) as bench:
        bench.dialer.script.append(Silence())
        await bench.dial()

        assert bench.link.received == b"hi"


class Broken(ContinuityMachine):
    """Takes what the guest says for impossible."""

    def guest_bytes(self, chunk: memoryview) -> Sequence[Effect] | None:
        raise LocalProtocolError("guest bytes cannot be")


async def test_bug_of_the_machine_ends_the_session_and_nothing_else() -> None:
    async with a_bench(new_machine=Broken) as bench:
        await bench.dial()

        assert bench.session.restart_wanted == "internal error: guest bytes cannot be"
        assert bench.link.open


async def test_bell_of_the_borrower_rings_when_something_happens(bench: Bench) -> None:
    bell = Bell()
    bench.session.lend(bell)
    await bench.dial()
    await bell.wait()

    bench.link.end()

    await bell.wait()
    assert bench.session.last_end is not None


async def test_gate_is_asked_before_each_dial_and_close(bench: Bench) -> None:
    bench.facts[0] = VmiFacts()
    await bench.session.dial(bench.dialer, HERE)
    assert bench.dialer.attempts == []

    bench.facts[0] = AT_REST
    await bench.dial()
    bench.facts[0] = VmiFacts()

    assert isinstance(await bench.session.close_link("enough"), Wait)
    assert isinstance(await bench.session.detach(), Wait)
    assert bench.link.closes == 0
