"""Which slots of a QEMU have a client, as its monitor says.

Source: QEMU, chardev/char-socket.c (qemu_chr_compute_filename, update_disconnected_filename):
``filename`` of a server without a client begins with ``disconnected:``; ``frontend-open`` is true
in both. QEMU takes one client at a time: those that wait in the socket's queue are not seen.
"""

from __future__ import annotations

import json
import re
from typing import Final

from kubectl_vmredir.model import SLOT_COUNT

MAX_ANSWER_BYTES: Final = 64 << 10
NOBODY_KNOWS: Final[tuple[None, ...]] = (None,) * SLOT_COUNT
_SOCKET: Final = re.compile(
    rf"(disconnected:)?unix:(?:[^,]*/)?virt-usbredir-([0-{SLOT_COUNT - 1}]),server(?:=on)?"
)


def slots_taken(answer: str) -> tuple[bool | None, ...]:
    """Read the answer to ``query-chardev``: for each slot whether it has a client.

    Args:
        answer: Untrusted.

    Returns:
        None for a slot of which it does not say so clearly.
    """
    if len(answer) > MAX_ANSWER_BYTES:
        return NOBODY_KNOWS
    try:
        decoded = json.loads(answer)
    except (ValueError, RecursionError):
        return NOBODY_KNOWS
    match decoded:
        case {"return": [*chardevs]}:
            said = [_read(chardev) for chardev in chardevs]
        case _:
            return NOBODY_KNOWS
    return tuple(
        _agreed({taken for found, taken in said if found == slot}) for slot in range(SLOT_COUNT)
    )


def _read(chardev: object) -> tuple[int | None, bool]:
    """Return which slot one chardev is, and whether it has a client."""
    match chardev:
        case {"filename": str(name)} if found := _SOCKET.fullmatch(name):
            return int(found[2]), found[1] is None
        case _:
            return None, False


def _agreed(answers: set[bool]) -> bool | None:
    return answers.pop() if len(answers) == 1 else None
