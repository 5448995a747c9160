"""What the slots of a VM may be called. Pure.

Names come from the VMI annotation ``vmredir.io/slots``; slots that it does not name keep their
default.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import SlotTaken, UsageError
from kubectl_vmredir.model import SLOT_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubectl_vmredir.model import VmiRef
    from kubectl_vmredir.service.wish import Wish

SLOTS_ANNOTATION: Final = "vmredir.io/slots"
DEFAULT_SLOTS: Final = tuple(f"usb{index}" for index in range(SLOT_COUNT))
_LONGEST_SHOWN: Final = 80
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123


def parse_slot_names(text: str) -> tuple[str, ...]:
    """Read the annotation: up to four names, in order of the index; return those of all slots.

    Raises:
        ValueError: With the reason, if these cannot be the names of slots.
    """
    return all_slot_names([name.strip() for name in text.split(",")])


def all_slot_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all slots, of which the first ones are given.

    Raises:
        ValueError: With the reason, if these cannot be the names of slots.
    """
    return checked_slot_names([*names, *DEFAULT_SLOTS[len(names) :]])


def checked_slot_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return these names of slots.

    Raises:
        ValueError: With the reason, if these cannot be the names of slots.
    """
    if len(names) > SLOT_COUNT:
        raise ValueError(f"{len(names)} names for {SLOT_COUNT} slots")
    for name in names:
        if not _LABEL.fullmatch(name):
            raise ValueError(f"{name[:_LONGEST_SHOWN]!r} is not a DNS label")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice!r} is the name of two slots")
    return tuple(names)


def check_renaming(vmi: VmiRef, names: Sequence[str], wishes: Iterable[Wish]) -> None:
    """Return if the slots of a VM can be given these names, the first ones these.

    Args:
        vmi: The VM.
        names: The names.
        wishes: All that are to be kept up: their slots must keep their names.

    Raises:
        UsageError: If these cannot be the names of slots.
        SlotTaken: If a slot that is wished for would get another name.
    """
    try:
        named = all_slot_names(names)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    for wish in wishes:
        if wish.vmi == vmi and not _has_slot(wish, named):
            raise SlotTaken(vmi, wish.slot, wish.device)


def _has_slot(wish: Wish, named: Sequence[str]) -> bool:
    if wish.slot_index is None:
        return not wish.slot or wish.slot in named
    return named[wish.slot_index] == wish.slot
