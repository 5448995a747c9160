"""VMs of a world, created and watched through the API alone."""

from __future__ import annotations

import asyncio
import itertools
import socket
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Self

from kubectl_vmredir.k8s.objects import EventType
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.image import build
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.model import VmiRef
from tests.support.worlds import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from tests.support.worlds import World

NAMESPACE: Final = "demo"
WAIT_LIMIT_S: Final = 60.0
SCREEN: Final = "virt-vnc"
SLOW_COPY: Final = {"rig/bandwidth": str(1 << 14), "lab.vmredir.io/bandwidth": str(1 << 22)}
"""Annotations for a copy that takes more than ten seconds: bytes per second. The real guest has
little memory in use, the lab copies all of it."""

_numbers = itertools.count(1)


def stream_path(name: str, kind: str = "usbredir") -> str:
    """Return the path of a stream of a VMI."""
    return (
        f"/apis/subresources.kubevirt.io/v1/namespaces/{NAMESPACE}"
        f"/virtualmachineinstances/{name}/{kind}"
    )


def virtual_machine(
    name: str,
    *,
    annotations: Mapping[str, str] | None = None,
    devices: Mapping[str, Any] | None = None,
    memory: str = "64Mi",
    **spec: object,
) -> JsonObject:
    """Return the manifest of a VM with USB slots, unless ``devices`` says otherwise.

    Args:
        name: Of the VM.
        annotations: Of its VMI.
        devices: Its devices.
        memory: What it asks for.
        spec: More of the VMI's spec.
    """
    domain = {
        "devices": {"clientPassthrough": {}} if devices is None else devices,
        "resources": {"requests": {"memory": memory}},
    }
    template = {"metadata": {"annotations": annotations or {}}, "spec": {"domain": domain, **spec}}
    return {
        "apiVersion": objects.KUBEVIRT_API,
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"runStrategy": "Always", "template": template},
    }


def reading_guest(world: World, *slots: str) -> dict[str, str]:
    """Return the annotations of a VM with these slots, whose guest reads sticks."""
    named = {"vmredir.io/slots": ",".join(slots)}
    if world.kind is Kind.LAB:
        return named
    image = build.find(build.default_folder())
    assert image is not None, "no guest image: make guest"
    return named | {
        "rig/kernel": str(image.kernel),
        "rig/initrd": str(image.initrd),
        "rig/append": build.CMDLINE,
        "rig/memory": "192",
    }


class Vm:
    """A VirtualMachine and its VMI.

    Attributes:
        ref: Namespace and name.
    """

    def __init__(self, world: World, client: KubeClient, name: str) -> None:
        self._world, self._client = world, client
        self.ref = VmiRef(NAMESPACE, name)
        self.path = f"{Collection.VMIS.of(NAMESPACE)}/{name}"

    def stream(self, kind: str = "usbredir") -> str:
        """Return the path of a stream."""
        return stream_path(self.ref.name, kind)

    async def vmi(self) -> JsonObject:
        """Return the VMI as it is now."""
        return await self._client.get(self.path)

    async def wait(self, condition: Callable[[JsonObject], object]) -> JsonObject:
        """Wait until something is so for the VMI, and return it."""
        return await self._wait(Collection.VMIS, self.ref.name, condition)

    async def running(self) -> JsonObject:
        """Wait until it runs, and return the VMI."""
        return await self.wait(lambda vmi: objects.phase(vmi) == "Running")

    async def has_left(self, node: str) -> JsonObject:
        """Wait until it is on another node, and return the VMI."""
        return await self.wait(lambda vmi: objects.status(vmi)["nodeName"] != node)

    async def settled(self) -> JsonObject:
        """Wait until nobody has anything more to say about it, and return the VMI."""
        return await self.wait(
            lambda vmi: (
                objects.phase(vmi) == "Running"
                and not objects.label(vmi, objects.TARGET_NODE_NAME)
                and objects.status(vmi).get("launcherContainerImageVersion")
                and all((objects.status(vmi).get("activePods") or {"": ""}).values())
            )
        )

    async def run_folder(self) -> Path:
        """Return where the sockets of its guest are, on the node where it runs."""
        vmi = await self.running()
        return self._world.run_folder(vmi, objects.status(vmi)["nodeName"])

    async def launchers(self) -> list[str]:
        """Return the names of its pods, those that ended included."""
        created = f"{objects.CREATED_BY}={objects.uid(await self.vmi())}"
        listed = await self._client.list_all(
            Collection.PODS.of(NAMESPACE), {"labelSelector": created}
        )
        return [objects.name(pod) for pod in listed.items]

    async def delete(self) -> None:
        """Delete the VM; its VMI ends a little later."""
        await self._client.delete(f"{Collection.VMS.of(NAMESPACE)}/{self.ref.name}")

    async def annotate(self, **annotations: str | None) -> None:
        """Change annotations of the VMI."""
        await self._client.patch(self.path, {"metadata": {"annotations": annotations}})

    # -- migrations ---------------------------------------------------------------------------

    async def migrate(self, annotations: Mapping[str, str] | None = None) -> str:
        """Ask for a live migration, as ``virtctl migrate`` does; return the object's name."""
        made = await self._client.create(
            Collection.VMIMS.of(NAMESPACE),
            {
                "apiVersion": objects.KUBEVIRT_API,
                "kind": "VirtualMachineInstanceMigration",
                "metadata": {
                    "generateName": "kubevirt-migrate-vm-",
                    "namespace": NAMESPACE,
                    "annotations": dict(annotations or {}),
                },
                "spec": {"vmiName": self.ref.name},
            },
        )
        return objects.name(made)

    async def migration(self, name: str, condition: Callable[[JsonObject], object]) -> JsonObject:
        """Wait until something is so for a migration, and return it."""
        return await self._wait(Collection.VMIMS, name, condition)

    async def moved(self) -> JsonObject:
        """Migrate, wait for the end of it, and return the VMI."""
        name = await self.migrate()
        vmim = await self.migration(name, objects.is_final)
        vmi = await self.vmi()
        assert objects.phase(vmim) == "Succeeded", objects.migration_state(vmi)
        return vmi

    async def cancel(self, name: str) -> None:
        """Cancel a migration, as ``virtctl migrate-cancel`` does."""
        await self._client.delete(f"{Collection.VMIMS.of(NAMESPACE)}/{name}")

    async def gone(self, name: str) -> None:
        """Wait until the object of a migration is gone."""
        seen = False
        selected = {"fieldSelector": f"metadata.name={name}"}
        async with (
            asyncio.timeout(WAIT_LIMIT_S),
            aclosing(self._client.watch(Collection.VMIMS.of(NAMESPACE), selected)) as events,
        ):
            async for event in events:
                match event.type:
                    case EventType.ADDED | EventType.MODIFIED:
                        seen = True
                    case EventType.LISTED if seen:
                        pass
                    case _:
                        return

    async def _wait(
        self, collection: Collection, name: str, condition: Callable[[JsonObject], object]
    ) -> JsonObject:
        found: JsonObject = {}
        selected = {"fieldSelector": f"metadata.name={name}"}
        try:
            async with (
                asyncio.timeout(WAIT_LIMIT_S),
                aclosing(self._client.watch(collection.of(NAMESPACE), selected)) as events,
            ):
                async for event in events:
                    found = event.object or found
                    if event.object and condition(event.object):
                        return event.object
        except TimeoutError:
            raise AssertionError(f"it never was as it should be: {found}") from None
        raise AssertionError("a watch has no end")


@asynccontextmanager
async def vm(
    world: World,
    *,
    client: KubeClient | None = None,
    **manifest: Any,  # noqa: ANN401
) -> AsyncIterator[Vm]:
    """Give a new VM, which need not run yet; it is deleted with the context."""
    name = f"vm{next(_numbers)}"
    async with world.client() as admin:
        path = Collection.VMS.of(NAMESPACE)
        await admin.create(path, virtual_machine(name, **manifest))
        try:
            yield Vm(world, client or admin, name)
        finally:
            with suppress(StatusError):
                await admin.delete(f"{path}/{name}")


async def cordon(client: KubeClient, *nodes: str, unschedulable: bool = True) -> None:
    """Keep the scheduler from nodes, or open them again."""
    for node in nodes:
        change = {"spec": {"unschedulable": unschedulable or None}}
        await client.patch(f"{Collection.NODES}/{node}", change)


class GuestSocket:
    """A socket of a guest, in the place of the one that was there: the test is the guest.

    A context manager, which closes all that it accepted.
    """

    def __init__(self, folder: Path, name: str) -> None:
        (folder / name).unlink(missing_ok=True)
        self._listener = sockets.listen(folder, name)
        self._ends: list[GuestEnd] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def accept(self) -> GuestEnd:
        """Wait for the next client."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(WAIT_LIMIT_S):
            connection, _ = await loop.sock_accept(self._listener)
        self._ends.append(GuestEnd(connection))
        return self._ends[-1]

    def close(self) -> None:
        """Listen no more, and end all streams; the file stays."""
        self._listener.close()
        for end in self._ends:
            end.close()


@contextmanager
def all_slots(folder: Path) -> Iterator[list[GuestSocket]]:
    """Be the guest of all USB slots."""
    with ExitStack() as stack:
        yield [stack.enter_context(GuestSocket(folder, name)) for name in sockets.SLOTS]


class GuestEnd:
    """The guest's end of a stream."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        async with asyncio.timeout(WAIT_LIMIT_S):
            await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def receive(self, length: int) -> bytes:
        """Return exactly so many bytes, or what there was before the end."""
        loop = asyncio.get_running_loop()
        data = b""
        async with asyncio.timeout(WAIT_LIMIT_S):
            while len(data) < length:
                more = await loop.sock_recv(self._connection, length - len(data))
                if not more:
                    break
                data += more
        return data

    def close(self) -> None:
        """End it."""
        self._connection.close()
