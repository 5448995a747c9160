"""The workstation VM: a Linux machine with real udev and usbfs, whose USB devices QEMU emulates.

The program runs in it from this checkout, as an ordinary user.
"""

from __future__ import annotations

import asyncio
import base64
import compileall
import itertools
import json
import posixpath
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import kubectl_vmredir
from kubectl_vmredir.lab.guests.domain import DomainSpec
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.model import JsonValue, VmiRef, VmiUid
from tests.support.workstation import guest_agent
from tests.support.workstation.guest_agent import GuestAgent
from tests.support.workstation.root import PROGRAM_FOLDER

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from kubectl_vmredir.lab.guests.image.build import GuestImage
    from kubectl_vmredir.lab.guests.qemu_domain import QemuDomain
    from tests.support.workstation.guest_agent import Done, Running

HOST: Final = "10.0.2.2"
"""The loopback interface of this machine, as the VM sees it."""
LINE: Final = "line"
"""Socket of the other end of the serial adapter; in the run folder."""
SOUND_FILE: Final = "sound.wav"
"""What the emulated sound card plays; in the run folder."""
KUBECONFIG: Final = "/home/user/kubeconfig"
CLUSTER: Final = {"KUBECONFIG": KUBECONFIG}
"""Environment of a program that uses it."""

_PROGRAM: Final = Path(kubectl_vmredir.__file__).parent
_MEMORY_MIB: Final = 512
_DEVICES: Final = (
    # Without a keyboard controller the keys go to the USB keyboard.
    "-machine", "i8042=off",
    "-device", "qemu-xhci,id=plugs,p2=15,p3=15",
    "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
    "-fsdev",
    f"local,id=program,path={_PROGRAM},security_model=none,readonly=on,multidevs=remap",
    "-device", "virtio-9p-pci,fsdev=program,mount_tag=program",
    "-audiodev", f"wav,id=sound,path={SOUND_FILE}",
    *guest_agent.DEVICES,
)  # fmt: skip

_SETTLE: Final = """
set -e
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro program "$1"
date -s "@$2"
"""
_APPEAR: Final = """
for _ in {1..400}; do
    if path=$(grep -lxsF -e "$1" /sys/bus/usb/devices/*/serial); then
        udevadm settle
        dirname "$path"
        exit 0
    fi
    sleep 0.05
done
exit 1
"""
_WRITE: Final = 'printf %s "$2" | base64 -d >"$1"'


@dataclass(frozen=True)
class Plugged:
    """A device in a port of the workstation.

    Attributes:
        id: QEMU's name for it; empty for one that is not QEMU's.
        port_path: Where it is, as the kernel writes it.
        node: Its device node.
    """

    id: str
    port_path: str
    node: str


class WorkstationVm:
    """A workstation that has just booted; an async context manager.

    Args:
        image: What it boots.
        folder: For its sockets and what is written in it; must be empty.

    Attributes:
        folder: The same.
        agent: Runs commands in it.
    """

    def __init__(self, image: GuestImage, folder: Path) -> None:
        self.folder = folder
        self._hypervisor = QemuHypervisor(image, extra=_DEVICES)
        self._stack = AsyncExitStack()
        self._numbers = itertools.count(1)
        self._plugged: list[Plugged] = []
        self._domain: QemuDomain
        self.agent: GuestAgent

    async def __aenter__(self) -> Self:
        # The VM cannot write there, and would compile each module again for each command.
        await asyncio.to_thread(compileall.compile_dir, _PROGRAM, quiet=2)
        await self._stack.enter_async_context(self._hypervisor)
        spec = DomainSpec(VmiRef("desk", "workstation"), VmiUid("1"), self.folder, _MEMORY_MIB)
        self._domain = await self._hypervisor.boot(spec)
        self.agent = await self._stack.enter_async_context(GuestAgent(self.folder))
        await self.root("sh", "-c", _SETTLE, "sh", PROGRAM_FOLDER, f"{time.time():.0f}")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, traceback)

    # -- commands -----------------------------------------------------------------------------

    async def root(self, *argv: str) -> str:
        """Run a command as root, which must go well; return its output."""
        return (await self.agent.run(*argv, user="root")).check()

    async def user(self, *argv: str) -> Done:
        """Run a command as the ordinary user."""
        return await self.agent.run(*argv)

    async def vmredir(self, *arguments: str) -> Done:
        """Run our program, as the ordinary user."""
        return await self.agent.run("kubectl-vmredir", *arguments)

    async def write(self, path: str, content: bytes) -> None:
        """Write a small file, as the ordinary user."""
        text = base64.b64encode(content).decode()
        (await self.user("sh", "-c", _WRITE, "sh", path, text)).check()

    def running(self, *arguments: str) -> AbstractAsyncContextManager[Running]:
        """Start our program as the ordinary user, and kill it at the end if it still runs."""
        return self.agent.running("kubectl-vmredir", *arguments, environment=CLUSTER)

    async def use_cluster(self, kubeconfig: Path) -> None:
        """Give the user a kubeconfig of this machine, as it must be in the VM."""
        await self.write(KUBECONFIG, _as_seen_in_the_vm(kubeconfig))

    # -- devices ------------------------------------------------------------------------------

    async def plug(self, driver: str, serial: str, **properties: JsonValue) -> Plugged:
        """Plug a device in; returns when udev has done all that it does.

        Args:
            driver: QEMU's name of the device.
            serial: Its serial number.
            properties: More of QEMU's properties.
        """
        name = f"plug{next(self._numbers)}"
        await self._domain.execute(
            "device_add", driver=driver, id=name, bus="plugs.0", serial=serial, **properties
        )
        plugged = await self.appeared(serial, name)
        self._plugged.append(plugged)
        return plugged

    async def appeared(self, serial: str, name: str = "") -> Plugged:
        """Wait until udev has done all for the device with this serial number."""
        path = (await self.root("bash", "-c", _APPEAR, "bash", serial)).strip()
        numbers = (await self.root("cat", f"{path}/busnum", f"{path}/devnum")).split()
        bus, address = (int(number) for number in numbers)
        return Plugged(name, posixpath.basename(path), f"/dev/bus/usb/{bus:03}/{address:03}")

    async def unplug(self, plugged: Plugged) -> None:
        """Pull a device out; returns when the kernel has noticed."""
        self._plugged.remove(plugged)
        await self._domain.execute("device_del", id=plugged.id)
        path = f"/sys/bus/usb/devices/{plugged.port_path}"
        await self.root("udevadm", "wait", "--timeout=10", "--removed", path)

    async def unplug_all(self) -> None:
        """Pull out what is still plugged in."""
        for plugged in list(self._plugged):
            await self.unplug(plugged)

    async def plug_stick(self, serial: str, image: Path, **properties: JsonValue) -> Plugged:
        """Plug in a stick whose content is a file of this machine."""
        node = f"disk{next(self._numbers)}"
        await self._domain.execute(
            "blockdev-add",
            driver="raw",
            node_name=node,
            file={"driver": "file", "filename": str(image), "locking": "off"},
        )
        return await self.plug("usb-storage", serial, drive=node, **properties)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other, on the keyboard that was plugged in last.

        Args:
            keys: As QEMU calls them.
        """
        for key in keys:
            await self._domain.execute("send-key", keys=[{"type": "qcode", "data": key}])

    async def plug_serial_adapter(self, serial: str) -> Plugged:
        """Plug in a serial adapter; its other end is the socket :data:`LINE`."""
        name = f"line{next(self._numbers)}"
        address: JsonValue = {"type": "unix", "data": {"path": LINE}}
        await self._domain.execute(
            "chardev-add",
            id=name,
            backend={"type": "socket", "data": {"addr": address, "server": True, "wait": False}},
        )
        # Without always-plugged it is there only while somebody is connected to the line.
        return await self.plug("usb-serial", serial, chardev=name, always_plugged=True)

    async def plug_sound_card(self, serial: str) -> Plugged:
        """Plug in a sound card; what it plays is written to a file, :data:`SOUND_FILE`."""
        return await self.plug("usb-audio", serial, audiodev="sound")


def _as_seen_in_the_vm(kubeconfig: Path) -> bytes:
    config = json.loads(kubeconfig.read_text())
    for entry in config["clusters"]:
        cluster = entry["cluster"]
        cluster["server"] = cluster["server"].replace("127.0.0.1", HOST)
        cluster["tls-server-name"] = "127.0.0.1"
    return json.dumps(config).encode()
