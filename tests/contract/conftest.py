"""The two worlds; every test runs in both, and cannot tell which it is in.

Where they differ the lab is wrong. What only one of them can do is not here: faults of the lab
that nothing real can be asked for (RST after 101, slow network, ghost slots), and of the real one
what takes minutes (continue tokens that expire, bookmarks of quiet watches) or its own
controllers (webhooks that fail while virt-api is down, servers that drain after SIGTERM).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.long_waits import LateAnswer, dial_of_hung_node
from tests.support.vms import Vm, vm
from tests.support.worlds import Kind, World, start_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from concurrent.futures import Future

    from kubectl_vmredir.k8s.client import KubeClient


@pytest.fixture(
    scope="session",
    params=[Kind.LAB, pytest.param(Kind.CLUSTER, marks=pytest.mark.cluster)],
)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A cluster that serves all tests of the session."""
    with start_world(request.param, tmp_path_factory.mktemp(str(request.param))) as started:
        yield started


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> None:
    """End the world with the last test of this folder: others have the machine to themselves."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        world = item.funcargs["world"]
        assert isinstance(world, World)
        world.end()


@pytest.fixture(scope="session")
def hung_dial(request: pytest.FixtureRequest, world: World) -> Iterator[Future[LateAnswer] | None]:
    """A dial that is answered after a minute, if a test is going to ask for it.

    It is begun by the first tests that do the API server no harm, so that nobody has to wait.
    """
    if any(item.path.stem == "test_when_time_passes" for item in request.session.items):
        with dial_of_hung_node(world) as answered:
            yield answered
    else:
        yield None


@pytest.fixture
async def admin(world: World) -> AsyncIterator[KubeClient]:
    """Our client, as somebody who may do all."""
    async with world.client() as client:
        yield client


@pytest.fixture
async def desk(world: World) -> AsyncIterator[Vm]:
    """A VM that runs, with USB slots."""
    async with vm(world) as made:
        await made.running()
        yield made
