"""All that is known of how a machine uses a device, put together."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubectl_vmredir.errors import DeviceNotFound
from kubectl_vmredir.model import Danger
from kubectl_vmredir.usb.use import look, may_open
from tests.support.machine_tree import MachineTree, local_device

DEVICE = local_device(8)


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    return MachineTree(tmp_path)


def test_use_is_put_together(machine: MachineTree) -> None:
    folder = machine.stick()
    machine.write(f"{folder}/1-4:1.0/bInterfaceNumber", "00\n")
    machine.link(f"{folder}/1-4:1.0/driver", "sys/bus/usb/drivers/usb-storage")
    machine.mount("90 28 8:17 / /mnt rw - vfat /dev/sdb1 rw")

    use = look(DEVICE, own_pids=(), server_hosts=(), root=machine.root)

    assert use.drivers == ("usb-storage",)
    assert use.openable
    assert use.holders == ()
    assert use.redirected_by is None
    assert [finding.danger for finding in use.findings] == [Danger.NEVER]


def test_device_that_is_unplugged_is_not_found(machine: MachineTree) -> None:
    with pytest.raises(DeviceNotFound):
        look(DEVICE, own_pids=(), server_hosts=(), root=machine.root)


def test_node_that_is_not_there_may_not_be_opened(machine: MachineTree) -> None:
    assert not may_open(DEVICE, root=machine.root)
    machine.usb()

    assert may_open(DEVICE, root=machine.root)
