"""Redirections that wait for a person, and how they hear that one has acted."""

from __future__ import annotations

import pytest

from kubectl_vmredir.errors import Forbidden, LoginRequired, SlotsFull, VmRedirError
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.protocol.control import FilterReject
from kubectl_vmredir.protocol.packets import encode_packet
from kubectl_vmredir.service.blocked import BLOCKED_RETRY_S
from kubectl_vmredir.service.link_health import SETTLE_TIMEOUT_S
from kubectl_vmredir.service.linking import BELIEVED_AFTER_S
from tests.support.service_world import FEDORA, World
from tests.support.virtual_clock import after, at_rest

S = RedirectionState


@pytest.mark.parametrize("error", [Forbidden("no"), LoginRequired("who?"), SlotsFull(FEDORA)])
async def test_refusal_of_the_first_dial_that_a_person_must_cure_blocks(
    world: World, error: VmRedirError
) -> None:
    world.dialer.script.append(error)

    bound = await world.bind()
    await after(60)

    status = await world.status(bound)
    assert status.state is S.BLOCKED
    assert status.trouble is not None
    assert status.trouble.message == str(error)
    assert len(world.dialer.attempts) == 1


@pytest.mark.parametrize("links_before", [0, 1])
async def test_qemu_that_refuses_the_device_blocks(world: World, links_before: int) -> None:
    bound = await world.bind()
    for _ in range(links_before):
        world.link.end()
        await after(SETTLE_TIMEOUT_S + 1)
    guest = world.link.guest
    assert guest is not None

    world.link.deliver(encode_packet(FilterReject(), packet_id=0, caps=guest.caps))
    await at_rest()

    assert await world.state(bound) is S.BLOCKED
    assert (await world.status(bound)).reason == "the VM's QEMU refuses the device"
    assert not world.link.open
    assert len(world.devices.hosts) == 1


async def test_refusal_after_a_loss_that_a_person_must_cure_blocks_and_keeps_the_device(
    world: World,
) -> None:
    bound = await world.bind()
    world.dialer.script.append(Forbidden("no more"))

    world.link.end()
    await after(60)

    assert await world.state(bound) is S.BLOCKED
    assert not world.devices.hosts[0].released


async def test_blocked_by_the_cluster_goes_on_when_the_watch_is_back(world: World) -> None:
    bound = await world.bind()
    world.dialer.script.append(LoginRequired("expired"))
    world.cluster.reachable = False
    world.cluster.break_watch(LoginRequired("expired"))
    world.link.end()
    await after(10)
    assert await world.state(bound) is S.BLOCKED
    assert len(world.dialer.attempts) == 1  # nothing is dialed without news

    world.cluster.reachable = True
    world.cluster.break_watch(LoginRequired("expired"))
    await after(2)
    assert await world.state(bound) is S.BLOCKED

    world.cluster.break_watch(LoginRequired("expired"))
    await after(2)
    assert await world.state(bound) is S.CONNECTED


@pytest.mark.parametrize("error", [Forbidden("no"), LoginRequired("the plugin failed")])
async def test_blocked_by_what_is_cured_elsewhere_is_tried_again_now_and_then(
    world: World, error: VmRedirError
) -> None:
    bound = await world.bind()
    world.dialer.script += [error, error]
    world.link.end()
    await after(BLOCKED_RETRY_S)
    assert await world.state(bound) is S.BLOCKED
    assert len(world.dialer.attempts) == 2

    await after(2 * BLOCKED_RETRY_S)

    assert await world.state(bound) is S.CONNECTED
    assert len(world.dialer.attempts) == 4


async def test_login_that_expires_after_a_loss_blocks_also_while_the_watch_goes_on(
    world: World,
) -> None:
    bound = await world.bind()
    world.cluster.trouble = LoginRequired("expired")
    world.link.end()
    await after(BELIEVED_AFTER_S)
    assert await world.state(bound) is S.HOLDING  # the API server may have only just started

    await after(BELIEVED_AFTER_S)

    status = await world.status(bound)
    assert (status.state, status.reason) == (S.BLOCKED, "expired")
    world.cluster.trouble = None
    await after(BLOCKED_RETRY_S)
    assert await world.state(bound) is S.CONNECTED


async def test_login_that_is_refused_for_a_moment_only_does_not_block(world: World) -> None:
    bound = await world.bind()
    for _ in range(3):
        world.cluster.trouble = LoginRequired("starting")
        world.link.end()
        await after(BELIEVED_AFTER_S - 1)
        world.cluster.trouble = None
        await after(BELIEVED_AFTER_S)

    assert await world.state(bound) is S.CONNECTED
    assert S.BLOCKED not in await world.states(bound)


async def test_blocked_by_what_a_person_must_tell_is_not_tried_again(world: World) -> None:
    bound = await world.bind()
    guest = world.link.guest
    assert guest is not None
    world.link.deliver(encode_packet(FilterReject(), packet_id=0, caps=guest.caps))

    await after(10 * BLOCKED_RETRY_S)

    assert await world.state(bound) is S.BLOCKED
    assert len(world.dialer.attempts) == 1


async def test_user_who_may_not_watch_the_vm_is_told_so(world: World) -> None:
    world.cluster.reachable = False
    bound = await world.bind()

    world.cluster.break_watch(Forbidden("no list", hint="Ask."))
    await at_rest()

    status = await world.status(bound)
    assert status.state is S.BLOCKED
    assert status.trouble is not None
    assert (status.trouble.hint, status.trouble.exit_code) == ("Ask.", 4)
    assert world.dialer.attempts == []
    world.cluster.reachable = True
    await after(2)
    assert await world.state(bound) is S.CONNECTED
