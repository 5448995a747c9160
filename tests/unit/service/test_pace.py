"""When a link may be dialed again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from kubectl_vmredir.errors import ClusterUnreachable
from kubectl_vmredir.model import DeviceSelector, RedirectionState
from kubectl_vmredir.service.migration import CATCH_UP_S
from kubectl_vmredir.service.pace import STABLE_AFTER_S, DialPace
from tests.support.fake_usb import FakeDevices, device
from tests.support.service_world import RETRY_S, a_world
from tests.support.virtual_clock import after

NOW = 1000.0


def doubling() -> Iterator[float]:
    return (2.0**number for number in itertools.count())


@pytest.fixture
def pace() -> DialPace:
    return DialPace(doubling)


def test_dials_that_fail_are_put_off_longer_and_longer(pace: DialPace) -> None:
    waits = []
    for _ in range(3):
        pace.failed(NOW)
        waits.append(pace.not_before - NOW)

    assert waits == [1, 2, 4]


def test_link_after_a_long_outage_is_dialed_again_soon_when_it_ends(pace: DialPace) -> None:
    for _ in range(9):
        pace.failed(NOW)

    pace.ended(NOW, lasted_s=1)

    assert pace.not_before == NOW + 1


def test_links_that_do_not_last_are_put_off_longer_and_longer(pace: DialPace) -> None:
    waits = []
    for _ in range(3):
        pace.failed(NOW)
        pace.ended(NOW, lasted_s=1)
        waits.append(pace.not_before - NOW)

    assert waits == [1, 2, 4]


def test_link_that_lasted_takes_back_what_those_before_it_have_cost(pace: DialPace) -> None:
    for _ in range(3):
        pace.ended(NOW, lasted_s=1)

    pace.ended(NOW, lasted_s=STABLE_AFTER_S + 1)

    assert pace.not_before == NOW + 1


def test_link_over_which_the_vm_never_had_the_device_is_a_dial_that_failed(
    pace: DialPace,
) -> None:
    pace.failed(NOW)

    pace.ended(NOW, lasted_s=None)

    assert pace.not_before == NOW + 2


def test_hurry_is_for_one_dial_and_a_fresh_start_for_all(pace: DialPace) -> None:
    for _ in range(3):
        pace.failed(NOW)
        pace.ended(NOW, lasted_s=1)

    pace.hurry(NOW)
    hurried = pace.not_before
    pace.ended(NOW, lasted_s=1)
    slow = pace.not_before
    pace.start_afresh(NOW)
    pace.ended(NOW, lasted_s=1)

    assert (hurried, slow, pace.not_before) == (NOW, NOW + 8, NOW + 1)


def test_dial_that_failed_is_encouraged_by_others_and_a_link_that_did_not_last_is_not(
    pace: DialPace,
) -> None:
    pace.failed(NOW)
    pace.encourage(NOW + 0.5)
    encouraged = pace.not_before
    pace.ended(NOW + 1, lasted_s=0.1)
    pace.encourage(NOW + 1.5)

    assert (encouraged, pace.not_before) == (NOW + 0.5, NOW + 2)


async def test_vm_is_dialed_as_soon_as_its_watch_is_back() -> None:
    async with a_world(backoff=lambda: itertools.repeat(60.0)) as world:
        bound = await world.bind()
        world.cluster.lose_watch(ClusterUnreachable("the connection to the API server broke"))
        world.link.end()
        await after(5)
        assert await world.state(bound) is RedirectionState.HOLDING

        world.cluster.restore_watch()
        await after(CATCH_UP_S)

        assert await world.state(bound) is RedirectionState.CONNECTED


async def test_device_is_back_as_soon_as_another_one_is_back_in_the_same_vm() -> None:
    sticks = [device(f"STICK{number}", port=f"1-{number}") for number in (1, 2)]
    async with a_world(
        devices=FakeDevices(*sticks),
        backoff=lambda: itertools.chain([RETRY_S], itertools.repeat(60.0)),
    ) as world:
        bound = [await world.bind(DeviceSelector.of(stick)) for stick in sticks]
        # Each tries twice in vain: the second one when it has waited for the first.
        world.dialer.script.extend(ClusterUnreachable("virt-api is down") for _ in range(4))
        for link in list(world.dialer.links):
            link.end()
        await after(60)
        assert {await world.state(one) for one in bound} == {RedirectionState.HOLDING}

        await after(1)

        assert {await world.state(one) for one in bound} == {RedirectionState.CONNECTED}


async def test_link_that_ends_soon_after_a_migration_is_dialed_again_at_once() -> None:
    async with a_world(
        backoff=lambda: itertools.chain([RETRY_S], itertools.repeat(60.0)),
    ) as world:
        bound = await world.bind()
        world.link.end()
        await after(RETRY_S)
        migration = world.migration()
        migration.go_to("target ready")
        world.link.end()
        migration.go_to("succeeded")
        await after(CATCH_UP_S)
        assert len(await world.handovers(bound)) == 1

        world.link.end()
        await after(RETRY_S)

        assert await world.state(bound) is RedirectionState.CONNECTED
