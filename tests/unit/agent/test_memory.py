"""Memory of the agent; in a process of its own, as there is no way back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_CODE = """
from kubectl_vmredir.agent.memory import return_large_buffers
from tests.support.malloc_use import mapped_bytes
{first}
freed = bytearray(1 << 20)
del freed
before = mapped_bytes()
buffer = bytearray(256 << 10)
print(mapped_bytes() - before >= len(buffer))
"""


@pytest.mark.parametrize(("first", "apart"), [("", False), ("return_large_buffers()", True)])
def test_large_buffers_stay_apart_from_the_heap_also_when_one_was_freed(
    first: str, apart: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(first=first)],
        cwd=Path(__file__).parents[3],
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout == f"{apart}\n"
