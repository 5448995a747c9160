from __future__ import annotations

from kubectl_vmredir.model import RedirectionState
from tests.support.service_world import World
from tests.support.virtual_clock import after, at_rest

S = RedirectionState


async def test_bound_device_is_claimed_dialed_and_plugged_in(world: World) -> None:
    bound = await world.bind()

    assert await world.states(bound) == [S.CLAIMING, S.DIALING, S.CONNECTED]
    assert world.link.guest is not None
    assert world.link.guest.attached


async def test_device_comes_back_on_the_node_that_the_vm_moved_to(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("target ready")
    world.link.end()
    await after(0.3)
    migration.go_to("succeeded")
    await after(5)

    assert await world.state(bound) is S.CONNECTED
    print(await world.story(bound))
    assert len(world.dialer.links) == 2
