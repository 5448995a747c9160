"""Bell, backoff, bulkhead, heartbeat, suspend detector and slot order."""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import StreamLost
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.bulkhead import Finisher, contained
from kubectl_vmredir.service.liveness import (
    DEAD_AFTER_S,
    PING_INTERVAL_S,
    PONG_TIMEOUT_S,
    PROBE_TIMEOUT_S,
    Heartbeat,
    SuspendDetector,
)
from kubectl_vmredir.service.slot_order import ORDER_PATIENCE_S, SlotOrder
from tests.support.virtual_clock import after, at_rest


async def fail(error: Exception) -> None:
    raise error


# -- bell -------------------------------------------------------------------------------------


async def test_ring_before_the_wait_counts_and_only_once() -> None:
    loop = asyncio.get_running_loop()
    bell = Bell()
    begun = loop.time()

    bell.ring()
    bell.ring()
    await bell.wait(begun + 7)
    assert loop.time() == begun

    await bell.wait(begun + 7)
    assert loop.time() == begun + 7


# -- backoff ----------------------------------------------------------------------------------


def test_delays_double_up_to_a_limit_with_some_jitter() -> None:
    delays = list(islice(exponential_backoff(), 12))

    for delay_s, plain_s in zip(delays, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8], strict=False):
        assert plain_s <= delay_s <= plain_s * 1.25
    assert all(15 <= delay_s <= 15 * 1.25 for delay_s in delays[7:])


# -- bulkhead ---------------------------------------------------------------------------------


async def test_what_contained_work_raises_is_returned() -> None:
    bug = ZeroDivisionError("a bug")

    raised = await contained(fail(bug), name="work")

    assert raised is not None
    assert raised.exceptions == (bug,)
    assert await contained(asyncio.sleep(0), name="work") is None


async def test_finished_work_raises_errors_of_ours_as_they_are_and_bugs_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        finisher = Finisher(group)

        with pytest.raises(StreamLost, match="over"):
            await finisher.finish("one", lambda: fail(StreamLost("over")))
        with pytest.raises(ExceptionGroup):
            await finisher.finish("two", lambda: fail(ZeroDivisionError()))


async def test_work_goes_on_when_its_caller_is_cancelled_and_can_be_joined() -> None:
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(5)
        done.append("work")

    async with asyncio.TaskGroup() as group:
        finisher = Finisher(group)
        caller = group.create_task(finisher.finish("it", work), name="caller")
        await at_rest()
        caller.cancel()
        await after(1)
        assert caller.cancelled()

        await finisher.finish("it", work)
        await finisher.join("it")

    assert done == ["work"]


# -- heartbeat --------------------------------------------------------------------------------


def test_pings_are_due_in_intervals() -> None:
    heart = Heartbeat(100)

    assert heart.ping_due(100)
    assert not heart.ping_due(100)
    heart.alive()
    assert heart.next_look_at(100) == 100 + PING_INTERVAL_S
    assert heart.ping_due(100 + PING_INTERVAL_S)


def test_unanswered_ping_makes_stalled_and_then_dead() -> None:
    heart = Heartbeat(100)
    heart.ping_due(100)

    assert not heart.stalled(100 + PONG_TIMEOUT_S - 0.1)
    assert heart.stalled(100 + PONG_TIMEOUT_S)
    assert not heart.dead(100 + DEAD_AFTER_S - 0.1)
    assert heart.dead(100 + DEAD_AFTER_S)


def test_later_pings_do_not_put_off_the_end() -> None:
    heart = Heartbeat(100)
    for now in (100, 105, 110, 115):
        heart.ping_due(now)

    assert heart.dead(120)


def test_sign_of_life_ends_the_doubt() -> None:
    heart = Heartbeat(100)
    heart.ping_due(100)
    heart.alive()

    assert not heart.stalled(200)
    assert not heart.dead(200)


def test_probe_asks_at_once_and_waits_less() -> None:
    heart = Heartbeat(100)
    heart.ping_due(100)
    heart.alive()
    heart.probe(101)

    assert heart.ping_due(101)
    assert not heart.dead(101 + PROBE_TIMEOUT_S - 0.1)
    assert heart.dead(101 + PROBE_TIMEOUT_S)


# -- suspend ----------------------------------------------------------------------------------


def test_sleep_is_told_once_and_drift_is_none() -> None:
    detector = SuspendDetector(10, 100)

    assert detector.slept_s(11, 101.5) == 0
    assert detector.slept_s(12, 3602.5) == 3500
    assert detector.slept_s(13, 3603.5) == 0


# -- slot order -------------------------------------------------------------------------------


def test_lowest_slot_is_first_and_the_others_wait_their_turn() -> None:
    order = SlotOrder()
    for slot in (2, 0, 1):
        order.want(slot, 100)

    assert order.free_at(0, 100) == 100
    assert order.free_at(1, 100) == 100 + ORDER_PATIENCE_S
    assert order.free_at(2, 100) == 100 + ORDER_PATIENCE_S

    order.dialing(0)
    assert order.free_at(1, 200) is None

    order.leave(0)
    assert order.free_at(1, 101) == 101


def test_failed_dial_keeps_its_place_for_a_while() -> None:
    order = SlotOrder()
    order.want(0, 100)
    order.want(1, 100)
    order.dialing(0)
    order.dialed(0)
    order.want(0, 103)

    assert order.free_at(1, 103) == 100 + ORDER_PATIENCE_S
    assert order.free_at(1, 106) == 100 + ORDER_PATIENCE_S


def test_two_at_once_are_a_bug() -> None:
    order = SlotOrder()
    order.dialing(0)

    with pytest.raises(AssertionError, match="two redirections of one VM"):
        order.dialing(1)
