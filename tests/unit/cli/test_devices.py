"""What the list of devices shows."""

from __future__ import annotations

import json

import pytest

from kubectl_vmredir.cli.commands.devices import DEVICES, DeviceRow
from kubectl_vmredir.model import Danger, DeviceUse, Finding, Holder, LocalDevice
from tests.support.machine_tree import local_device

CARD_READER = local_device(11)
PCSCD = Holder("pcscd", 77, "1-4:1.0", claims=True, command="sudo systemctl stop pcscd")
SOMEBODY = Holder("another user's program", None, "1-4:1.0", claims=True)


def cells(use: DeviceUse, device: LocalDevice = CARD_READER, *, title: str) -> str:
    (column,) = (column for column in DEVICES.columns if column.title == title)
    return column.text(DeviceRow(device, use))


@pytest.mark.parametrize(
    ("use", "shown"),
    [
        (DeviceUse(), ""),
        (DeviceUse(holders=(PCSCD,)), "pcscd (77)"),
        (DeviceUse(holders=(PCSCD, SOMEBODY)), "pcscd (77), another user's program"),
        (DeviceUse(redirected_by=5), "kubectl-vmredir (5)"),
    ],
)
def test_who_uses_a_device_is_shown(use: DeviceUse, shown: str) -> None:
    assert cells(use, title="USED-BY") == shown


def test_access_and_drivers_are_shown() -> None:
    use = DeviceUse(drivers=("usbhid", "", "usbfs"), openable=False)

    assert cells(use, title="ACCESS") == "no"
    assert cells(use, title="DRIVERS") == "usbhid,-,usbfs"


def test_json_has_the_fields_of_the_device_its_kind_and_its_use(
    capsys: pytest.CaptureFixture[str],
) -> None:
    finding = Finding(Danger.FORCE, "pcscd uses it", "stop it")
    use = DeviceUse(drivers=("usbfs",), holders=(PCSCD,), findings=(finding,))

    DEVICES.print([DeviceRow(CARD_READER, use)], "json")

    (item,) = json.loads(capsys.readouterr().out)["items"]
    assert (item["serial"], item["port_path"], item["kind"]) == ("S1", "1-4", "smartcard")
    assert item["use"] == {
        "drivers": ["usbfs"],
        "openable": True,
        "holders": [
            {
                "program": "pcscd",
                "pid": 77,
                "node": "1-4:1.0",
                "claims": True,
                "command": "sudo systemctl stop pcscd",
            }
        ],
        "redirected_by": None,
        "findings": [{"danger": "force", "message": "pcscd uses it", "hint": "stop it"}],
        "known": True,
    }


def test_what_is_not_known_of_a_device_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    DEVICES.print([DeviceRow(CARD_READER, DeviceUse(known=False))], None, headers=False)

    assert "port:1-4   unknown   <none>" in capsys.readouterr().out


def test_name_of_a_program_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    holder = Holder("\x1b[2Jevil\n", 77, "/dev/hidraw0", claims=False)

    DEVICES.print([DeviceRow(CARD_READER, DeviceUse(holders=(holder,)))], None, headers=False)

    out = capsys.readouterr().out
    assert "\\x1b[2Jevil\\n (77)" in out
    assert out.count("\n") == 1
