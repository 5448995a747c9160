"""The rules of safety (docs/migration.md), on everything that could break them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from kubectl_vmredir.errors import ClusterUnreachable
from kubectl_vmredir.model import DeviceSelector, RedirectionId, RedirectionState
from kubectl_vmredir.service.gate import (
    RULES,
    Rule,
    no_closing_in_flight,
    no_plugging_in_flight,
    nothing_unseen,
)
from kubectl_vmredir.service.interface import BindRequest, ClosingWaits
from kubectl_vmredir.service.liveness import PING_INTERVAL_S
from tests.support.fake_cluster import STEPS, running
from tests.support.fake_usb import FakeDevices, device
from tests.support.scripted_dialer import Hold
from tests.support.service_world import FEDORA, RETRY_S, World, a_world
from tests.support.virtual_clock import after, at_rest

S = RedirectionState
IN_FLIGHT = STEPS[: STEPS.index("target ready") + 1]
FIRST = RedirectionId("r1")
SECOND_STICK = DeviceSelector.parse("1234:5678:STICK2")


@dataclass(frozen=True, slots=True)
class Footprint:
    """All that we did to VMs and devices so far."""

    dials: int
    closes: int
    sent: int
    claims: int
    releases: int
    plugged_in: int

    @classmethod
    def of(cls, world: World) -> Footprint:
        links = world.dialer.links
        return cls(
            dials=len(world.dialer.attempts),
            closes=sum(link.closes for link in links),
            sent=sum(len(link.received) for link in links),
            claims=len(world.devices.hosts),
            releases=sum(host.released for host in world.devices.hosts),
            plugged_in=sum(link.guest is not None and link.guest.attached for link in links),
        )


def two_sticks() -> FakeDevices:
    return FakeDevices(device(), device("STICK2", address=5, port="1-5"))


def in_background(world: World, work: Awaitable[object], name: str) -> None:
    async def done() -> None:
        await work

    world.background.create_task(done(), name=name)


# -- what may happen at any time --------------------------------------------------------------


async def bind_another(world: World) -> None:
    await world.bind(SECOND_STICK)


async def unbind(world: World) -> None:
    in_background(world, world.service.unbind(FIRST), "unbind")


async def exit_on_a_signal(world: World) -> None:
    in_background(world, world.service.shutdown(60), "shutdown")


async def stop_waiting_for_an_unbind(world: World) -> None:
    task = world.background.create_task(world.service.unbind(FIRST), name="unbind")
    await at_rest()
    task.cancel()


async def miss_all_pongs(world: World) -> None:
    world.link.answers_pings = False


async def cancel_the_task(world: World) -> None:
    [task] = [task for task in asyncio.all_tasks() if task.get_name() == f"supervise-{FIRST}"]
    task.cancel()


async def crash_the_task(world: World) -> None:
    world.link.ping_bug = ZeroDivisionError("a bug")


async def pull_the_device_out(world: World) -> None:
    world.devices.unplug(device())
    world.devices.hosts[0].end()


async def lose_the_link(world: World) -> None:
    world.link.end()


async def break_the_protocol(world: World) -> None:
    world.link.deliver(b"\xff" * 64)


async def change_the_identity(world: World) -> None:
    world.cluster.me = type(world.cluster.me)("mallory")
    world.suspend(10)


DISTURBANCES: Sequence[Callable[[World], Awaitable[None]]] = (
    bind_another,
    unbind,
    exit_on_a_signal,
    stop_waiting_for_an_unbind,
    miss_all_pongs,
    cancel_the_task,
    crash_the_task,
    pull_the_device_out,
    break_the_protocol,
    change_the_identity,
)


async def disturbed(
    step: str, disturb: Callable[[World], Awaitable[None]], rules: Sequence[Rule] = RULES
) -> tuple[Footprint, Footprint]:
    """Hold a migration at a step, disturb, wait; return what we had done before, and after."""
    async with a_world(rules=rules, devices=two_sticks()) as world:
        await world.bind()
        await after(6)
        migration = world.migration()
        migration.go_to(step)
        await at_rest()
        before = Footprint.of(world)
        await disturb(world)
        await after(0.9 if step == "target ready" else 50)
        outcome = before, Footprint.of(world)
        migration.go_to("succeeded")
        await after(2)
        return outcome


@pytest.mark.parametrize("disturb", [*DISTURBANCES, lose_the_link])
@pytest.mark.parametrize("step", IN_FLIGHT)
async def test_nothing_is_done_to_vm_or_device_while_a_migration_is_in_flight(
    step: str, disturb: Callable[[World], Awaitable[None]]
) -> None:
    before, afterwards = await disturbed(step, disturb)

    assert afterwards == before


@pytest.mark.parametrize(
    ("rule", "disturb", "harm"),
    [
        (no_plugging_in_flight, bind_another, "dials"),
        (no_plugging_in_flight, bind_another, "plugged_in"),
        (no_plugging_in_flight, lose_the_link, "dials"),
        (no_plugging_in_flight, pull_the_device_out, "plugged_in"),
        (no_closing_in_flight, exit_on_a_signal, "closes"),
        (no_closing_in_flight, exit_on_a_signal, "releases"),
        (no_closing_in_flight, miss_all_pongs, "closes"),
        (no_closing_in_flight, break_the_protocol, "closes"),
        (no_closing_in_flight, change_the_identity, "closes"),
    ],
)
async def test_each_rule_is_needed(
    rule: Rule, disturb: Callable[[World], Awaitable[None]], harm: str
) -> None:
    rest = [other for other in RULES if other is not rule]

    before, afterwards = await disturbed("copying", disturb, rest)

    assert getattr(afterwards, harm) != getattr(before, harm)


async def test_unbind_is_harmful_without_both_rules() -> None:
    rest = [rule for rule in RULES if rule not in (no_plugging_in_flight, no_closing_in_flight)]

    before, afterwards = await disturbed("copying", unbind, rest)

    assert (before.closes, afterwards.closes) == (0, 1)


# -- and afterwards it is done ----------------------------------------------------------------


async def test_bind_in_mid_migration_says_what_it_waits_for_and_is_done_afterwards() -> None:
    async with a_world() as world:
        migration = world.migration()
        migration.go_to("copying")

        bound = await world.bind()
        assert await world.state(bound) is S.HOLDING
        assert (await world.status(bound)).reason == (
            "waiting for the migration of VM demo/fedora from node1 to node2 to end (copying)"
        )
        migration.go_to("succeeded")
        await after(1.1)

        assert await world.state(bound) is S.CONNECTED
        assert len(world.dialer.attempts) == 1


async def test_unbind_in_mid_migration_says_what_it_waits_for_and_is_done_afterwards(
    world: World,
) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    await unbind(world)
    await after(30)
    assert (await world.status(bound)).reason.startswith("unbind: waiting for the migration of")

    migration.fail()
    await at_rest()

    assert world.link.closes == 1
    assert world.devices.hosts[0].released
    assert (await world.service.snapshot()).redirections == ()


async def test_unbind_goes_on_when_its_caller_stops_waiting(world: World) -> None:
    await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    await stop_waiting_for_an_unbind(world)

    migration.fail()
    await at_rest()

    assert world.devices.hosts[0].released


async def test_unbind_without_a_link_has_nothing_to_wait_for(world: World) -> None:
    bound = await world.bind()
    world.migration().go_to("target ready")
    world.link.end()
    await at_rest()

    await world.service.unbind(bound)

    assert world.devices.hosts[0].released


async def test_silent_link_is_shown_as_stalled_and_closed_after_the_migration(
    world: World,
) -> None:
    bound = await world.bind()
    await after(0.1)
    migration = world.migration()
    migration.go_to("copying")
    await miss_all_pongs(world)
    await after(60)
    assert await world.state(bound) is S.STALLED
    assert "nothing comes back on the link; waiting for" in (await world.status(bound)).reason

    migration.fail()
    await after(RETRY_S + 0.01)

    assert world.dialer.links[0].closes == 1
    assert await world.state(bound) is S.CONNECTED


async def test_device_pulled_out_in_mid_migration_is_taken_from_the_vm_afterwards(
    world: World,
) -> None:
    bound = await world.bind()
    guest = world.link.guest
    assert guest is not None
    migration = world.migration()
    migration.go_to("copying")
    await pull_the_device_out(world)
    await after(30)
    guest.transfer(2, 7)
    world.link.flush()
    await at_rest()
    assert guest.attached
    assert not guest.requests  # it was answered: ioerror
    assert await world.state(bound) is S.MIGRATING

    migration.fail()
    await at_rest()

    assert not guest.attached
    assert await world.state(bound) is S.WAITING_DEVICE


async def test_link_that_opens_after_a_migration_appeared_stays_silent_until_it_is_over(
    world: World,
) -> None:
    hold = Hold()
    world.dialer.script.append(hold)
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    hold.go.set()
    await after(60)

    assert world.link.received == b""
    assert world.link.open
    assert "waiting for the migration" in (await world.status(bound)).reason

    migration.fail()
    await at_rest()

    assert await world.state(bound) is S.CONNECTED


async def test_without_rule_1_such_a_link_plugs_the_device_into_the_source() -> None:
    rest = [rule for rule in RULES if rule is not no_plugging_in_flight]
    async with a_world(rules=rest) as world:
        hold = Hold()
        world.dialer.script.append(hold)
        await world.bind()
        world.migration().go_to("copying")
        hold.go.set()
        await at_rest()

        assert world.link.received != b""


async def test_migration_that_begins_while_the_user_logs_in_forbids_the_dial(
    world: World,
) -> None:
    world.dialer.login_s = 50.0
    bound = await world.bind()
    await after(20)
    migration = world.migration()
    migration.go_to("copying")

    await after(60)
    assert world.dialer.attempts == []
    assert (await world.status(bound)).reason.startswith("waiting for the migration")

    world.dialer.login_s = 0.0
    migration.fail()
    await at_rest()
    assert await world.state(bound) is S.CONNECTED


async def test_loss_is_explained_also_where_it_takes_a_login_to_ask(world: World) -> None:
    bound = await world.bind()
    world.cluster.login_s = 50.0

    world.link.end()
    await after(60)

    assert await world.state(bound) is S.CONNECTED


async def test_source_that_dies_before_the_silent_link_was_used_is_followed(world: World) -> None:
    hold = Hold()
    world.dialer.script.append(hold)
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("target ready")
    hold.go.set()
    await at_rest()
    world.link.end()
    migration.go_to("succeeded")
    await after(2)

    assert await world.state(bound) is S.CONNECTED
    assert world.dialer.links[0].received == b""


async def test_lost_link_is_not_dialed_again_before_the_watch_has_told_why() -> None:
    async with a_world() as world:
        bound = await world.bind()
        world.cluster.fall_behind()
        migration = world.migration()
        migration.go_to("target ready")
        world.link.end()  # the first that we hear of the migration
        await after(10)
        assert len(world.dialer.attempts) == 1
        assert await world.state(bound) is S.HOLDING
        assert (await world.status(bound)).reason in (
            "waiting for the cluster to tell what happened",
            "trying again",
        )

        world.cluster.catch_up()
        await after(0.5)
        assert len(world.dialer.attempts) == 1
        assert await world.state(bound) is S.HANDING_OVER

        migration.go_to("succeeded")
        await after(1)
        assert await world.state(bound) is S.CONNECTED
        assert len(await world.handovers(bound)) == 1


async def test_lost_link_is_not_dialed_again_while_the_cluster_does_not_answer(
    world: World,
) -> None:
    bound = await world.bind()
    world.cluster.trouble = ClusterUnreachable("the API server is away")
    world.link.end()
    await after(10)
    assert len(world.dialer.attempts) == 1

    world.cluster.trouble = None
    await after(RETRY_S + 0.01)

    assert await world.state(bound) is S.CONNECTED


# -- tasks that end or die --------------------------------------------------------------------


@pytest.mark.parametrize("end_the_task", [cancel_the_task, crash_the_task])
async def test_death_of_the_task_leaves_device_and_link_working(
    world: World, end_the_task: Callable[[World], Awaitable[None]]
) -> None:
    await world.bind()
    guest = world.link.guest
    assert guest is not None
    await end_the_task(world)
    await after(PING_INTERVAL_S + 1)

    guest.transfer(2, 7)
    world.link.flush()
    await at_rest()
    world.devices.hosts[0].model.complete(0)
    world.devices.hosts[0].flush()
    await at_rest()

    assert not guest.requests
    assert world.link.open


async def test_bug_blocks_its_own_redirection_and_nothing_else() -> None:
    async with a_world(devices=two_sticks()) as world:
        first = await world.bind()
        first_link = world.link
        second = await world.bind(SECOND_STICK)
        first_link.ping_bug = ZeroDivisionError("a bug")
        await after(PING_INTERVAL_S + 1)

        status = await world.status(first)
        assert status.state is S.BLOCKED
        assert status.trouble is not None
        assert status.trouble.kind == "InternalError"
        assert "ZeroDivisionError('a bug')" in status.reason
        assert await world.state(second) is S.CONNECTED
        world.dialer.links[1].end()
        await after(RETRY_S + 0.01)
        assert await world.state(second) is S.CONNECTED


async def test_bug_in_a_dialer_blocks_and_keeps_the_device(world: World) -> None:
    world.dialer.bug = ZeroDivisionError("a bug")

    bound = await world.bind()

    assert await world.state(bound) is S.BLOCKED
    assert not world.devices.hosts[0].released


async def test_next_task_takes_over_session_and_link_of_one_that_died(world: World) -> None:
    bound = await world.bind()
    await crash_the_task(world)
    await after(PING_INTERVAL_S + 1)
    assert await world.state(bound) is S.BLOCKED
    world.link.ping_bug = None

    again = await world.bind()

    assert again == bound
    assert await world.state(bound) is S.CONNECTED
    assert len(world.devices.hosts) == 1
    assert len(world.dialer.links) == 1


async def test_redirection_whose_task_died_can_be_unbound(world: World) -> None:
    bound = await world.bind()
    await crash_the_task(world)
    await after(PING_INTERVAL_S + 1)

    await world.service.unbind(bound)

    assert world.link.closes == 1
    assert world.devices.hosts[0].released


async def test_dial_of_a_cancelled_task_ends_in_the_session_and_is_closed_by_unbind(
    world: World,
) -> None:
    hold = Hold()
    world.dialer.script.append(hold)
    bound = await world.bind()
    await unbind(world)
    await after(1)
    assert (await world.service.snapshot()).redirections[0].status.id == bound

    hold.go.set()
    await at_rest()

    assert world.link.closes == 1
    assert world.devices.hosts[0].released


async def test_device_lost_while_a_dead_task_still_dials_leaves_no_link_behind(
    world: World,
) -> None:
    hold = Hold()
    world.dialer.script.append(hold)
    await world.bind()
    await cancel_the_task(world)
    await pull_the_device_out(world)
    await unbind(world)
    await after(1)

    hold.go.set()
    await at_rest()

    assert [link.open for link in world.dialer.links] == [False]
    assert (await world.service.snapshot()).redirections == ()


async def test_claim_of_a_cancelled_task_is_given_back_by_unbind(world: World) -> None:
    world.devices.claims = False
    await world.bind()
    await unbind(world)
    await after(1)

    world.devices.hosts[0].say(event="claimed", drivers=[])
    await at_rest()

    assert world.devices.hosts[0].released
    assert world.dialer.attempts == []


# -- nothing is known -------------------------------------------------------------------------


async def test_nothing_is_done_while_the_watch_is_down(world: World) -> None:
    bound = await world.bind()
    world.cluster.lose_watch(ClusterUnreachable("the API server is away"))
    before = Footprint.of(world)
    await miss_all_pongs(world)
    await unbind(world)
    await after(60)

    assert Footprint.of(world) == before
    assert "(the API server is away)" in (await world.status(bound)).reason

    world.cluster.restore_watch()
    await after(0.9)
    assert Footprint.of(world) == before

    await after(0.2)
    assert world.link.closes == 1


async def test_migration_told_right_after_the_watch_is_back_keeps_the_gate_shut(
    world: World,
) -> None:
    await world.bind()
    world.cluster.lose_watch(ClusterUnreachable("the API server is away"))
    await unbind(world)
    await after(5)

    world.cluster.restore_watch()
    await after(0.5)
    world.migration().go_to("copying")
    await after(60)

    assert world.link.closes == 0


async def test_without_the_rule_of_doubt_links_are_closed_unseen() -> None:
    rest = [rule for rule in RULES if rule is not nothing_unseen]
    async with a_world(rules=rest) as world:
        await world.bind()
        world.cluster.lose_watch(ClusterUnreachable("the API server is away"))

        await unbind(world)
        await at_rest()

        assert world.link.closes == 1


# -- the end of the program -------------------------------------------------------------------


async def test_signal_waits_a_minute_for_the_gate_and_then_says_what_it_would_break(
    world: World,
) -> None:
    bound = await world.bind()
    world.migration().go_to("copying")
    await at_rest()
    begun = world.loop.time()

    async with world.service.subscribe() as changes:
        await anext(changes)
        risks = await world.service.shutdown()
        waits: list[ClosingWaits] = []
        while len(waits) < 2:
            if isinstance(change := await anext(changes), ClosingWaits):
                waits.append(change)

    assert world.loop.time() == begun + 60
    assert waits == [ClosingWaits(risks), ClosingWaits(risks)]
    [risk] = risks
    assert (risk.id, risk.vmi, risk.slot) == (bound, FEDORA, "flash")
    assert risk.waits_for.endswith("to end (copying)")
    assert "can crash the VM" in risk.harm
    assert world.link.closes == 0


async def test_signal_that_need_not_wait_ends_everything_at_once(world: World) -> None:
    await world.bind()
    begun = world.loop.time()

    risks = await world.service.shutdown()

    assert risks == ()
    assert world.loop.time() == begun
    assert world.link.closes == 1
    assert world.devices.hosts[0].released


async def test_shutdown_ends_as_soon_as_the_gate_opens(world: World) -> None:
    await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    begun = world.loop.time()
    world.loop.call_later(10, migration.fail)

    risks = await world.service.shutdown()

    assert risks == ()
    assert world.loop.time() == pytest.approx(begun + 10)


async def test_dial_under_way_is_a_risk_while_the_vm_migrates(world: World) -> None:
    hold = Hold()
    world.dialer.script.append(hold)
    await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    await at_rest()

    (risk,) = world.service.exit_risks()
    assert (risk.vmi, risk.slot) == (FEDORA, "flash")
    migration.fail()
    await at_rest()
    assert world.service.exit_risks() == ()
    hold.go.set()


async def test_what_a_shutdown_left_open_is_closed_when_the_gate_opens_later(
    world: World,
) -> None:
    await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    await world.service.shutdown(1)

    migration.fail()
    await at_rest()

    assert world.link.closes == 1
    assert world.service.exit_risks() == ()


async def test_leaving_the_context_waits_for_the_gate_and_then_ends_all_the_same() -> None:
    loop = asyncio.get_running_loop()
    async with a_world(shut_down_first=False) as world:
        await world.bind()
        world.migration().go_to("copying")
        await at_rest()
        begun = loop.time()

    assert loop.time() == begun + 60
    assert world.link.closes == 1
    assert world.devices.hosts[0].released


async def test_error_in_the_context_comes_out_of_it_as_it_is() -> None:
    with pytest.raises(ClusterUnreachable, match="the API server is away"):
        async with a_world(shut_down_first=False) as world:
            await world.bind()
            raise ClusterUnreachable("the API server is away")

    assert world.devices.hosts[0].released


async def test_error_after_a_shutdown_that_was_not_safe_waits_for_the_gate_once_more() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(ZeroDivisionError):
        async with a_world(shut_down_first=False) as world:
            await world.bind()
            world.migration().go_to("copying")
            await world.service.shutdown(1)
            begun = loop.time()
            raise ZeroDivisionError("a bug")

    assert loop.time() == begun + 60


async def test_link_that_cannot_be_closed_does_not_cut_the_wait_for_another_vm_short() -> None:
    async with a_world(running(), running("win11"), devices=two_sticks()) as world:
        await world.bind()
        world.link.close_bug = ZeroDivisionError("a bug")
        await world.bind(SECOND_STICK, running("win11").ref)
        world.migration(running("win11")).go_to("copying")
        await at_rest()

        risks = await world.service.shutdown(30)

        assert [risk.vmi for risk in risks] == [running("win11").ref]
        assert world.link.closes == 0
        world.dialer.links[0].close_bug = None


async def test_shutdown_ends_an_unbind_that_waits_with_it(world: World) -> None:
    await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    await unbind(world)
    await at_rest()

    risks = await world.service.shutdown(1)
    assert len(risks) == 1
    migration.fail()
    await at_rest()

    assert world.link.closes == 1


async def test_nothing_is_bound_any_more_once_the_service_shuts_down(world: World) -> None:
    await world.service.shutdown()

    with pytest.raises(Exception, match="shutting down"):
        await world.service.bind(BindRequest(SECOND_STICK, running().ref))
