from __future__ import annotations

import pytest

from kubectl_vmredir.errors import SlotTaken, UsageError
from kubectl_vmredir.model import DeviceSelector, RedirectionId, VmiRef
from kubectl_vmredir.service.slot_names import check_renaming
from kubectl_vmredir.service.wish import Wish

FEDORA = VmiRef("demo", "fedora")


def wish(slot: str, index: int | None, vmi: VmiRef = FEDORA) -> Wish:
    device = DeviceSelector.parse("0951:1666")
    return Wish(RedirectionId("r1"), device, "a stick", vmi, slot, index)


@pytest.mark.parametrize(
    ("names", "wishes"),
    [
        (["flash", "new"], [wish("flash", 0)]),
        (["flash"], [wish("usb3", 3)]),
        (["other"], [wish("flash", 0, VmiRef("demo", "win11"))]),
        (["a", "flash"], [wish("flash", None)]),
        (["other"], [wish("", None)]),
        ([], []),
    ],
)
def test_slots_can_be_renamed_as_long_as_those_in_use_keep_their_names(
    names: list[str], wishes: list[Wish]
) -> None:
    check_renaming(FEDORA, names, wishes)


@pytest.mark.parametrize(
    ("names", "held"),
    [
        (["other"], wish("flash", 0)),
        (["new", "flash"], wish("flash", 0)),
        (["a"], wish("b", 1)),
        (["a"], wish("flash", None)),
    ],
)
def test_a_slot_in_use_is_not_renamed(names: list[str], held: Wish) -> None:
    with pytest.raises(SlotTaken, match=f"slot '{held.slot}'"):
        check_renaming(FEDORA, names, [held])


@pytest.mark.parametrize("names", [["A"], ["a", "a"], ["usb1"], ["a", "b", "c", "d", "e"], [""]])
def test_what_cannot_be_the_names_of_slots_is_refused(names: list[str]) -> None:
    with pytest.raises(UsageError):
        check_renaming(FEDORA, names, [])
