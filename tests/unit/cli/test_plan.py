from __future__ import annotations

import dataclasses
import json
import re

import pytest

from kubectl_vmredir.cli.plan import show
from kubectl_vmredir.model import Danger, DeviceUse, Finding, HandoverKind, Holder
from kubectl_vmredir.service.interface import BindPlan, Trouble
from tests.support.fake_usb import device
from tests.support.service_world import FEDORA

Capture = pytest.CaptureFixture[str]

USE = DeviceUse(
    drivers=("usb-storage", "", "usb-storage"),
    holders=(
        Holder("udisksd\x1b[1m", 91, "/dev/sda", claims=False),
        Holder("another user's program", None, "/dev/sda", claims=False),
    ),
    findings=(
        Finding(Danger.FORCE, "/mnt is mounted read-only", "Unmount it:\n  umount /mnt"),
        Finding(Danger.NOTE, "it shares its bus"),
    ),
)
PLAN = BindPlan(
    device(),
    USE,
    FEDORA,
    slot="flash",
    handover=HandoverKind.COLD,
    handover_doubt="the api route is slow",
    notes=("/mnt is mounted read-only", "it shares its bus", "a disk loses its cache"),
    trouble=None,
)
REFUSED = dataclasses.replace(
    PLAN, slot="", trouble=Trouble("DeviceUnsafe", "it is needed here", "Unmount it.", 5)
)


def test_plan_shows_what_is_found_and_what_will_happen(capsys: Capture) -> None:
    assert show(PLAN, None) == 0

    assert capsys.readouterr().out.splitlines() == [
        "Device         1234:5678:STICK1 (storage, ACME Stick)",
        "Driver         usb-storage",
        "Held by        udisksd\\x1b[1m (91)",
        "Held by        another user's program",
        "With --force   /mnt is mounted read-only",
        "Note           it shares its bus",
        "VM             demo/fedora, slot flash",
        "Handover       cold: the api route is slow",
        "Migration      the VM loses the device while it moves, and gets it back when the cluster "
        "leads to its new node",
        "Note           a disk loses its cache",
        "Result         it would be bound",
    ]


def test_plan_of_a_bind_that_would_be_refused_says_why_and_has_its_exit_status(
    capsys: Capture,
) -> None:
    assert show(REFUSED, None) == 5

    said = capsys.readouterr()
    assert "VM             demo/fedora\n" in said.out
    assert said.out.endswith("Result         it would be refused\n")
    assert said.err.splitlines() == ["error: it is needed here", "hint: Unmount it."]


@pytest.mark.parametrize(
    ("danger", "title"),
    [
        (Danger.NEVER, "Never"),
        (Danger.FORCE, "With --force"),
        (Danger.ALLOW, "With --allow keyboard"),
    ],
)
def test_plan_says_which_flag_accepts_what_was_found(
    danger: Danger, title: str, capsys: Capture
) -> None:
    found = DeviceUse(findings=(Finding(danger, "it is the only pointer"),))

    show(dataclasses.replace(PLAN, use=found, notes=()), None)

    rows = [re.split(" {3,}", line) for line in capsys.readouterr().out.splitlines()]
    assert [title, "it is the only pointer"] in rows


def test_plan_of_a_device_without_a_name_or_a_use_has_no_empty_lines(capsys: Capture) -> None:
    nameless = dataclasses.replace(device(), manufacturer="", product="")
    seamless = dataclasses.replace(
        PLAN,
        device=nameless,
        use=DeviceUse(),
        notes=(),
        handover=HandoverKind.SEAMLESS,
        handover_doubt="",
    )

    show(seamless, None)

    assert capsys.readouterr().out.splitlines() == [
        "Device      1234:5678:STICK1 (storage)",
        "VM          demo/fedora, slot flash",
        "Handover    seamless",
        "Migration   the VM keeps the device",
        "Result      it would be bound",
    ]


def test_plan_is_json_for_scripts(capsys: Capture) -> None:
    assert show(REFUSED, "json") == 5

    shown = json.loads(capsys.readouterr().out)
    assert (shown["apiVersion"], shown["kind"]) == ("vmredir.io/v1alpha1", "BindPlan")
    assert shown["device"]["kind"] == "storage"
    assert shown["device"]["serial"] == "STICK1"
    assert shown["vmi"] == {"namespace": "demo", "name": "fedora"}
    assert (shown["handover"], shown["slot"]) == ("cold", "")
    assert shown["use"]["findings"][0]["danger"] == "force"
    assert shown["trouble"]["exit_code"] == 5
