"""The devices of a lab: a file in its folder says which there are.

``devices.json`` is written with five devices where there is none: two sticks that differ by
their serial numbers only, a keyboard, a serial adapter that echoes, and a smartcard reader with
a card. Whoever wants others edits it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.devices.keyboard import Keyboard
from kubectl_vmredir.lab.devices.serial_adapter import SerialAdapter
from kubectl_vmredir.lab.devices.smartcard import SmartcardReader
from kubectl_vmredir.lab.devices.stick import Stick

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kubectl_vmredir.lab.devices.function import Function
    from kubectl_vmredir.model import JsonValue

FILE_NAME: Final = "devices.json"
STICK_BYTES: Final = 4 << 20

_DEFAULT: Final[JsonValue] = [
    {"kind": "stick", "serial": "FLASH001", "image": "flash001.img"},
    {"kind": "stick", "serial": "FLASH002", "image": "flash002.img"},
    {"kind": "keyboard", "serial": "KEYS001"},
    {"kind": "serial", "serial": "SERIAL001"},
    {"kind": "smartcard", "serial": "CARD001"},
]


def lab_devices(folder: Path) -> Sequence[Function]:
    """Return the devices of the lab in this folder; make what is missing.

    A stick without an image gets an empty one of :data:`STICK_BYTES`.

    Raises:
        LabError: If the folder cannot be used, or its list of devices is none.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listed = _read_list(folder / FILE_NAME)
        return [_device(folder, entry) for entry in listed]
    except OSError as exc:
        raise LabError(f"cannot use the devices in {folder}: {exc.strerror}") from exc


def _read_list(path: Path) -> list[JsonValue]:
    if not path.exists():
        # Written aside and moved: another process sees no list, or a whole one.
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(_DEFAULT, indent=2) + "\n")
        aside.replace(path)
    try:
        listed = json.loads(path.read_text())
    except ValueError as exc:
        raise LabError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(listed, list):
        raise LabError(f"{path} is not a list of devices")
    return listed


def _device(folder: Path, entry: JsonValue) -> Function:
    match entry:
        case {"kind": "keyboard", "serial": str(serial)}:
            return Keyboard(serial)
        case {"kind": "serial", "serial": str(serial)}:
            return SerialAdapter(serial)
        case {"kind": "smartcard", "serial": str(serial)}:
            return SmartcardReader(serial)
        case {"kind": "stick", "serial": str(serial), "image": str(image), **options}:
            path = folder / image
            if not path.exists():
                path.touch(mode=0o600)
                os.truncate(path, STICK_BYTES)
            return Stick(serial, path, read_only=options.get("read_only") is True)
        case _:
            raise LabError(
                f"not a device of the lab: {json.dumps(entry)[:80]}",
                hint=f"See {folder / FILE_NAME}; remove it to get the default ones.",
            )
