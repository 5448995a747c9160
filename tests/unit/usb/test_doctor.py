"""Each check of the doctor, on machines of files."""

from __future__ import annotations

import grp
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kubectl_vmredir.model import Check, Outcome
from kubectl_vmredir.usb.doctor import (
    Library,
    check_access,
    check_bus,
    check_claims,
    check_confinement,
    check_groups,
    check_holders,
    check_library,
    check_rules,
    check_udev,
    check_user,
    examine,
    group_of,
)
from kubectl_vmredir.usb.journal import Claim, Journal
from tests.support.machine_tree import MachineTree, local_device

KEY = replace(local_device(3), word="keyboard")
CLAIM = Claim(
    boot_id="boot",
    port_path="1-4",
    ids=KEY.ids,
    bus=1,
    address=4,
    configuration=1,
    interfaces=(),
    pid=4711,
)
SEAT_RULES = "usr/lib/udev/rules.d/73-seat-late.rules"
SESSION = "UID={uid}\nUSER=ann\nACTIVE={active}\nSTATE=active\nREMOTE=0\n{seat}TYPE=wayland\n"


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    return MachineTree(tmp_path)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "claims", boot_id="boot")


def outcomes(checks: list[Check]) -> list[tuple[str, Outcome]]:
    return [(check.name, check.outcome) for check in checks]


def test_root_works_and_is_discouraged() -> None:
    assert check_user(0).outcome is Outcome.WARNING
    assert check_user(1000).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ID=debian\n", "sudo apt install nothing"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "sudo apt install nothing"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "sudo dnf install nothing"),
        ("ID=gentoo\n", ""),
        ("", ""),
    ],
)
def test_library_that_is_missing_is_installed_as_the_distribution_does_it(
    machine: MachineTree, release: str, command: str
) -> None:
    packages = {"debian": "sudo apt install nothing", "fedora": "sudo dnf install nothing"}
    machine.write("etc/os-release", release)

    check = check_library(machine.tree, Library("nothing", "libnothing.so.9", packages))

    assert check == Check("nothing", Outcome.FAILED, "libnothing.so.9 cannot be loaded", command)


def test_library_that_is_there_is_named_by_its_file(machine: MachineTree) -> None:
    check = check_library(machine.tree, Library("libc", "libc.so.6", {}))

    assert check.outcome is Outcome.OK
    assert "libc.so.6" in check.message


@pytest.mark.parametrize(
    ("file", "environ", "message", "command"),
    [
        (
            ".flatpak-info",
            {"FLATPAK_ID": "org.example.App"},
            "Flatpak",
            "flatpak override --user --device=all org.example.App",
        ),
        (".flatpak-info", {"FLATPAK_ID": "$(id)"}, "Flatpak", ""),
        (None, {"SNAP_INSTANCE_NAME": "vmredir"}, "Snap", "sudo snap connect vmredir:raw-usb"),
        (None, {"SNAP_INSTANCE_NAME": "a b"}, "Snap", ""),
        ("run/.containerenv", {}, "container", "podman run --privileged"),
        (".dockerenv", {}, "container", "podman run --privileged"),
        (None, {"container": "lxc"}, "container", "podman run --privileged"),
    ],
)
def test_sandbox_is_named_with_the_way_out(
    machine: MachineTree,
    file: str | None,
    environ: Mapping[str, str],
    message: str,
    command: str,
) -> None:
    if file:
        machine.write(file, "")

    (check,) = check_confinement(machine.tree, environ)

    assert check.outcome is Outcome.WARNING
    assert message in check.message
    assert check.command.startswith(command)
    assert bool(check.command) == bool(command)


def test_machine_that_is_no_sandbox_has_nothing_to_say(machine: MachineTree) -> None:
    assert check_confinement(machine.tree, {"HOME": "/home/ann"}) == []


def test_bus_needs_devices_in_sysfs_and_nodes(machine: MachineTree) -> None:
    assert check_bus(machine.tree).outcome is Outcome.FAILED
    machine.write("sys/devices/pci/usb1/devnum", "1\n")
    machine.link("sys/bus/usb/devices/usb1", "sys/devices/pci/usb1")
    without_nodes = check_bus(machine.tree)
    assert (without_nodes.outcome, "/dev/bus/usb" in without_nodes.message) == (
        Outcome.FAILED,
        True,
    )

    machine.write("dev/bus/usb/001/001", "")

    assert check_bus(machine.tree) == Check("bus", Outcome.OK, "1 USB buses")


def test_udev_runs_if_it_can_be_controlled(machine: MachineTree) -> None:
    without = check_udev(machine.tree)
    assert without.outcome is Outcome.WARNING
    assert "nobody lets users open" in without.message  # the kernel tells us what is plugged in
    machine.write("run/udev/control", "")

    assert check_udev(machine.tree).outcome is Outcome.OK


def test_each_device_that_may_not_be_opened_is_told_with_its_rule() -> None:
    other = replace(KEY, port_path="1-5", address=5, serial='"; rm')

    checks = check_access([KEY, other], [other])

    assert outcomes(checks) == [
        ("devices", Outcome.OK),
        ("access", Outcome.OK),
        ("access", Outcome.WARNING),
    ]
    assert checks[2].command == "kubectl vmredir doctor --udev-rule port:1-5"


def test_it_fails_if_no_device_may_be_opened() -> None:
    assert outcomes(check_access([KEY], [KEY])) == [
        ("devices", Outcome.FAILED),
        ("access", Outcome.WARNING),
    ]


def test_no_device_is_no_failure() -> None:
    assert outcomes(check_access([], [])) == [("devices", Outcome.OK)]


def test_group_that_would_help_is_named() -> None:
    checks = check_groups({"plugdev", "dialout", ""}, {"dialout", "ann"})

    assert outcomes(checks) == [("groups", Outcome.OK), ("groups", Outcome.WARNING)]
    assert checks[1].command.startswith('sudo usermod --append --groups plugdev "$USER"')


def test_group_counts_if_it_may_read_and_write(machine: MachineTree) -> None:
    machine.usb()
    node = machine.root / "dev/bus/usb/001/004"
    gid = os.getegid() or next(group.gr_gid for group in grp.getgrall() if group.gr_gid)
    os.chown(node, -1, gid)

    node.chmod(0o660)
    assert group_of(machine.tree, KEY) == grp.getgrgid(gid).gr_name
    node.chmod(0o640)
    assert group_of(machine.tree, KEY) == ""


def test_device_without_a_node_has_no_group(machine: MachineTree) -> None:
    assert group_of(machine.tree, replace(KEY, node=None)) == ""
    assert group_of(machine.tree, KEY) == ""


def test_rules_of_ours_are_listed(machine: MachineTree) -> None:
    machine.write("etc/udev/rules.d/70-kubectl-vmredir-1234-5678.rules", "")
    machine.write("etc/udev/rules.d/99-other.rules", "")

    (check,) = check_rules(machine.tree, 1000, needed=False)

    assert check.message == "rules of ours: 70-kubectl-vmredir-1234-5678.rules"


@pytest.mark.parametrize(
    ("session", "outcome"),
    [
        pytest.param(
            SESSION.format(uid=1000, active=1, seat="SEAT=seat0\n"), Outcome.OK, id="at the screen"
        ),
        pytest.param(SESSION.format(uid=1000, active=1, seat=""), Outcome.WARNING, id="ssh"),
        pytest.param(
            SESSION.format(uid=1001, active=1, seat="SEAT=seat0\n"), Outcome.WARNING, id="another"
        ),
        pytest.param(
            SESSION.format(uid=1000, active=0, seat="SEAT=seat0\n"),
            Outcome.WARNING,
            id="switched away",
        ),
    ],
)
def test_uaccess_is_for_who_sits_at_the_machine(
    machine: MachineTree, session: str, outcome: Outcome
) -> None:
    machine.write(SEAT_RULES, "")
    machine.write("run/systemd/sessions/c2", session)

    assert outcomes(check_rules(machine.tree, 1000, needed=True))[1] == ("seat", outcome)


def test_without_systemd_nothing_carries_out_uaccess(machine: MachineTree) -> None:
    seat = check_rules(machine.tree, 1000, needed=True)[1]

    assert (seat.name, seat.outcome) == ("seat", Outcome.WARNING)
    assert "nothing here carries out" in seat.message


@pytest.mark.parametrize(("uid", "needed"), [(0, True), (1000, False)])
def test_seat_matters_only_to_who_may_not_open_something(
    machine: MachineTree, uid: int, needed: bool
) -> None:
    assert [check.name for check in check_rules(machine.tree, uid, needed=needed)] == ["rules"]


def test_device_that_we_redirect_is_told_with_the_process(
    machine: MachineTree, journal: Journal
) -> None:
    machine.usb()
    entry = journal.lock("1-4")
    assert entry is not None
    with entry:
        checks = check_holders(KEY, journal, root=machine.root)

    assert outcomes(checks) == [("holder", Outcome.OK)]
    assert "redirected by" in checks[0].message


def test_device_that_nobody_uses_is_not_spoken_of(machine: MachineTree, journal: Journal) -> None:
    machine.usb()

    assert check_holders(KEY, journal, root=machine.root) == []


def test_program_that_has_claimed_a_device_is_told_with_what_frees_it(
    machine: MachineTree, journal: Journal
) -> None:
    folder = machine.usb()
    machine.link(f"{folder}/1-4:1.0/driver", "sys/bus/usb/drivers/usbfs")
    machine.write("proc/77/comm", "pcscd\n")
    (machine.root / "proc/77/fd").mkdir()
    (machine.root / "proc/77/fd/9").symlink_to("/dev/bus/usb/001/004")

    assert check_holders(KEY, journal, root=machine.root) == [
        Check(
            "holder",
            Outcome.WARNING,
            "keyboard 1234:5678:S1: pcscd (process 77) has claimed it",
            "sudo systemctl stop pcscd.socket pcscd",
        )
    ]


def test_claim_that_was_left_behind_is_told_with_what_gives_it_back(journal: Journal) -> None:
    assert outcomes(check_claims(journal)) == [("claims", Outcome.OK)]
    entry = journal.lock("1-4")
    assert entry is not None
    with entry:
        entry.write(CLAIM)
        assert outcomes(check_claims(journal)) == [("claims", Outcome.OK)]

    (check,) = check_claims(journal)

    assert (check.outcome, check.command) == (Outcome.WARNING, "kubectl vmredir devices")
    assert "port:1-4" in check.message
    # The kernel has begun anew since then, and so have its drivers.
    later = Journal(journal.folder, boot_id="the next one")
    assert outcomes(check_claims(later)) == [("claims", Outcome.OK)]


def test_examination_of_a_machine_that_has_nothing_comes_to_its_end(machine: MachineTree) -> None:
    checks = examine(claims=machine.root / "claims", root=machine.root)

    names = {check.name for check in checks}
    assert names >= {"user", "libusb", "libusbredirhost", "libudev", "bus", "udev", "devices"}
    assert checks[-1].name == "claims"
    assert [check.outcome for check in checks if check.name == "bus"] == [Outcome.FAILED]
