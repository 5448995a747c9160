"""What the doctor prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubectl_vmredir.cli.commands.doctor import tell
from kubectl_vmredir.cli.main import main
from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.model import Check, Outcome


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_check_is_a_line_with_its_command_below(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Check("udev", Outcome.WARNING, "udev does not run", "sudo systemctl start systemd-udevd"))
    tell(Check("bus", Outcome.OK, "2 USB buses"))

    assert capsys.readouterr().out == (
        "warning  udev: udev does not run\n"
        "         run: sudo systemctl start systemd-udevd\n"
        "ok       bus: 2 USB buses\n"
    )


def test_untrusted_text_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Check("holder", Outcome.WARNING, "\x1b[2Jprogram\n", "kill \x07"))

    assert "\\x1b[2Jprogram\\n" in (out := capsys.readouterr().out)
    assert out.count("\n") == 2
    assert "kill \\x07" in out


def test_exit_status_says_whether_something_failed(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "-o", "json"])

    listed = json.loads(capsys.readouterr().out)
    assert listed["kind"] == "CheckList"
    assert {tuple(item) for item in listed["items"]} == {("name", "outcome", "message", "command")}
    failed = any(item["outcome"] == "failed" for item in listed["items"])
    assert status == (ExitCode.FAILURE if failed else ExitCode.OK)


def test_names_of_checks_are_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "-o", "name"])

    assert {"user", "libusb", "bus", "claims"} <= set(capsys.readouterr().out.splitlines())


def test_udev_rule_is_printed_for_a_device_that_is_not_plugged_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["doctor", "--udev-rule", "1234:5678"])

    out, err = capsys.readouterr()
    assert (status, err) == (ExitCode.OK, "")
    assert 'ATTR{idVendor}=="1234", ATTR{idProduct}=="5678", TAG+="uaccess"\n' in out


@pytest.mark.parametrize(
    ("device", "status"), [("keyboard", ExitCode.USAGE), ("port:99-9", ExitCode.DEVICE)]
)
def test_udev_rule_needs_a_device(
    device: str, status: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--udev-rule", device]) == status
    assert capsys.readouterr().out == ""
