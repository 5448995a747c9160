"""A device in a slot of a VM, with nothing between its usb-host and QEMU."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import Domain
from kubectl_vmredir.model import LocalDevice
from kubectl_vmredir.service.ports import DeviceSource


@asynccontextmanager
async def plugged_into(
    domain: Domain, slot: int, source: DeviceSource, device: LocalDevice
) -> AsyncIterator[None]:
    """Claim a device and copy bytes between its usb-host and a slot of the VM."""
    loop = asyncio.get_running_loop()
    usb_host = await source.claim(device)
    with usb_host.data, usb_host.control, socket.socket(socket.AF_UNIX) as vm:
        vm.setblocking(False)
        with sockets.short_path(domain.spec.run_folder, sockets.SLOTS[slot]) as path:
            await loop.sock_connect(vm, path)

        async def copy(reader: socket.socket, writer: socket.socket) -> None:
            while data := await loop.sock_recv(reader, 1 << 18):
                await loop.sock_sendall(writer, data)

        async with asyncio.TaskGroup() as group:
            copies = [
                group.create_task(copy(usb_host.data, vm), name="to-vm"),
                group.create_task(copy(vm, usb_host.data), name="from-vm"),
            ]
            try:
                yield
            finally:
                for task in copies:
                    task.cancel()
