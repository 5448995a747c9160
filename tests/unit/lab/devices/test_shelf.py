import json
import os
from pathlib import Path

import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.devices.keyboard import Keyboard
from kubectl_vmredir.lab.devices.serial_adapter import SerialAdapter
from kubectl_vmredir.lab.devices.shelf import FILE_NAME, STICK_BYTES, lab_devices
from kubectl_vmredir.lab.devices.smartcard import SmartcardReader
from kubectl_vmredir.lab.devices.stick import Stick


def test_new_lab_has_two_sticks_of_a_kind_and_one_device_of_each_other_kind(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "lab" / "devices"

    first, second, keyboard, adapter, reader = lab_devices(folder)

    assert isinstance(first, Stick)
    assert isinstance(second, Stick)
    assert isinstance(keyboard, Keyboard)
    assert isinstance(adapter, SerialAdapter)
    assert isinstance(reader, SmartcardReader)
    assert len({each.description.ids for each in (first, keyboard, adapter, reader)}) == 4
    assert first.description.ids == second.description.ids
    assert [each.description.serial for each in (first, second)] == ["FLASH001", "FLASH002"]
    assert first.acquire() is None
    assert first.medium.size == STICK_BYTES
    first.release()


def test_what_is_made_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "lab"

    lab_devices(folder)

    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert modes == {FILE_NAME: 0o600, "flash001.img": 0o600, "flash002.img": 0o600}


def test_sticks_keep_what_is_on_them(tmp_path: Path) -> None:
    [first, *_] = lab_devices(tmp_path)
    (tmp_path / "flash001.img").write_bytes(b"x" * 1024)

    [again, *_] = lab_devices(tmp_path)

    assert isinstance(again, Stick)
    assert again.acquire() is None
    assert again.medium.read(0, 9999) == b"x" * 1024
    again.release()
    assert first is not again


def test_list_of_the_user_is_obeyed(tmp_path: Path) -> None:
    (tmp_path / "my.img").write_bytes(bytes(512))
    (tmp_path / FILE_NAME).write_text(
        json.dumps([{"kind": "stick", "serial": "MINE", "image": "my.img", "read_only": True}])
    )

    [stick] = lab_devices(tmp_path)

    assert isinstance(stick, Stick)
    assert stick.description.serial == "MINE"
    assert stick.medium.read_only


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "is not JSON", id="broken"),
        pytest.param("{}", "is not a list of devices", id="no list"),
        pytest.param('[{"kind": "webcam"}]', "not a device of the lab", id="unknown kind"),
        pytest.param('[{"kind": "stick", "serial": 1}]', "not a device of the lab", id="no texts"),
        pytest.param("[null]", "not a device of the lab: null", id="nothing"),
        pytest.param(
            '[{"kind": "keyboard", "serial": "' + "x" * 200 + '"}]', "too long", id="long serial"
        ),
    ],
)
def test_list_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)

    with pytest.raises(LabError, match=message):
        lab_devices(tmp_path)


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LabError, match=r"cannot use the devices in .*file"):
        lab_devices(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]
