"""An agent with devices that are only bytes, on a cluster whose streams another process serves.

All that is measured is the real thing: service, agent, the conversation with its clients, and the
cluster's client. Usb-hosts, API server and guests are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import selectors
import socket
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.agent.memory import collect_seldom
from kubectl_vmredir.agent.places import listen
from kubectl_vmredir.agent.server import AgentServer
from kubectl_vmredir.agent.wishes import Wishes
from kubectl_vmredir.bootstrap import Connection
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
from kubectl_vmredir.kubevirt.dial import ApiDialer
from kubectl_vmredir.model import DeviceUse, LocalDevice, Speed, VendorProduct
from kubectl_vmredir.service.ports import UsbHostSockets
from kubectl_vmredir.service.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from kubectl_vmredir.agent.access import Access

_ROOT: Final = Path(__file__).parents[1]


def serial_of(number: int) -> str:
    """Return the serial number of a device."""
    return f"DEVICE{number:03}"


class ReadyDevices:
    """Devices whose usb-hosts run already.

    Args:
        sockets: Of each.
    """

    def __init__(self, sockets: Sequence[UsbHostSockets]) -> None:
        self._sockets = {serial_of(number): each for number, each in enumerate(sockets)}

    async def devices(self) -> Sequence[LocalDevice]:
        """See ``DeviceSource.devices``."""
        return [
            LocalDevice(
                ids=VendorProduct(0x1209, 0x0001),
                bus=1,
                address=number + 1,
                port_path=f"1-{number + 1}",
                serial=serial,
                manufacturer="",
                product="",
                speed=Speed.SUPER,
                classes=(),
            )
            for number, serial in enumerate(self._sockets)
        ]

    async def changes(self) -> AsyncGenerator[None, None]:
        """See ``DeviceSource.changes``: there are none."""
        await asyncio.Event().wait()
        yield

    async def use(self, device: LocalDevice) -> DeviceUse:
        """See ``DeviceSource.use``: nothing uses one."""
        return DeviceUse()

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        """See ``DeviceSource.claim``."""
        assert device.serial is not None
        return self._sockets[device.serial]


class TurnsSelector(selectors.DefaultSelector):
    """Notes how much CPU time each turn of an event loop takes: no packet gets on before its end.

    Attributes:
        turns_s: Of all turns since somebody emptied it, in seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns_s: list[float] = []
        self._begun_s = time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, between two turns."""
        self.turns_s.append(time.thread_time() - self._begun_s)
        events = super().select(timeout)
        self._begun_s = time.thread_time()
        return events


@asynccontextmanager
async def usb_hosts(count: int) -> AsyncIterator[Sequence[UsbHostSockets]]:
    """Run so many usb-hosts in a process of their own, which ends when their sockets do."""
    ours: list[socket.socket] = []
    theirs: list[socket.socket] = []
    for _ in range(count * 2):
        near, far = socket.socketpair()
        near.setblocking(False)
        ours.append(near)
        theirs.append(far)
    descriptors = [end.fileno() for end in theirs]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.usb_hosts",
        *map(str, descriptors),
        pass_fds=descriptors,
        cwd=_ROOT,
    )
    for end in theirs:
        end.close()
    try:
        yield [UsbHostSockets(*pair) for pair in zip(ours[::2], ours[1::2], strict=True)]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def serve(options: argparse.Namespace, selector: TurnsSelector) -> None:
    """Be the agent until stdin ends; for each line on it say what turns there were since."""
    ca = options.ca.read_bytes()
    api, streams = (
        ClusterConfig(f"https://127.0.0.1:{port}", ca=ca, user=UserConfig(token="none"))
        for port in (options.api, options.streams)
    )
    async with usb_hosts(options.devices) as sockets:

        @asynccontextmanager
        async def open_service(access: Access) -> AsyncIterator[Connection]:
            async with KubeClient(api) as client, KubeClient(streams) as dialing:
                cluster, dialer = KubevirtCluster(client), ApiDialer(dialing)
                async with Service(ReadyDevices(sockets), cluster, dialer) as service:
                    yield Connection(service, "benchmark")

        with tempfile.TemporaryDirectory() as folder:
            server = AgentServer(open_service, Wishes(Path(folder, "wishes")), idle_s=None)
            lines = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
            )
            collect_seldom()
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    server.serve(listen(options.socket), lambda: print("ready", flush=True)),
                    name="serve",
                )
                while await lines.readline():
                    print(json.dumps(selector.turns_s), flush=True)
                    selector.turns_s.clear()
                await server.stop(force=True)


def main() -> None:
    """Run the agent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--api", type=int, required=True, help="port of the API server")
    parser.add_argument("--streams", type=int, required=True, help="port of the far ends")
    parser.add_argument("--ca", type=Path, required=True, help="certificates to check them with")
    parser.add_argument("--devices", type=int, required=True)
    selector = TurnsSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(serve(parser.parse_args(), selector))


if __name__ == "__main__":
    main()
