"""Which slots a QEMU says are taken; what it does not clearly say is unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.kubevirt.occupancy import MAX_ANSWER_BYTES, NOBODY_KNOWS, slots_taken

FOLDER = "/var/run/kubevirt-private/5b1b-11"


def chardev(slot: int, *, taken: bool, folder: str = f"{FOLDER}/") -> dict[str, Any]:
    """Return what QEMU 7.2 and 10.0 say of a slot."""
    name = f"unix:{folder}virt-usbredir-{slot},server=on"
    return {
        "label": f"charredir{slot}",
        "frontend-open": True,
        "filename": name if taken else f"disconnected:{name}",
    }


def answer(*chardevs: object) -> str:
    return json.dumps({"return": chardevs, "id": "libvirt-42"}) + "\n\n"


def test_connected_sockets_are_taken_and_others_are_free() -> None:
    others = [
        {"label": "charmonitor", "frontend-open": True, "filename": "unix:/x/m.sock,server=on"},
        {"label": "charserial0", "frontend-open": True, "filename": f"unix:{FOLDER}/virt-serial0"},
    ]
    slots = [chardev(slot, taken=slot in (1, 3)) for slot in (3, 1, 0, 2)]

    assert slots_taken(answer(*others, *slots)) == (False, True, False, True)


@pytest.mark.parametrize(
    ("filename", "taken"),
    [
        ("unix:virt-usbredir-0,server=on", True),
        ("unix:/a/virt-usbredir-0,server", True),
        ("disconnected:unix:/a/virt-usbredir-0,server", False),
        ("unix:/a/virt-usbredir-0", None),
        ("unix:/a/not-virt-usbredir-0,server=on", None),
        ("unix:/a,b/virt-usbredir-0,server=on", None),
        ("unix:/a/virt-usbredir-0,server=on\n", None),
        ("fd:30", None),
    ],
)
def test_name_of_the_socket_decides(filename: str, taken: bool | None) -> None:
    assert slots_taken(answer({"label": "charredir0", "filename": filename}))[0] is taken


def test_slot_that_is_not_there_is_unknown() -> None:
    assert slots_taken(answer(chardev(2, taken=True))) == (None, None, True, None)


def test_slot_of_which_two_things_are_said_is_unknown() -> None:
    twice = answer(chardev(0, taken=True), chardev(0, taken=False), chardev(1, taken=True))

    assert slots_taken(twice) == (None, True, None, None)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "null",
        '{"error": {"class": "GenericError", "desc": "no"}}',
        '{"return": {}}',
        answer(None, 7, [], {"filename": 7}, {"label": "x"}),
        "[" * 60_000,
        answer(chardev(0, taken=True)) + "more",
        answer(chardev(0, taken=True)) + " " * MAX_ANSWER_BYTES,
    ],
)
def test_nonsense_says_nothing(said: str) -> None:
    assert slots_taken(said) == NOBODY_KNOWS


@given(st.text())
def test_no_text_breaks_it(said: str) -> None:
    assert len(slots_taken(said)) == len(NOBODY_KNOWS)
