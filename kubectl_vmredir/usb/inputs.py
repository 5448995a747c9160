"""The keyboards and pointers of this machine, of whatever bus.

Sources: Documentation/input/event-codes.rst and include/uapi/linux/input-event-codes.h of the
kernel; what a keyboard, a mouse and a touchpad are is as udev's builtin ``input_id`` has it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_vmredir.usb.tree import Tree

_INPUT: Final = "sys/class/input"
_WORD_BITS: Final = struct.calcsize("l") * 8
"""Of the bit maps below ``capabilities``: the kernel's long, as a process of our kind sees it."""

_BUS_BLUETOOTH: Final = 5  # BUS_BLUETOOTH
_TYPES_ONE_PASSWORD: Final = frozenset({0x1050})
"""Vendors of security keys that look like a whole keyboard; nobody can type on one (Yubico)."""

_ESC_TO_S: Final = 0xFFFFFFFE  # KEY_ESC (1) to KEY_S (31): what makes a keyboard a whole one
_X_AND_Y: Final = 0b11  # REL_X and REL_Y, ABS_X and ABS_Y
_BTN_MOUSE: Final = 1 << 0x110
_BTN_TOOL_PEN: Final = 1 << 0x140
_BTN_TOOL_FINGER: Final = 1 << 0x145
_BTN_TOUCH: Final = 1 << 0x14A


@dataclass(frozen=True, slots=True)
class InputDevice:
    """One input device of the kernel; a keyboard with a touchpad is two.

    Attributes:
        path: Folder in sysfs, without symbolic links.
        bluetooth: Whether it is behind a Bluetooth adapter, which sysfs does not always show.
        keyboard: Whether it has the keys of a whole keyboard.
        mouse: Whether it is a mouse, a touchpad, or what looks like one.
        touch: Whether it is a touchscreen or a pen: it points, but is no match for a mouse.
        counts: Whether somebody can work with it: uinput and security keys are for programs.
    """

    path: Path
    bluetooth: bool
    keyboard: bool
    mouse: bool
    touch: bool
    counts: bool


def input_devices(tree: Tree) -> list[InputDevice]:
    """Return all input devices of this machine."""
    return [
        _input_device(tree, f"{_INPUT}/{name}/device")
        for name in tree.names(_INPUT)
        if name.startswith("event")
    ]


def _input_device(tree: Tree, folder: str) -> InputDevice:
    keys, relative, absolute = (
        _bits(tree.attribute(f"{folder}/capabilities/{kind}")) for kind in ("key", "rel", "abs")
    )
    on_surface = absolute & _X_AND_Y == _X_AND_Y
    finger = bool(keys & _BTN_TOOL_FINGER) and not keys & _BTN_TOOL_PEN
    path = tree.real(folder)
    return InputDevice(
        path=path,
        bluetooth=_number(tree.attribute(f"{folder}/id/bustype")) == _BUS_BLUETOOTH,
        keyboard=keys & _ESC_TO_S == _ESC_TO_S,
        mouse=bool(keys & _BTN_MOUSE and relative & _X_AND_Y == _X_AND_Y)
        or (on_surface and (finger or bool(keys & _BTN_MOUSE))),
        touch=on_surface and bool(keys & (_BTN_TOUCH | _BTN_TOOL_PEN)),
        counts="/devices/virtual/input/" not in str(path)
        and _number(tree.attribute(f"{folder}/id/vendor")) not in _TYPES_ONE_PASSWORD,
    )


def only_ones(tree: Tree, device: Path) -> list[str]:
    """Return ``keyboard``, ``pointer``, both or none: what is lost without a device.

    Where it is not sure that another one can stand in, it cannot: a touchscreen is no match for a
    mouse, and what is connected by Bluetooth goes with any Bluetooth adapter.

    Args:
        tree: Where sysfs is.
        device: Folder of the USB device in sysfs, without symbolic links.
    """
    is_adapter = bool(tree.below("sys/class/bluetooth", device))
    lost: list[InputDevice] = []
    left: list[InputDevice] = []
    for found in input_devices(tree):
        if not found.counts:
            continue
        goes = device in found.path.parents or (is_adapter and found.bluetooth)
        (lost if goes else left).append(found)
    only = []
    if any(found.keyboard for found in lost) and not any(found.keyboard for found in left):
        only.append("keyboard")
    if any(found.mouse or found.touch for found in lost) and not any(f.mouse for f in left):
        only.append("pointer")
    return only


def _bits(text: str) -> int:
    """Read a bit map: hexadecimal words, the highest first."""
    bits = 0
    for word in text.split():
        bits = bits << _WORD_BITS | _number(word)
    return bits


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
