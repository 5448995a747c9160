from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.support.service_world import World, a_world
from tests.support.virtual_clock import virtual_clock_loops


def pytest_asyncio_loop_factories() -> Mapping[str, Any]:
    return virtual_clock_loops()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as world:
        yield world
