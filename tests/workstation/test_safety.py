"""What speaks against taking a device, found on a real kernel by an ordinary user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.workstation.vm import Plugged, WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

STICK_BYTES = 4 << 20

LOOK = """
import json, sys
from kubectl_vmredir.usb.discovery import list_devices
from kubectl_vmredir.usb.use import look

port, *servers = sys.argv[1:]
(device,) = (device for device in list_devices() if device.port_path == port)
use = look(device, own_pids=(), server_hosts=servers)
print(json.dumps([(finding.danger, finding.message, finding.hint) for finding in use.findings]))
"""
HOLD = """
import os, signal, sys
os.open(sys.argv[1], os.O_RDWR)
print("held", flush=True)
signal.pause()
"""
PRINT_DISK = 'basename "$(ls -d /sys/bus/usb/devices/"$1"/"$1":*/host*/target*/*/block/*)"'
PRINT_NIC = 'basename "$(ls -d /sys/bus/usb/devices/"$1"/"$1":*/net/*)"'


async def findings(
    workstation: WorkstationVm, device: Plugged, *servers: str
) -> list[tuple[str, str, str]]:
    done = await workstation.user("python3", "-c", LOOK, device.port_path, *servers)
    return [tuple(finding) for finding in json.loads(done.check())]


async def name_of(workstation: WorkstationVm, script: str, device: Plugged) -> str:
    return (await workstation.root("sh", "-c", script, "sh", device.port_path)).strip()


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    path = tmp_path / "stick"
    path.write_bytes(bytes(STICK_BYTES))
    return path


async def test_file_system_counts_while_it_is_mounted(
    workstation: WorkstationVm, medium: Path
) -> None:
    stick = await workstation.plug_stick("SAFE1", medium)
    disk = await name_of(workstation, PRINT_DISK, stick)
    node = f"/dev/{disk}"
    await workstation.root("mkfs.vfat", "-I", node)
    assert await findings(workstation, stick) == []

    await workstation.root("mkdir", "-p", "/mnt")
    await workstation.root("mount", node, "/mnt")
    writable = await findings(workstation, stick)
    await workstation.root("mount", "-o", "remount,ro", "/mnt")
    read_only = await findings(workstation, stick)
    command = f"sudo umount --all-targets {node}"
    await workstation.root("sh", "-c", command.removeprefix("sudo "))

    assert ("never", f"{disk} is mounted for writing on /mnt", command) in writable
    # The root of this VM is an overlay whose layers are out of sight.
    doubt = ("never", "the root file system may be on it: not all of its layers can be seen", "")
    assert read_only == [doubt, ("force", f"{disk} is mounted read-only on /mnt", command)]
    assert await findings(workstation, stick) == []


async def test_swap_counts_while_it_is_active(workstation: WorkstationVm, medium: Path) -> None:
    stick = await workstation.plug_stick("SAFE2", medium)
    disk = await name_of(workstation, PRINT_DISK, stick)
    await workstation.root("mkswap", f"/dev/{disk}")
    await workstation.root("swapon", f"/dev/{disk}")

    ((danger, message, command),) = await findings(workstation, stick)
    await workstation.root("sh", "-c", command.removeprefix("sudo "))

    assert (danger, message) == ("never", f"/dev/{disk} on it is active swap")
    assert await findings(workstation, stick) == []


async def test_keyboard_and_mouse_count_if_they_are_the_only_ones(
    workstation: WorkstationVm,
) -> None:
    keyboard = await workstation.plug("usb-kbd", "SAFEKEYS1")
    mouse = await workstation.plug("usb-mouse", "SAFEMOUSE1")
    alone = [await findings(workstation, device) for device in (keyboard, mouse)]

    await workstation.plug("usb-kbd", "SAFEKEYS2")
    await workstation.plug("usb-tablet", "SAFETABLET2")

    assert alone == [
        [("allow", "it is the only keyboard of this machine", "")],
        [("allow", "it is the only pointer of this machine", "")],
    ]
    assert [await findings(workstation, device) for device in (keyboard, mouse)] == [[], []]


async def test_nic_counts_while_the_way_to_the_server_goes_through_it(
    workstation: WorkstationVm,
) -> None:
    nic = await workstation.plug("usb-net", "SAFENET1")
    name = await name_of(workstation, PRINT_NIC, nic)
    assert await findings(workstation, nic, "192.0.2.9") == []

    await workstation.root("ip", "address", "add", "192.0.2.1/24", "dev", name)
    await workstation.root("ip", "link", "set", name, "up")

    assert await findings(workstation, nic, "192.0.2.9") == [
        ("force", f"the API server is reached through it ({name})", "")
    ]
    assert await findings(workstation, nic, "10.0.2.2") == []
    assert [danger for danger, _, _ in await findings(workstation, nic, "127.0.0.1")] == ["force"]


async def test_program_that_has_a_raw_node_open_is_named(workstation: WorkstationVm) -> None:
    await workstation.plug("usb-kbd", "SAFEKEYS3")
    keyboard = await workstation.plug("usb-kbd", "SAFEKEYS4")

    async with workstation.agent.running("python3", "-c", HOLD, keyboard.node) as holder:
        await holder.says("held")
        ((danger, message, _),) = await findings(workstation, keyboard)

    assert danger == "force"
    assert message.startswith("python3 (process ")
    assert message.endswith(f" uses {keyboard.node}")
