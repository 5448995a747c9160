from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.virtual_clock import virtual_clock_loops


def pytest_asyncio_loop_factories() -> Mapping[str, Any]:
    return virtual_clock_loops()
