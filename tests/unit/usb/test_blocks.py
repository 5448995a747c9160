"""What is in use on the block devices of a USB device."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.usb.blocks import (
    Kept,
    Mount,
    Stacked,
    Swap,
    kept_on,
    parse_mounts,
    parse_swaps,
)
from tests.support.machine_tree import MachineTree

NOTHING = Kept()
STICK_MOUNTED = "90 28 8:17 / /media/user/DATA rw,nosuid,nodev shared:50 - vfat /dev/sdb1 rw,uid=0"


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    return MachineTree(tmp_path)


def kept(machine: MachineTree, folder: str) -> Kept:
    return kept_on(
        machine.tree,
        machine.real(folder),
        parse_mounts(machine.tree.text("proc/self/mountinfo")),
        parse_swaps(machine.tree.text("proc/swaps")),
    )


def points(found: Kept) -> list[tuple[str, str]]:
    return [(block, mount.point) for block, mount in found.mounts]


# Lines of proc(5), and of real machines.
LINES = [
    pytest.param(
        "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
        Mount("98:0", "/mnt2", "ext3", "/dev/root", ("rw", "errors=continue")),
        id="proc(5)",
    ),
    pytest.param(
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard",
        Mount("254:0", "/", "ext4", "/dev/vda", ("rw", "discard")),
        id="no optional fields",
    ),
    pytest.param(
        "90 28 8:17 / /media/My\\040Stick\\134\\012x rw shared:5 master:2 - vfat /dev/sdb1 ro",
        Mount("8:17", "/media/My Stick\\\nx", "vfat", "/dev/sdb1", ("ro",)),
        id="escapes",
    ),
    pytest.param(
        "90 28 8:17 / /media/a\x0bb\u2028c\rd rw - fuse.x me rw",
        Mount("8:17", "/media/a\x0bb\u2028c\rd", "fuse.x", "me", ("rw",)),
        id="what other programs take for line ends",
    ),
]


@pytest.mark.parametrize(("line", "mount"), LINES)
def test_mountinfo_is_read(line: str, mount: Mount) -> None:
    assert parse_mounts(line + "\n") == [mount]


@pytest.mark.parametrize("line", ["", "36 35 98:0 / /mnt rw", "36 35 98:0 / /mnt rw - ext3 x"])
def test_what_is_no_mountinfo_is_said_and_not_skipped(line: str) -> None:
    with pytest.raises(ValueError, match="no line of mountinfo"):
        parse_mounts(f"{line}\n")


@given(st.text())
def test_any_text_is_mountinfo_or_is_refused(text: str) -> None:
    try:
        mounts = parse_mounts(text)
    except ValueError:
        return
    assert len(mounts) == text.removesuffix("\n").count("\n") + 1


def test_swaps_are_read() -> None:
    text = (
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/dev/sda3                               partition\t8388604\t\t0\t\t-2\n"
        "/swap\\040file                           file\t\t1048572\t\t0\t\t-3\n"
    )

    assert parse_swaps(text) == [Swap("/dev/sda3"), Swap("/swap file")]


def test_read_only_is_of_the_file_system_and_not_of_one_mount_of_it() -> None:
    line = "90 28 8:17 / /mnt {0} - ext4 /dev/sdb1 {1}"
    bound_read_only, read_only = parse_mounts(
        f"{line.format('ro', 'rw')}\n{line.format('ro', 'ro')}"
    )

    assert not bound_read_only.read_only
    assert read_only.read_only


def test_stick_that_nobody_uses_keeps_nothing(machine: MachineTree) -> None:
    assert kept(machine, machine.stick()) == NOTHING


def test_device_without_block_devices_keeps_nothing(machine: MachineTree) -> None:
    assert kept(machine, machine.usb()) == NOTHING


def test_device_in_a_port_whose_name_begins_alike_is_another_one(machine: MachineTree) -> None:
    machine.stick("1-4")
    machine.mount(STICK_MOUNTED)

    assert kept(machine, machine.usb("1-44")) == NOTHING


def test_partition_that_is_mounted_is_found_at_each_place(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount(STICK_MOUNTED)
    machine.mount("91 28 8:17 /sub /srv rw - vfat /dev/sdb1 rw")

    found = kept(machine, folder)

    assert points(found) == [("sdb1", "/media/user/DATA"), ("sdb1", "/srv")]
    assert not found.root


def test_disk_without_partitions_is_found_as_well(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 8:16 / /mnt rw - ext4 /dev/sdb rw")

    assert points(kept(machine, folder)) == [("sdb", "/mnt")]


def test_root_file_system_is_found_on_a_partition(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.write("proc/self/mountinfo", "28 1 8:18 / / rw - ext4 /dev/sdb2 rw\n")

    assert kept(machine, folder).root


def test_root_file_system_is_found_through_luks_and_lvm(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.stack("dm-0", "253:0", "sdb2", uuid="CRYPT-LUKS2-abc-crypt", mapper="crypt")
    machine.stack("dm-1", "253:1", "dm-0", uuid="LVM-xyz", mapper="vg-root")
    machine.write("proc/self/mountinfo", "28 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw\n")

    found = kept(machine, folder)

    assert found.root
    assert found.stacked == (
        Stacked("dm-0", "dm-1", "LVM", "vg-root"),
        Stacked("sdb2", "dm-0", "LUKS", "crypt"),
    )


def test_raid_of_two_disks_is_stacked_on_the_stick_too(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.stack("md127", "9:127", "sda2", "sdb1")

    assert kept(machine, folder).stacked == (Stacked("sdb1", "md127", "RAID"),)


def test_partition_of_a_raid_that_is_mounted_counts(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.stack("md127", "9:127", "sdb1")
    machine.block("md127p1", "259:0", "sys/devices/virtual/block/md127")
    machine.mount("90 28 259:0 / /data rw - ext4 /dev/md127p1 rw")

    assert points(kept(machine, folder)) == [("md127p1", "/data")]


def test_what_holds_a_disk_and_is_unknown_is_stacked_all_the_same(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.stack("dm-3", "253:3", "sdb", uuid="mpath-36001", mapper="mpatha")

    assert kept(machine, folder).stacked == (
        Stacked("sdb", "dm-3", "another block device", "mpatha"),
    )


@pytest.mark.parametrize("node", ["/dev/sdb1", "/dev/mapper/data", "/dev/disk/by-label/DATA"])
def test_btrfs_is_found_by_its_node_since_it_has_a_number_of_its_own(
    machine: MachineTree, node: str
) -> None:
    folder = machine.stick()
    machine.stack("dm-0", "253:0", "sdb1", uuid="CRYPT-LUKS2-abc-data", mapper="data")
    machine.link("dev/disk/by-label/DATA", "dev/sdb1")
    machine.mount(f"90 28 0:45 /home /home rw - btrfs {node} rw,subvol=/home")

    assert [point for _, point in points(kept(machine, folder))] == ["/home"]


def test_btrfs_of_several_devices_is_found_where_its_mount_names_another_one(
    machine: MachineTree,
) -> None:
    folder = machine.stick()
    for name in ("sda2", "sdb1"):
        machine.link(f"sys/fs/btrfs/1111-2222/devices/{name}", f"sys/class/block/{name}")
    machine.write("proc/self/mountinfo", "28 1 0:30 /@ / rw - btrfs /dev/sda2 rw\n")

    found = kept(machine, folder)

    assert found.root
    assert found.hidden == ()


def test_bcachefs_of_several_devices_is_found(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount("90 28 0:45 / /data rw - bcachefs /dev/sda3:/dev/sdb2 rw")

    assert points(kept(machine, folder)) == [("sdb2", "/data")]


@pytest.mark.parametrize("kind", ["ext4", "xfs", "f2fs"])
def test_file_system_that_is_mounted_out_of_sight_is_hidden(
    machine: MachineTree, kind: str
) -> None:
    folder = machine.stick()
    machine.write(f"sys/fs/{kind}/sdb1/errors_count", "0\n")
    machine.write(f"sys/fs/{kind}/sda2/errors_count", "0\n")

    assert kept(machine, folder).hidden == ("sdb1",)


def test_btrfs_that_is_mounted_out_of_sight_is_hidden(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.link("sys/fs/btrfs/1111-2222/devices/sdb1", "sys/class/block/sdb1")

    assert kept(machine, folder).hidden == ("sdb1",)


def test_zfs_which_names_no_devices_may_be_on_each_of_its_members(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.write("run/udev/data/b8:17", "S:disk/by-id/x\nE:ID_FS_TYPE=zfs_member\n")
    assert kept(machine, folder).hidden == ()

    machine.mount("90 28 0:50 / /tank rw - zfs tank rw,xattr")

    assert kept(machine, folder).hidden == ("sdb1",)


def test_swap_partition_and_swap_file_on_it_are_found(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.mount(STICK_MOUNTED)
    machine.swap("/dev/sdb2 partition 8388604 0 -2")
    machine.swap("/media/user/DATA/swap file 1048572 0 -3")
    machine.swap("/dev/sda3 partition 8388604 0 -4")
    machine.swap("/swapfile file 8388604 0 -5")

    found = kept(machine, folder)

    assert found.swaps == (Swap("/dev/sdb2"), Swap("/media/user/DATA/swap"))


def test_swap_on_luks_is_found_by_its_mapper_name(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.stack("dm-0", "253:0", "sdb2", uuid="CRYPT-PLAIN-swap", mapper="swap")
    machine.swap("/dev/mapper/swap partition 8388604 0 -2")

    assert kept(machine, folder).swaps == (Swap("/dev/mapper/swap"),)


def test_root_of_a_live_system_is_found_through_loop_device_and_overlay(
    machine: MachineTree,
) -> None:
    folder = machine.stick()
    machine.loop("loop0", "7:0", "/run/live/medium/live/filesystem.squashfs")
    machine.write(
        "proc/self/mountinfo",
        "30 1 0:27 / / rw,noatime - overlay overlay rw,lowerdir=/run/live/rootfs/filesystem"
        ".squashfs/,upperdir=/run/live/overlay/rw,workdir=/run/live/overlay/work\n"
        "32 30 8:17 / /run/live/medium ro,noatime - iso9660 /dev/sdb1 ro,nojoliet\n"
        "33 30 7:0 / /run/live/rootfs/filesystem.squashfs ro - squashfs /dev/loop0 ro\n"
        "34 30 0:28 / /run/live/overlay rw - tmpfs tmpfs rw\n",
    )

    found = kept(machine, folder)

    assert found.root
    assert points(found) == [
        ("sdb1", "/run/live/medium"),
        ("loop0", "/run/live/rootfs/filesystem.squashfs"),
    ]


def test_layer_of_the_root_that_nobody_can_see_any_more_may_be_on_the_stick(
    machine: MachineTree,
) -> None:
    folder = machine.stick()
    machine.write(
        "proc/self/mountinfo",
        "30 1 0:27 / / rw - overlay /cow rw,lowerdir=/filesystem.squashfs,upperdir=/cow/upper\n"
        "32 30 8:17 / /cdrom ro,noatime - iso9660 /dev/sdb1 ro\n",
    )

    found = kept(machine, folder)

    assert (found.root, found.maybe_root) == (False, True)


def test_root_of_a_container_is_none_of_the_stick(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.write(
        "proc/self/mountinfo", "30 1 0:27 / / rw - overlay overlay rw,lowerdir=/var/lib/a:/b\n"
    )

    assert kept(machine, folder) == NOTHING
