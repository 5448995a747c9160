"""What speaks against taking a device; each rule, and what is not known for certain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.model import Danger, Finding, Holder
from kubectl_vmredir.usb.blocks import Kept, Mount, Stacked, Swap
from kubectl_vmredir.usb.safety import findings, needed_after_all, of_kept
from tests.support.machine_tree import CONTROLLER, VIRTUAL, MachineTree, local_device

AUDIO, NET, HID, STORAGE, HUB = 1, 2, 3, 8, 9
ROUTES = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    return MachineTree(tmp_path)


def found(
    machine: MachineTree,
    folder: str,
    *classes: int,
    holders: tuple[Holder, ...] = (),
    server: tuple[str, ...] = ("192.0.2.9",),
    udisks: bool = True,
) -> list[Finding]:
    return list(
        findings(
            machine.tree,
            local_device(*classes),
            machine.real(folder),
            holders=holders,
            server_hosts=server,
            udisks=udisks,
        )
    )


def test_nothing_speaks_against_a_device_that_nobody_needs(machine: MachineTree) -> None:
    assert found(machine, machine.usb(), HID) == []


def test_hub_is_never_taken(machine: MachineTree) -> None:
    (hub,) = found(machine, machine.usb(), HUB)

    assert hub.danger is Danger.NEVER
    assert "hub" in hub.message


# -- storage --------------------------------------------------------------------------------


def test_storage_that_nobody_uses_may_be_taken(machine: MachineTree) -> None:
    assert found(machine, machine.stick(), STORAGE) == []


def test_file_system_that_is_mounted_for_writing_is_never_taken(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 8:17 / /media/user/DATA rw - vfat /dev/sdb1 rw")

    (worst,) = found(machine, folder, STORAGE)

    assert worst == Finding(
        Danger.NEVER,
        "sdb1 is mounted for writing on /media/user/DATA",
        "udisksctl unmount -b /dev/sdb1",
    )


def test_what_was_mounted_after_the_device_was_found_safe_is_seen(machine: MachineTree) -> None:
    folder = machine.real(machine.stick())
    assert needed_after_all(machine.tree, folder) is None

    machine.mount("90 28 8:17 / /media/user/DATA rw - vfat /dev/sdb1 rw")

    assert needed_after_all(machine.tree, folder) == Finding(
        Danger.NEVER,
        "sdb1 is mounted for writing on /media/user/DATA",
        "sudo umount --all-targets /dev/sdb1",
    )


def test_what_can_have_been_accepted_is_not_asked_again(machine: MachineTree) -> None:
    folder = machine.real(machine.stick())
    machine.mount("90 28 8:17 / /mnt ro - iso9660 /dev/sdb1 ro")

    assert needed_after_all(machine.tree, folder) is None


def test_device_without_disks_is_not_needed_where_mounts_cannot_be_read(tmp_path: Path) -> None:
    machine = MachineTree(tmp_path)
    folder = machine.real(machine.usb())
    machine.write("proc/self/mountinfo", "?\n")

    assert needed_after_all(machine.tree, folder) is None
    doubtful = needed_after_all(machine.tree, machine.real(machine.stick("1-5")))
    assert doubtful is not None
    assert "cannot be told" in doubtful.message


def test_without_udisks_root_has_to_unmount(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 8:17 / /mnt rw - vfat /dev/sdb1 rw")

    (worst,) = found(machine, folder, STORAGE, udisks=False)

    assert worst.hint == "sudo umount --all-targets /dev/sdb1"


def test_file_system_that_is_mounted_read_only_needs_force(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 8:17 / /mnt ro - iso9660 /dev/sdb1 ro")

    (worst,) = found(machine, folder, STORAGE)

    assert worst == Finding(
        Danger.FORCE, "sdb1 is mounted read-only on /mnt", "udisksctl unmount -b /dev/sdb1"
    )


def test_read_only_view_of_what_is_written_elsewhere_is_never_taken(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 8:17 / /mnt ro - ext4 /dev/sdb1 rw")

    assert found(machine, folder, STORAGE)[0].danger is Danger.NEVER


def test_what_only_the_first_process_has_mounted_counts(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 8:17 / /mnt rw - ext4 /dev/sdb1 rw", of="1")

    assert found(machine, folder, STORAGE)[0].message == "sdb1 is mounted for writing on /mnt"


def test_root_file_system_is_never_taken_and_no_command_unmounts_it(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.write("proc/self/mountinfo", "28 1 8:17 / / rw - ext4 /dev/sdb1 rw\n")

    root, mounted = found(machine, folder, STORAGE)

    assert root == Finding(Danger.NEVER, "the root file system is on it")
    assert (mounted.danger, mounted.hint) == (Danger.NEVER, "")


def test_stick_is_never_taken_where_the_root_may_be_on_it(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.write(
        "proc/self/mountinfo",
        "30 1 0:27 / / rw - overlay /cow rw,lowerdir=/rofs,upperdir=/cow\n"
        "32 30 8:17 / /cdrom ro,noatime - iso9660 /dev/sdb1 ro\n",
    )

    doubt, mounted = found(machine, folder, STORAGE)

    assert (doubt.danger, mounted.danger) == (Danger.NEVER, Danger.FORCE)
    assert "the root file system may be on it" in doubt.message


def test_active_swap_is_never_taken(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.swap("/dev/sdb2 partition 8388604 0 -2")

    assert found(machine, folder, STORAGE)[0] == Finding(
        Danger.NEVER, "/dev/sdb2 on it is active swap", "sudo swapoff /dev/sdb2"
    )


@pytest.mark.parametrize(
    ("uuid", "udisks", "kind", "command"),
    [
        ("CRYPT-LUKS2-1-data", True, "LUKS", "udisksctl lock -b /dev/sdb1"),
        ("CRYPT-LUKS2-1-data", False, "LUKS", "sudo cryptsetup close vg-data"),
        ("LVM-1234", True, "LVM", "sudo lvchange --activate n /dev/mapper/vg-data"),
        ("", True, "RAID", "sudo mdadm --stop /dev/dm-0"),
        ("mpath-1", True, "another block device", ""),
    ],
)
def test_block_device_that_is_part_of_another_one_is_never_taken(
    machine: MachineTree, uuid: str, udisks: bool, kind: str, command: str
) -> None:
    folder = machine.stick()
    machine.stack("dm-0", "253:0", "sdb1", uuid=uuid, mapper="vg-data")

    assert found(machine, folder, STORAGE, udisks=udisks)[0] == Finding(
        Danger.NEVER, f"sdb1 is part of {kind} (dm-0)", command
    )


def test_file_system_out_of_sight_is_never_taken(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.write("sys/fs/ext4/sdb1/errors_count", "0\n")

    assert found(machine, folder, STORAGE)[0] == Finding(
        Danger.NEVER, "sdb1 is mounted where this program cannot see it"
    )


@pytest.mark.parametrize("text", ["nonsense\n", None])
def test_storage_is_never_taken_where_the_mounts_cannot_be_read(
    machine: MachineTree, text: str | None
) -> None:
    folder = machine.stick()
    if text is None:
        (machine.root / "proc/self/mountinfo").unlink()
    else:
        machine.write("proc/self/mountinfo", text)

    (worst,) = found(machine, folder, STORAGE)

    assert worst.danger is Danger.NEVER
    assert "it cannot be told what is mounted of it" in worst.message


def test_storage_is_never_taken_where_the_swaps_cannot_be_read(machine: MachineTree) -> None:
    folder = machine.stick()
    (machine.root / "proc/swaps").unlink()
    (machine.root / "proc/swaps").mkdir()

    assert found(machine, folder, STORAGE)[0].danger is Danger.NEVER


def test_storage_is_never_taken_where_the_block_devices_cannot_be_listed(
    machine: MachineTree,
) -> None:
    folder = machine.stick()
    (machine.root / "sys/class/block").rename(machine.root / "elsewhere")

    assert found(machine, folder, STORAGE)[0].danger is Danger.NEVER


def test_kernel_without_swap_has_none(machine: MachineTree) -> None:
    folder = machine.stick()
    (machine.root / "proc/swaps").unlink()

    assert found(machine, folder, STORAGE) == []


def test_disk_of_a_device_that_calls_itself_otherwise_counts(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 8:17 / /mnt rw - vfat /dev/sdb1 rw")

    (worst,) = found(machine, folder, 0xFF)

    assert worst.danger is Danger.NEVER


def test_many_places_of_one_file_system_are_one_finding(machine: MachineTree) -> None:
    folder = machine.stick()
    for name in "edcba":
        machine.mount(f"90 28 8:17 / /mnt/{name} rw - ext4 /dev/sdb1 rw")

    (worst,) = found(machine, folder, STORAGE)

    assert worst.message.endswith("on /mnt/a, /mnt/b, /mnt/c and 2 more")


# -- network --------------------------------------------------------------------------------


def nic(machine: MachineTree, name: str = "enx1") -> str:
    folder = machine.usb()
    machine.net(name, f"{folder}/1-4:1.0")
    machine.net("eth0", f"{CONTROLLER}")
    machine.net("lo", VIRTUAL)
    machine.net("tun0", VIRTUAL)
    return folder


def ipv6_routes(machine: MachineTree, **ways: str) -> None:
    """Route these networks (`default`, or the text of one) through these interfaces."""
    none = "0" * 32
    networks = {"default": f"{none} 00", "servers": "20010db8000000000000000000000000 20"}
    networks |= {"link_local": "fe800000000000000000000000000000 40"}
    machine.write("proc/net/route", ROUTES)
    machine.write(
        "proc/net/ipv6_route",
        "".join(
            f"{networks[name]} {none} 00 {none} 00000100 00000001 00000000 00000001 {interface}\n"
            for name, interface in ways.items()
        ),
    )


SERVER = ("2001:db8::9",)


def test_nic_that_the_api_server_is_reached_through_needs_force(machine: MachineTree) -> None:
    folder = nic(machine)
    ipv6_routes(machine, default="eth0", servers="enx1")

    assert found(machine, folder, NET, server=SERVER) == [
        Finding(Danger.FORCE, "the API server is reached through it (enx1)")
    ]


def test_nic_below_the_bridge_of_that_way_needs_force(machine: MachineTree) -> None:
    folder = nic(machine)
    machine.net("br0", VIRTUAL)
    machine.put_above("br0", "enx1")
    ipv6_routes(machine, default="br0")

    assert [finding.danger for finding in found(machine, folder, NET, server=SERVER)] == [
        Danger.FORCE
    ]


def test_nic_that_is_not_on_the_way_may_be_taken(machine: MachineTree) -> None:
    folder = nic(machine)
    ipv6_routes(machine, default="enx1", servers="eth0")

    assert found(machine, folder, NET, server=SERVER) == []


def test_nic_without_routes_may_be_taken_whatever_is_known(machine: MachineTree) -> None:
    folder = nic(machine)
    ipv6_routes(machine, link_local="enx1", default="eth0")

    assert found(machine, folder, NET, server=()) == []


@pytest.mark.parametrize(
    ("server", "ways", "doubt"),
    [
        pytest.param((), {"default": "enx1"}, "not known which one", id="no server named"),
        pytest.param(
            (f"{'a' * 64}.example",), {"default": "enx1"}, "address of a", id="name without address"
        ),
        pytest.param(("2001:db9::9",), {"servers": "enx1"}, "no route to", id="no route"),
        pytest.param(("127.0.0.1",), {"default": "enx1"}, "through lo", id="tunnel of ssh"),
        pytest.param(
            SERVER, {"default": "enx1", "servers": "lo"}, "through lo", id="this machine's proxy"
        ),
        pytest.param(SERVER, {"default": "enx1", "servers": "tun0"}, "through tun0", id="VPN"),
    ],
)
def test_nic_with_routes_needs_force_where_the_way_is_not_certain(
    machine: MachineTree, server: tuple[str, ...], ways: dict[str, str], doubt: str
) -> None:
    folder = nic(machine)
    ipv6_routes(machine, **ways)

    (finding,) = found(machine, folder, NET, server=server)

    assert finding.danger is Danger.FORCE
    assert "the API server may be reached through it (enx1)" in finding.message
    assert doubt in finding.message


def test_nic_needs_force_where_the_routes_cannot_be_read(machine: MachineTree) -> None:
    folder = nic(machine)
    machine.write("proc/net/route", f"{ROUTES}nonsense\n")

    (finding,) = found(machine, folder, NET, server=SERVER)

    assert finding.danger is Danger.FORCE
    assert "cannot be read" in finding.message


def test_kernel_without_ipv6_has_no_routes_of_it(machine: MachineTree) -> None:
    folder = nic(machine)
    machine.write("proc/net/route", ROUTES)

    assert found(machine, folder, NET, server=SERVER) == []


# -- programs and input ---------------------------------------------------------------------


@pytest.mark.parametrize("node", ["/dev/hidraw3", "/dev/bus/usb/001/004", "/dev/sdb", "/dev/sg2"])
def test_program_that_uses_the_device_itself_is_named_and_needs_force(
    machine: MachineTree, node: str
) -> None:
    holder = Holder("scdaemon", 77, node, claims=False, command="gpgconf --kill scdaemon")

    assert found(machine, machine.usb(), HID, holders=(holder,)) == [
        Finding(Danger.FORCE, f"scdaemon (process 77) uses {node}", "gpgconf --kill scdaemon")
    ]


def test_program_that_uses_what_a_driver_made_of_it_is_named(machine: MachineTree) -> None:
    holder = Holder("pipewire", 77, "/dev/snd/controlC1", claims=False)

    assert found(machine, machine.usb(), AUDIO, holders=(holder,)) == [
        Finding(Danger.NOTE, "pipewire (process 77) uses /dev/snd/controlC1")
    ]


def test_program_that_has_claimed_it_is_met_at_our_own_claim(machine: MachineTree) -> None:
    holder = Holder("pcscd", 77, "/dev/bus/usb/001/004", claims=True)

    assert found(machine, machine.usb(), 11, holders=(holder,)) == []


def test_only_keyboard_has_to_be_allowed(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.keyboard("event2", f"{folder}/1-4:1.0")

    assert found(machine, folder, HID) == [
        Finding(Danger.ALLOW, "it is the only keyboard of this machine")
    ]


def test_worst_findings_come_first(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.keyboard("event2", f"{folder}/1-4:1.1")
    machine.mount("90 28 8:17 / /mnt rw - vfat /dev/sdb1 rw")
    holders = (
        Holder("cat", 76, "/dev/ttyACM0", claims=False),
        Holder("steam", 77, "/dev/hidraw3", claims=False),
    )

    dangers = [finding.danger for finding in found(machine, folder, HID, holders=holders)]

    assert dangers == [Danger.NEVER, Danger.FORCE, Danger.ALLOW, Danger.NOTE]


# -- untrusted text -------------------------------------------------------------------------


def test_mount_point_cannot_command_the_terminal_or_the_shell(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 8:17 / /media/\x1b[2J;$(id)\\012x rw - vfat /dev/sdb1 rw")

    (worst,) = found(machine, folder, STORAGE)

    assert worst.message == r"sdb1 is mounted for writing on '/media/\x1b[2J;$(id)\nx'"
    assert worst.hint == "udisksctl unmount -b /dev/sdb1"


COMMANDS = re.compile(
    r"|(udisksctl (unmount|lock) -b|sudo (umount --all-targets|swapoff|cryptsetup close"
    r"|lvchange --activate n|mdadm --stop)) (?!-)[A-Za-z0-9._/-]+"
)


@given(
    text=st.text(min_size=1),
    kind=st.sampled_from(["LUKS", "LVM", "RAID", "another block device"]),
    udisks=st.booleans(),
)
def test_any_text_is_printable_in_a_message_and_plain_in_a_command(
    text: str, kind: str, udisks: bool
) -> None:
    kept = Kept(
        mounts=((text, Mount("8:17", text, "vfat", text, ("rw",))),),
        swaps=(Swap(text),),
        stacked=(Stacked(text, text, kind, text),),
        hidden=(text,),
    )

    for finding in of_kept(kept, udisks=udisks):
        assert finding.message.isprintable()
        assert COMMANDS.fullmatch(finding.hint)
