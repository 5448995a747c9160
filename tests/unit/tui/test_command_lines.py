from __future__ import annotations

import dataclasses
import shlex

import pytest

from kubectl_vmredir.cli.commands.bind import command as bind_command
from kubectl_vmredir.model import DeviceSelector, VmiRef
from kubectl_vmredir.service.interface import BindRequest
from kubectl_vmredir.tui import command_lines
from kubectl_vmredir.tui.session import Session
from tests.support.scripted_service import FEDORA, RUDE, STICK, ScriptedService

SESSION = Session(ScriptedService(), "demo", flags=("--context", "the lab"), lasting=True)
OF_STICK = DeviceSelector.of(STICK)


def test_a_bind_names_device_slot_and_namespace() -> None:
    line = command_lines.bind(SESSION, BindRequest(OF_STICK, FEDORA, "flash"))

    assert line == (
        "kubectl vmredir bind 0951:1666:FLASH001 fedora/flash -n demo --context 'the lab'"
    )


def test_a_bind_of_a_window_of_its_own_is_one_in_the_foreground() -> None:
    session = dataclasses.replace(SESSION, lasting=False)

    assert "--foreground" in command_lines.bind(session, BindRequest(OF_STICK, FEDORA, "flash"))


def test_it_is_said_why_there_is_none() -> None:
    nobody = dataclasses.replace(SESSION, flags=None)

    assert "no command line of yours" in command_lines.why_none(nobody)
    assert not command_lines.why_none(SESSION)


def test_what_no_command_line_can_mean_has_none() -> None:
    session = dataclasses.replace(SESSION, flags=None)

    assert command_lines.bind(session, BindRequest(OF_STICK, FEDORA, "flash")) == ""
    assert command_lines.migrate(session, FEDORA) == ""


@pytest.mark.parametrize(
    ("request_", "flags"),
    [
        (BindRequest(OF_STICK, FEDORA, force=True), ["--force"]),
        (BindRequest(OF_STICK, FEDORA, allow_keyboard=True), ["--allow", "keyboard"]),
    ],
)
def test_consent_is_a_flag_which_the_command_knows(request_: BindRequest, flags: list[str]) -> None:
    words = shlex.split(command_lines.bind(SESSION, request_))

    assert [word for word in words if word in ("--force", "--allow", "keyboard")] == flags
    known = {name for parameter in bind_command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_a_rude_serial_is_not_in_a_command_line() -> None:
    line = command_lines.bind(SESSION, BindRequest(DeviceSelector.of(RUDE), FEDORA, "flash"))

    assert "reboot" not in line
    assert "port:1-2.4" in line


@pytest.mark.parametrize(
    "vmi",
    [
        VmiRef("demo", "$(reboot)"),
        VmiRef("a;b", "fedora"),
        VmiRef("demo", "--as=root"),
        VmiRef("demo", "a\nb"),
    ],
)
def test_there_is_no_command_line_with_a_name_that_is_none(vmi: VmiRef) -> None:
    assert command_lines.migrate(SESSION, vmi) == ""
    assert command_lines.slots(SESSION, vmi) == ""
    assert command_lines.bind(SESSION, BindRequest(OF_STICK, vmi)) == ""


def test_there_is_none_with_a_slot_that_is_no_name() -> None:
    assert command_lines.bind(SESSION, BindRequest(OF_STICK, FEDORA, "`id`")) == ""
