"""The client that is measured: the whole data path of a redirection, and nothing else.

A device session with guard and continuity, between the sockets of a usb-host and a link over
the api route. For each line on stdin it says on stdout how much CPU time it has taken.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
from kubectl_vmredir.kubevirt.dial import ApiDialer
from kubectl_vmredir.model import (
    DeviceUse,
    LocalDevice,
    RedirectionId,
    Speed,
    VendorProduct,
    VmiRef,
    VmiUid,
    VmiView,
)
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.gate import Gate
from kubectl_vmredir.service.links import Destination
from kubectl_vmredir.service.migration import VmiFacts
from kubectl_vmredir.service.ports import UsbHostSockets
from kubectl_vmredir.service.sessions import DeviceSessions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

_DEVICE: Final = LocalDevice(
    ids=VendorProduct(0x1209, 0x0001),
    bus=1,
    address=1,
    port_path="1-1",
    serial=None,
    manufacturer="",
    product="",
    speed=Speed.SUPER,
    classes=(),
)
_VMI: Final = VmiView(
    VmiRef("benchmark", "vm"), VmiUid("1"), phase="Running", node="node1", client_passthrough=True
)
_AT_REST: Final = VmiFacts(certain_at=0.0, vmi=_VMI)
_TIMEOUT_S: Final = 10.0


class _OneDevice:
    """A device source with a usb-host that runs already."""

    def __init__(self, sockets: UsbHostSockets) -> None:
        self._sockets = sockets

    async def devices(self) -> Sequence[LocalDevice]:
        return (_DEVICE,)

    async def changes(self) -> AsyncGenerator[None, None]:
        return
        yield

    async def use(self, device: LocalDevice) -> DeviceUse:
        return DeviceUse()

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        return self._sockets


async def redirect(sockets: UsbHostSockets, port: int, ca: bytes) -> None:
    """Plug the device into the far end, and leave it there until stdin ends."""
    config = ClusterConfig(f"https://127.0.0.1:{port}", ca=ca, user=UserConfig(token="none"))
    gate = Gate(lambda _ref: _AT_REST)
    async with (
        KubeClient(config) as client,
        DeviceSessions(_OneDevice(sockets), gate) as sessions,
    ):
        session = await sessions.claim(_DEVICE, RedirectionId("benchmark"))
        bell = Bell()
        session.lend(bell)
        await session.dial(ApiDialer(client), Destination.of(_VMI, _AT_REST))
        async with asyncio.timeout(_TIMEOUT_S):
            while not session.attached:
                await bell.wait()
        await report_cpu()


async def report_cpu() -> None:
    """Say that all is ready, then how much CPU time was taken whenever a line comes."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    print("ready", flush=True)
    while await lines.readline():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(usage.ru_utime + usage.ru_stime, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line of whoever stands between the two ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=int, required=True, help="descriptor of the data socket")
    parser.add_argument("--control", type=int, required=True, help="of the control socket")
    parser.add_argument("--port", type=int, required=True, help="port of the far end")
    parser.add_argument("--ca", type=Path, required=True, help="certificates to check it with")
    return parser.parse_args()


def main() -> None:
    """Redirect one device."""
    options = arguments()
    data, control = (socket.socket(fileno=end) for end in (options.data, options.control))
    for end in (data, control):
        end.setblocking(False)
    asyncio.run(redirect(UsbHostSockets(data, control), options.port, options.ca.read_bytes()))


if __name__ == "__main__":
    main()
