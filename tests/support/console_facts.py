"""What a guest of the lab's QEMU says on its console, as facts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import Domain
from kubectl_vmredir.lab.guests.report import ConsoleReader, Fact


async def facts(domain: Domain) -> AsyncGenerator[Fact, None]:
    """Yield what the guest says on its console from now on."""
    reader = ConsoleReader()
    with sockets.short_path(domain.spec.run_folder, sockets.CONSOLE) as path:
        console, writer = await asyncio.open_unix_connection(path)
    try:
        while data := await console.read(1 << 16):
            for fact in reader.feed(data):
                yield fact
    finally:
        writer.close()
        await writer.wait_closed()
