"""A program that has claimed a device, to be killed: ``python -m tests.support.usb_parent``.

It says the process id of its usb-host, and then nothing more.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kubectl_vmredir.usb.discovery import read_device
from kubectl_vmredir.usb.journal import Journal, read_boot_id
from kubectl_vmredir.usb.process import UsbHosts
from tests.support.usb_host_sockets import owned
from tests.support.usb_hosts import TIMEOUT_S


async def main(root: Path, claims: Path, port_path: str, node: str) -> None:
    device = read_device((root / "sys/bus/usb/devices" / port_path).resolve(), node=node)
    assert device is not None
    journal = Journal(claims, boot_id=read_boot_id(root))
    async with UsbHosts(journal, root=root) as hosts:
        with owned(await hosts.start(device), timeout_s=TIMEOUT_S) as guest:
            await guest.event()
            print(journal.holder(port_path), flush=True)  # noqa: T201
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
