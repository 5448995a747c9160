"""What this machine still needs a device for: asked at bind, and before each claim."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence

import pytest

from kubectl_vmredir.errors import (
    DeviceBusy,
    DeviceNotFound,
    DevicePermissionDenied,
    DeviceUnsafe,
    RedirectionNotFound,
    UsbError,
    VmRedirError,
)
from kubectl_vmredir.model import (
    Danger,
    DeviceSelector,
    DeviceUse,
    Finding,
    HandoverKind,
    Holder,
    LocalDevice,
    RedirectionId,
    RedirectionState,
    UsbClass,
    VendorProduct,
    VmiRef,
)
from kubectl_vmredir.service.blocked import BLOCKED_RETRY_S, SETTLING_S
from kubectl_vmredir.service.interface import (
    TRIAL_S,
    BindRequest,
    Change,
    RedirectionChanged,
    RedirectionEnded,
)
from kubectl_vmredir.service.looking import LOOK_TIMEOUT_S
from kubectl_vmredir.service.ports import UsbHostSockets
from kubectl_vmredir.service.safety import STORAGE_NOTE
from kubectl_vmredir.service.story import COLD_DOUBT
from tests.support.fake_cluster import running
from tests.support.fake_usb import FakeDevices, device
from tests.support.service_world import FEDORA, RETRY_S, STICK, World, a_world
from tests.support.virtual_clock import after, at_rest

S = RedirectionState

ROOT = Finding(Danger.NEVER, "it holds the root file system")
MOUNTED = Finding(Danger.FORCE, "/mnt is mounted from it", "Unmount it:\n  umount /mnt")
KEYBOARD = Finding(Danger.ALLOW, "it is the only keyboard")
HUB_BUS = Finding(Danger.NOTE, "it shares its bus")


def used(*findings: Finding) -> DeviceUse:
    return DeviceUse(findings=findings)


async def causes(world: World, bound: RedirectionId) -> Sequence[str]:
    return [event.cause for event in await world.story(bound)]


# -- at bind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", ["", "force", "allow_keyboard"])
@pytest.mark.parametrize(
    ("finding", "by"), [(ROOT, None), (MOUNTED, "force"), (KEYBOARD, "allow_keyboard")]
)
async def test_danger_is_refused_unless_just_that_one_is_accepted(
    world: World, finding: Finding, by: str | None, accepted: str
) -> None:
    world.devices.uses[device()] = used(finding)
    force, allow_keyboard = accepted == "force", accepted == "allow_keyboard"

    if accepted == by:
        bound = await world.bind(force=force, allow_keyboard=allow_keyboard)
        assert await world.state(bound) is S.CONNECTED
        return
    with pytest.raises(DeviceUnsafe, match=finding.message) as caught:
        await world.bind(force=force, allow_keyboard=allow_keyboard)

    assert caught.value.exit_code == 5
    assert world.devices.hosts == []
    assert await world.all() == []


@pytest.mark.parametrize(
    ("findings", "last_line"),
    [
        ((MOUNTED,), "To take it all the same, add: --force"),
        ((KEYBOARD,), "To take it all the same, add: --allow keyboard"),
        ((MOUNTED, KEYBOARD), "To take it all the same, add: --force --allow keyboard"),
        ((ROOT, MOUNTED), "  umount /mnt"),
    ],
)
async def test_refusal_says_what_would_accept_it_if_something_would(
    world: World, findings: Sequence[Finding], last_line: str
) -> None:
    world.devices.uses[device()] = used(*findings)

    with pytest.raises(DeviceUnsafe) as caught:
        await world.bind()

    assert str(caught.value) == (
        "device 1234:5678 is needed here: " + "; ".join(finding.message for finding in findings)
    )
    assert (caught.value.hint or "").splitlines()[-1] == last_line


async def test_what_is_accepted_and_what_a_migration_does_to_a_disk_is_told_once(
    world: World,
) -> None:
    world.devices.uses[device()] = used(MOUNTED, HUB_BUS)

    bound = await world.bind(force=True)
    world.devices.hosts[0].end()
    await after(1)

    assert len(world.devices.hosts) == 2
    for note in (MOUNTED.message, HUB_BUS.message, STORAGE_NOTE):
        assert (await causes(world, bound)).count(note) == 1


async def test_what_a_migration_does_to_a_disk_is_not_told_of_a_keyboard() -> None:
    keyboard = dataclasses.replace(device(), classes=(UsbClass(3, 1, 1),))
    async with a_world(devices=FakeDevices(keyboard)) as world:
        bound = await world.bind()

        assert STORAGE_NOTE not in await causes(world, bound)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (DeviceUse(openable=False), DevicePermissionDenied, "permission denied"),
        (DeviceUse(redirected_by=77), DeviceBusy, "held by process 77, which redirects it"),
        (
            DeviceUse(holders=(Holder("pcscd", 9, "1-4:1.0", claims=True, command="stop it"),)),
            DeviceBusy,
            r"held by pcscd \(9\)",
        ),
        (
            DeviceUse(holders=(Holder("another user's program", None, "1-4:1.0", claims=True),)),
            DeviceBusy,
            "held by another user's program",
        ),
    ],
)
async def test_device_that_cannot_be_had_is_refused_at_once(
    world: World, use: DeviceUse, error: type[VmRedirError], message: str
) -> None:
    world.devices.uses[device()] = use

    with pytest.raises(error, match=message) as caught:
        await world.bind(force=True, allow_keyboard=True)

    assert await world.all() == []
    commands = [holder.command for holder in use.holders if holder.command]
    assert all(command in (caught.value.hint or "") for command in commands)


async def test_program_that_only_listens_is_no_holder_that_matters(world: World) -> None:
    listening = Holder("gnome-shell", 9, "/dev/hidraw0", claims=False)
    world.devices.uses[device()] = DeviceUse(holders=(listening,))

    assert await world.state(await world.bind()) is S.CONNECTED


async def test_look_that_hangs_is_given_up() -> None:
    class Hanging(FakeDevices):
        async def use(self, device: LocalDevice) -> DeviceUse:
            await asyncio.Event().wait()
            raise AssertionError

    async with a_world(devices=Hanging(device())) as world:
        begun = world.loop.time()

        with pytest.raises(UsbError, match="was not found out in 10 s"):
            await world.bind()

        assert world.loop.time() == begun + LOOK_TIMEOUT_S


async def test_use_of_a_device_is_told(world: World) -> None:
    world.devices.uses[device()] = used(MOUNTED)

    assert await world.service.device_use(device()) == used(MOUNTED)
    with pytest.raises(DeviceNotFound):
        await world.service.device_use(device("STICK9"))


# -- before each claim ------------------------------------------------------------------------


async def test_device_that_is_mounted_when_it_comes_back_is_not_claimed(world: World) -> None:
    bound = await world.bind()
    again = device(address=9)
    world.devices.uses[again] = used(MOUNTED)

    world.devices.unplug(device())
    world.devices.hosts[0].end()
    world.devices.plug(again)
    await after(1)

    status = await world.status(bound)
    assert status.state is S.BLOCKED
    assert status.trouble is not None
    assert status.trouble.kind == "DeviceUnsafe"
    assert len(world.devices.hosts) == 1


async def test_blocked_by_the_device_is_looked_at_again_when_devices_come_or_go(
    world: World,
) -> None:
    world.devices.refusal = DeviceBusy(device(), "pcscd")
    bound = await world.bind()
    await after(SETTLING_S + 1)
    assert await world.state(bound) is S.BLOCKED

    world.devices.refusal = None
    await after(1)
    assert await world.state(bound) is S.BLOCKED
    world.devices.plug(device("OTHER", address=5, port="1-5"))
    await after(RETRY_S)

    assert await world.state(bound) is S.CONNECTED


async def test_change_while_a_device_is_looked_at_is_not_missed() -> None:
    class Mounted(FakeDevices):
        async def use(self, device: LocalDevice) -> DeviceUse:
            use = await super().use(device)
            if self.uses and len(self.hosts) == 1:
                self.uses.clear()
                self.plug(another)
                await asyncio.sleep(1)
            return use

    another = device("OTHER", address=5, port="1-5")
    async with a_world(devices=Mounted(device())) as world:
        bound = await world.bind()
        world.devices.uses[device()] = used(MOUNTED)

        world.devices.hosts[0].end()
        await after(1 + 4 * RETRY_S)

        assert await world.state(bound) is S.CONNECTED


async def test_device_that_comes_and_goes_as_it_is_claimed_is_not_claimed_without_a_pause() -> None:
    class Flapping(FakeDevices):
        attempts = 0

        async def claim(self, device: LocalDevice) -> UsbHostSockets:
            self.attempts += 1
            self.unplug(device)
            self.plug(dataclasses.replace(device, address=device.address + 1))
            raise UsbError("LIBUSB_ERROR_IO")

    devices = Flapping(device())
    async with a_world(devices=devices) as world:
        await world.bind()
        await after(10 * RETRY_S)

        assert 5 <= devices.attempts <= 11


@pytest.mark.parametrize(
    ("cured_after_s", "seen_within_s"), [(1, 2), (10, 10), (1200, BLOCKED_RETRY_S + 1)]
)
async def test_blocked_by_the_device_is_looked_at_again_soon_and_then_ever_later(
    world: World, cured_after_s: float, seen_within_s: float
) -> None:
    world.devices.refusal = DevicePermissionDenied(device())
    bound = await world.bind()

    await after(cured_after_s)
    told = list(await world.story(bound))
    assert await world.state(bound) is S.BLOCKED
    world.devices.refusal = None
    await after(seen_within_s)

    assert await world.state(bound) is S.CONNECTED
    assert list(await world.story(bound))[: len(told)] == told
    assert [event.state for event in told].count(S.BLOCKED) == 1


async def test_device_that_udev_gives_us_late_is_had_without_a_hand(world: World) -> None:
    world.devices.refusal = DevicePermissionDenied(device())
    bound = await world.bind()

    world.devices.refusal = None
    await after(SETTLING_S)

    assert await world.state(bound) is S.CONNECTED


async def test_user_who_binds_again_with_force_is_heard(world: World) -> None:
    bound = await world.bind()
    world.devices.uses[device()] = used(MOUNTED)
    world.devices.hosts[0].end()
    await after(1)
    assert await world.state(bound) is S.BLOCKED

    with pytest.raises(DeviceUnsafe):
        await world.bind()
    assert await world.bind(force=True) == bound

    assert await world.state(bound) is S.CONNECTED


@pytest.mark.parametrize("serial", [None, '";$(id)\n', "STICK1"])
async def test_another_kind_of_device_in_the_same_port_is_not_taken(serial: str | None) -> None:
    stick = dataclasses.replace(device(), serial=serial)
    printer = dataclasses.replace(stick, ids=VendorProduct(0x03F0, 0x0001), address=5)
    async with a_world(devices=FakeDevices(stick)) as world:
        bound = await world.bind(DeviceSelector.parse("port:1-4"))
        assert (await world.status(bound)).device == "port:1-4"
        world.devices.unplug(stick)
        world.devices.hosts[0].end()
        world.devices.plug(printer)
        await after(1)
        assert await world.state(bound) is S.WAITING_DEVICE

        world.devices.unplug(printer)
        world.devices.plug(dataclasses.replace(stick, address=6))
        await after(1)

        assert await world.state(bound) is S.CONNECTED


async def test_device_that_vanishes_while_it_is_looked_at_is_waited_for() -> None:
    class Vanishing(FakeDevices):
        async def use(self, device: LocalDevice) -> DeviceUse:
            if len(self.hosts) == 1 and device in await self.devices():
                self.unplug(device)
            return await super().use(device)

    async with a_world(devices=Vanishing(device())) as world:
        bound = await world.bind()

        world.devices.hosts[0].end()
        await after(1)
        assert await world.state(bound) is S.WAITING_DEVICE


async def test_device_that_is_unplugged_while_it_is_claimed_is_waited_for(world: World) -> None:
    bound = await world.bind()
    world.devices.claims = False
    world.devices.hosts[0].end()
    await after(RETRY_S)
    assert await world.state(bound) is S.CLAIMING

    world.devices.unplug(device())
    world.devices.hosts[1].say(event="error", message="LIBUSB_ERROR_IO")
    world.devices.hosts[1].end()
    await after(RETRY_S)
    assert await world.state(bound) is S.WAITING_DEVICE
    world.devices.claims = True
    world.devices.plug(device(address=9))
    await after(RETRY_S)

    assert await world.state(bound) is S.CONNECTED
    assert S.BLOCKED not in await world.states(bound)


# -- the only keyboard ------------------------------------------------------------------------


async def test_only_keyboard_comes_back_unless_confirmed(world: World) -> None:
    world.devices.uses[device()] = used(KEYBOARD)
    begun = world.loop.time()

    bound = await world.bind(allow_keyboard=True)
    assert (await world.status(bound)).trial_ends == begun + TRIAL_S
    assert "the device comes back in 30 s unless you confirm" in await causes(world, bound)
    async with world.service.subscribe() as changes:
        await anext(changes)
        await after(TRIAL_S - 0.1)
        assert not world.devices.hosts[0].released
        await after(0.2)

        assert world.devices.hosts[0].released
        assert await world.all() == []
        told = [change async for change in _until_ended(changes)]
    shown = [change.status for change in told if isinstance(change, RedirectionChanged)]
    assert (shown[-1].state, shown[-1].reason) == (S.STOPPED, "not confirmed in 30 s")
    assert shown[-1].trial_ends is None


async def _until_ended(changes: AsyncIterator[Change]) -> AsyncIterator[Change]:
    while not isinstance(change := await anext(changes), RedirectionEnded):
        yield change


async def test_confirmed_keyboard_stays_also_after_a_replug(world: World) -> None:
    world.devices.uses[device()] = used(KEYBOARD)
    bound = await world.bind(allow_keyboard=True)

    await world.service.confirm(bound)
    assert (await world.status(bound)).trial_ends is None
    await after(2 * TRIAL_S)
    world.devices.hosts[0].end()
    await after(2 * TRIAL_S)

    assert await world.state(bound) is S.CONNECTED
    assert len(world.devices.hosts) == 2
    assert (await causes(world, bound)).count("confirmed: the device stays in the VM") == 1


async def test_trial_of_a_keyboard_is_one_however_often_it_is_claimed(world: World) -> None:
    world.devices.uses[device()] = used(KEYBOARD)
    await world.bind(allow_keyboard=True)
    await after(TRIAL_S - 5)

    world.devices.hosts[0].end()
    await after(5)

    assert await world.all() == []


async def test_end_of_a_trial_waits_for_the_gate(world: World) -> None:
    world.devices.uses[device()] = used(KEYBOARD)
    bound = await world.bind(allow_keyboard=True)
    migration = world.migration()
    migration.go_to("copying")

    await after(2 * TRIAL_S)
    assert world.link.closes == 0
    assert (await world.status(bound)).reason.startswith("not confirmed in 30 s: waiting for")
    with pytest.raises(RedirectionNotFound):
        await world.service.confirm(bound)
    migration.fail()
    await at_rest()

    assert world.devices.hosts[0].released
    assert await world.all() == []


async def test_keyboard_that_is_unbound_in_its_trial_is_unbound_once(world: World) -> None:
    world.devices.uses[device()] = used(KEYBOARD)
    bound = await world.bind(allow_keyboard=True)

    await world.service.unbind(bound)
    again = await world.bind(allow_keyboard=True)
    await world.service.confirm(again)
    await after(2 * TRIAL_S)

    assert await world.state(again) is S.CONNECTED


async def test_service_that_ends_does_not_wait_for_a_trial() -> None:
    async with a_world(shut_down_first=False) as world:
        world.devices.uses[device()] = used(KEYBOARD)
        await world.bind(allow_keyboard=True)
        begun = world.loop.time()

    assert world.loop.time() < begun + 1


async def test_nobody_confirms_what_is_not_there(world: World) -> None:
    with pytest.raises(RedirectionNotFound):
        await world.service.confirm(RedirectionId("r9"))


# -- plans ------------------------------------------------------------------------------------


async def test_plan_says_what_would_be_done_and_does_nothing(world: World) -> None:
    world.devices.uses[device()] = used(MOUNTED)

    plan = await world.service.plan(BindRequest(STICK, FEDORA, force=True))

    assert (plan.device, plan.use, plan.vmi) == (device(), used(MOUNTED), FEDORA)
    assert plan.slot == "flash"
    assert (plan.handover, plan.handover_doubt) == (HandoverKind.COLD, COLD_DOUBT)
    assert plan.notes == (MOUNTED.message, STORAGE_NOTE)
    assert plan.trouble is None
    assert world.devices.hosts == []
    assert await world.all() == []


@pytest.mark.parametrize(
    ("use", "slot", "kind", "planned"),
    [
        (used(MOUNTED), None, "DeviceUnsafe", ""),
        (DeviceUse(openable=False), None, "DevicePermissionDenied", "flash"),
        (DeviceUse(redirected_by=7), "key", "DeviceBusy", "key"),
        (DeviceUse(), "flsh", "SlotNotFound", ""),
    ],
)
async def test_plan_says_what_would_forbid_it(
    world: World, use: DeviceUse, slot: str | None, kind: str, planned: str
) -> None:
    world.devices.uses[device()] = use

    plan = await world.service.plan(BindRequest(STICK, FEDORA, slot))

    assert plan.trouble is not None
    assert (plan.trouble.kind, plan.slot) == (kind, planned)


@pytest.mark.parametrize(
    ("use", "slot"), [(DeviceUse(redirected_by=7), "flsh"), (used(MOUNTED), "flsh")]
)
async def test_of_two_troubles_plan_names_the_one_that_bind_does(
    world: World, use: DeviceUse, slot: str
) -> None:
    world.devices.uses[device()] = use
    request = BindRequest(STICK, FEDORA, slot)

    plan = await world.service.plan(request)
    with pytest.raises(VmRedirError) as caught:
        await world.service.bind(request)

    assert plan.trouble is not None
    assert plan.trouble.message == str(caught.value)


async def test_plan_for_a_vm_that_does_not_run_says_that_it_is_waited_for() -> None:
    async with a_world(dataclasses.replace(running(), phase="Scheduling")) as world:
        plan = await world.service.plan(BindRequest(STICK, FEDORA))

        assert (plan.trouble, plan.slot) == (None, "flash")
        assert plan.waiting_for == "VM demo/fedora, which is Scheduling"


async def test_plan_for_a_vm_that_does_not_exist_says_that_it_is_waited_for(world: World) -> None:
    nobody = VmiRef("demo", "nobody")

    any_slot = await world.service.plan(BindRequest(STICK, nobody))
    named = await world.service.plan(BindRequest(STICK, nobody, "key"))

    assert any_slot.trouble is named.trouble is None
    assert (any_slot.slot, named.slot) == ("", "key")
    assert any_slot.waiting_for == "VM demo/nobody, which does not exist"


async def test_plan_knows_what_is_bound_already(world: World) -> None:
    await world.bind()

    plan = await world.service.plan(BindRequest(STICK, FEDORA))

    assert plan.trouble is not None
    assert (plan.trouble.kind, plan.slot) == ("DeviceBusy", "key")


async def test_plan_for_what_is_blocked_is_another_try(world: World) -> None:
    world.devices.refusal = DeviceBusy(device(), "pcscd")
    await world.bind()

    plan = await world.service.plan(BindRequest(STICK, FEDORA))

    assert (plan.trouble, plan.slot) == (None, "flash")


async def test_there_is_no_plan_without_a_device(world: World) -> None:
    with pytest.raises(DeviceNotFound):
        await world.service.plan(BindRequest(DeviceSelector.parse("ffff:ffff"), FEDORA))
