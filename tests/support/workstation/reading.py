"""Reads a disk in the target VM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.workstation.target import Target

# Ends with the first whole pass: until the stick is back, it fails and begins again.
READ = """
set -o pipefail
for _ in {1..400}; do
    sum=$(dd if="$1" bs=1M iflag=direct status=none 2>/dev/null | sha256sum) && break
    sleep 0.05
done
echo "${sum% *}"
"""
READ_ON_AND_ON = """
while true; do
    dd if="$1" of=/dev/null bs=64k iflag=direct status=none || sleep 0.05
done >/dev/null 2>&1 &
echo $!
"""


@asynccontextmanager
async def read_on_and_on(target: Target, path: str) -> AsyncIterator[None]:
    """Have the target read a disk until the context ends, whether it is there or not."""
    pid = (await target.shell(READ_ON_AND_ON, path)).strip()
    yield
    await target.run("kill", pid)
