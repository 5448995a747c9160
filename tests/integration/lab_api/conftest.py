from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubectl_vmredir.lab.api.server import ApiServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer(tmp_path / "lab", dial_timeout_s=0.5) as running:
        yield running
