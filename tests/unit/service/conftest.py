from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.support import service_world
from tests.support.agent_world import through_a_socket
from tests.support.service_world import World, a_world
from tests.support.virtual_clock import virtual_clock_loops


def pytest_asyncio_loop_factories() -> Mapping[str, Any]:
    return virtual_clock_loops()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have the tests of the service interface reach the service in both ways."""
    if "world" in metafunc.fixturenames or hasattr(metafunc.module, "a_world"):
        metafunc.parametrize("reach", ["in-process", "socket"], indirect=True)


@pytest.fixture(autouse=True)
async def reach(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    if getattr(request, "param", None) != "socket":
        yield
        return
    async with through_a_socket() as way:
        monkeypatch.setattr(service_world, "reach", way)
        yield


@pytest.fixture
async def world(reach: None) -> AsyncIterator[World]:
    async with a_world() as world:
        yield world
