"""Orders to a process of the tests: a line of JSON each on its stdin, and an answer on stdout."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any


async def orders() -> AsyncIterator[Any]:
    """Yield each order until stdin ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            yield json.loads(line)
    finally:
        transport.close()


def say(answer: object) -> None:
    """Answer an order, or say that there is something to say."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
