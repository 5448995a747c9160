"""Follows what the guest of a VMI prints, wherever it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from kubectl_vmredir.lab.cluster import Lab
    from kubectl_vmredir.model import VmiRef

LOOK_INTERVAL_S: Final = 0.02
"""Files do not say when they grow; this is how ``tail -f`` does it."""
_CHUNK_BYTES: Final = 1 << 16


async def follow_console(lab: Lab, ref: VmiRef) -> AsyncIterator[bytes]:
    """Yield all that the guest has printed and prints, until closed.

    Each launcher of the VMI has a log. The guest is stopped on the source before it runs on the
    target, so a log is at its end when the next one has begun.
    """
    logs: Sequence[Path] = ()
    number, offset = 0, 0
    while True:
        vmi = lab.vmi(ref) or {}
        # Folders of pods that ended stay, as those pods do.
        if len(logs) < len(vmi.get("status", {}).get("activePods", {})):
            logs = lab.console_log(ref)
        if number < len(logs):
            with logs[number].open("rb") as log:
                log.seek(offset)
                data = log.read(_CHUNK_BYTES)
            if data:
                offset += len(data)
                yield data
                continue
            if number + 1 < len(logs) and logs[number + 1].stat().st_size:
                number, offset = number + 1, 0
                continue
        await asyncio.sleep(LOOK_INTERVAL_S)
