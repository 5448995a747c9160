"""One lab for the tests of a module, all of them on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from kubectl_vmredir.lab.cluster import Lab
from tests.support.virtual_clock import patient_clock_loops


def pytest_asyncio_loop_factories() -> Mapping[str, Any]:
    return patient_clock_loops()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A lab of two nodes with simulated guests."""
    async with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab
