"""A service that does what a test says, and writes down what it was asked for."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

from kubectl_vmredir.errors import RedirectionNotFound, UsbError, VmRedirError
from kubectl_vmredir.model import (
    DeviceSelector,
    DeviceUse,
    HandoverKind,
    LocalDevice,
    MigrationUid,
    MigrationView,
    RedirectionId,
    RedirectionState,
    Speed,
    UsbClass,
    VendorProduct,
    VmiRef,
    VmiUid,
    VmiView,
)
from kubectl_vmredir.service.interface import (
    BindPlan,
    BindRequest,
    Change,
    DeviceSeen,
    DevicesSeen,
    RedirectionChanged,
    RedirectionEnded,
    RedirectionStatus,
    RedirectionView,
    SlotView,
    Snapshot,
    StoryAdded,
    StoryEvent,
    Trouble,
    VmiNews,
    VmiSlots,
    VmisSeen,
)
from kubectl_vmredir.tui.session import Entrance, Session

Item = TypeVar("Item")

NOON: Final = 1_795_435_200.0
"""2026-11-23 12:00:00 UTC, in seconds since the epoch."""

STICK: Final = LocalDevice(
    ids=VendorProduct(0x0951, 0x1666), bus=1, address=4, port_path="1-3", serial="FLASH001",
    manufacturer="Kingston", product="DataTraveler 3.0", speed=Speed.HIGH,
    classes=(UsbClass(8, 6, 80),), node="/dev/bus/usb/001/004",
)  # fmt: skip
TOKEN: Final = LocalDevice(
    ids=VendorProduct(0x1050, 0x0407), bus=1, address=5, port_path="1-2.1", serial=None,
    manufacturer="Yubico", product="YubiKey OTP+FIDO+CCID", speed=Speed.FULL,
    classes=(UsbClass(3, 1, 1), UsbClass(11, 0, 0)), node="/dev/bus/usb/001/005",
)  # fmt: skip
RUDE: Final = LocalDevice(
    ids=VendorProduct(0x0403, 0x6001), bus=1, address=6, port_path="1-2.4", serial="$(reboot)",
    manufacturer="", product="[bold red]FTDI[/] \x1b[2J🔌 UART", speed=Speed.FULL,
    classes=(UsbClass(255, 255, 255),), node="/dev/bus/usb/001/006",
)  # fmt: skip

FEDORA: Final = VmiRef("demo", "fedora")
WIN11: Final = VmiRef("demo", "win11")
PLAIN: Final = VmiRef("demo", "plain")


def vmi(
    ref: VmiRef, *slots: str, node: str = "node-1", phase: str = "Running",
    migratable: bool | None = True, migration: MigrationView | None = None,
) -> VmiSlots:  # fmt: skip
    """Return a VM with slots of these names."""
    view = VmiView(
        ref, VmiUid(f"uid-{ref.name}"), phase, node, bool(slots), slots, migratable, migration
    )
    return VmiSlots(view, tuple(SlotView(name) for name in slots))


VMIS: Final = (
    vmi(FEDORA, "flash", "token"),
    vmi(PLAIN, node="node-3"),
    vmi(WIN11, "smartcard", node="node-2"),
)


def migrating(entry: VmiSlots, *, to: str = "node-2", detected: bool = False) -> VmiSlots:
    """Return the VM in the middle of a migration."""
    migration = MigrationView(
        MigrationUid("m1"),
        source_node=entry.vmi.node,
        target_node=to,
        target_domain_detected=detected,
    )
    return VmiSlots(dataclasses.replace(entry.vmi, migration=migration), entry.slots)


class _Stream(Generic[Item]):
    """Hands on what is put into it; an error is raised."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Item | VmRedirError] = asyncio.Queue()

    def put(self, item: Item | VmRedirError) -> None:
        self._queue.put_nowait(item)

    async def items(self) -> AsyncIterator[Item]:
        while True:
            item = await self._queue.get()
            if isinstance(item, VmRedirError):
                raise item
            yield item


class ScriptedService:
    """A ``RedirectionService`` in the hands of a test.

    Attributes:
        plugged: Devices that are plugged in; an error if they cannot be listed.
        there: VMs that a new watcher hears of; an error if it hears of none, None for silence.
        uses: How this machine uses a device, by the device's selector.
        trouble: What forbids a bind that is planned, unless it is forced.
        refusal: Raised by the next command.
        asked: What was asked for, in order.
        scopes: What VMs were watched, in order.
        may: Whether the user may migrate VMs; an error if nobody can tell.
        lasting: Whether the names of slots outlive a restart.
    """

    def __init__(self) -> None:
        self.plugged: Sequence[LocalDevice] | UsbError = (STICK, TOKEN)
        self.there: Sequence[VmiSlots] | VmRedirError | None = VMIS
        self.uses: dict[str, DeviceUse] = {}
        self.trouble: Trouble | None = None
        self.refusal: VmRedirError | None = None
        self.asked: list[tuple[str, object]] = []
        self.scopes: list[str | None] = []
        self.may: bool | VmRedirError = True
        self.lasting = True
        self._unbinds = asyncio.Event()
        self._unbinds.set()
        self._views: dict[RedirectionId, RedirectionView] = {}
        self._changes: list[_Stream[Change]] = []
        self._news: list[_Stream[VmiNews]] = []
        self._plugs: list[_Stream[DevicesSeen]] = []

    # -- what a test does -------------------------------------------------------------------

    def tell(self, *changes: Change) -> None:
        """Have all subscribers hear of changes."""
        for change in changes:
            match change:
                case RedirectionChanged(status=status):
                    known = self._views.get(status.id)
                    story = known.story if known is not None else ()
                    self._views[status.id] = RedirectionView(status, story)
                case StoryAdded(id=found, event=event):
                    view = self._views[found]
                    self._views[found] = RedirectionView(view.status, (*view.story, event))
                case RedirectionEnded(id=found):
                    del self._views[found]
                case _:
                    pass
            for stream in self._changes:
                stream.put(change)

    def tell_vmis(self, *news: VmiNews | VmRedirError) -> None:
        """Have all watchers of VMs hear news, or end with an error."""
        for item in news:
            for stream in self._news:
                stream.put(item)

    def plug(self, *devices: LocalDevice) -> None:
        """Have these devices plugged in from now on, and no others."""
        self.plugged = devices
        self.see(self._seen())

    def see(self, seen: DevicesSeen) -> None:
        """Have all watchers of devices hear of these."""
        for stream in self._plugs:
            stream.put(seen)

    def go(self, error: VmRedirError) -> None:
        """End all that is heard, as an agent does that goes away."""
        streams: tuple[_Stream[Change] | _Stream[VmiNews] | _Stream[DevicesSeen], ...]
        streams = (*self._changes, *self._news, *self._plugs)
        for stream in streams:
            stream.put(error)

    def hold_unbind(self) -> None:
        """Have unbind wait, as for a migration."""
        self._unbinds.clear()

    def let_go(self) -> None:
        """Have unbind wait no longer."""
        self._unbinds.set()

    def redirect(self, status: RedirectionStatus, *story: StoryEvent) -> None:
        """Have a redirection from the beginning."""
        self._views[status.id] = RedirectionView(status, story)

    # -- the service interface --------------------------------------------------------------

    async def devices(self) -> Sequence[LocalDevice]:
        if isinstance(self.plugged, UsbError):
            raise self.plugged
        return self.plugged

    async def device_use(self, device: LocalDevice) -> DeviceUse:
        return self.uses.get(str(DeviceSelector.of(device)), DeviceUse(("usb-storage",)))

    @asynccontextmanager
    async def watch_devices(self) -> AsyncIterator[AsyncIterator[DevicesSeen]]:
        stream: _Stream[DevicesSeen] = _Stream()
        self._plugs.append(stream)
        stream.put(self._seen())
        try:
            yield stream.items()
        finally:
            self._plugs.remove(stream)

    async def vmis(self, namespace: str | None, selector: str = "") -> Sequence[VmiSlots]:
        assert not selector
        assert not isinstance(self.there, VmRedirError)
        return [entry for entry in self.there or () if namespace in (None, entry.vmi.ref.namespace)]

    @asynccontextmanager
    async def watch_vmis(
        self, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[AsyncIterator[VmiNews]]:
        self.scopes.append(namespace)
        if isinstance(self.there, VmRedirError):
            raise self.there
        stream: _Stream[VmiNews] = _Stream()
        self._news.append(stream)
        if self.there is not None:
            stream.put(VmisSeen(tuple(await self.vmis(namespace, selector))))
        try:
            yield stream.items()
        finally:
            self._news.remove(stream)

    async def bind(self, request: BindRequest) -> RedirectionId:
        self._ask("bind", request)
        device = await self._meant(request.device)
        status = redirection(
            device, request.vmi, request.slot or "flash", RedirectionState.CLAIMING, number=9
        )
        self.tell(RedirectionChanged(status))
        return status.id

    async def plan(self, request: BindRequest) -> BindPlan:
        if self.refusal is not None:
            self._ask("plan", request)
        device = await self._meant(request.device)
        taken = request.force or request.allow_keyboard
        return BindPlan(
            device=device,
            use=await self.device_use(device),
            vmi=request.vmi,
            slot=request.slot or "flash",
            handover=HandoverKind.COLD,
            handover_doubt="this version has the api route only",
            notes=("a disk that the guest writes to loses its cache at a migration",)
            if device.kind == "storage"
            else (),
            trouble=None if taken else self.trouble,
        )

    async def confirm(self, redirection_id: RedirectionId) -> None:
        self._ask("confirm", redirection_id)

    async def unbind(self, redirection_id: RedirectionId) -> None:
        self._ask("unbind", redirection_id)
        await self._unbinds.wait()
        if redirection_id not in self._views:
            raise RedirectionNotFound(redirection_id)
        self.tell(RedirectionEnded(redirection_id))

    async def pause(self, redirection_id: RedirectionId) -> None:
        self._ask("pause", redirection_id)

    async def resume(self, redirection_id: RedirectionId) -> None:
        self._ask("resume", redirection_id)

    async def reconnect(self, redirection_id: RedirectionId) -> None:
        self._ask("reconnect", redirection_id)

    async def may_migrate(self, namespace: str) -> bool:
        if isinstance(self.may, VmRedirError):
            raise self.may
        return self.may

    async def name_slots(self, vmi: VmiRef, names: Sequence[str]) -> bool:
        self._ask("name_slots", (vmi, tuple(names)))
        return self.lasting

    async def vmi_yaml(self, vmi: VmiRef) -> str:
        self._ask("vmi_yaml", vmi)
        return f"kind: VirtualMachineInstance\nmetadata:\n  name: {vmi.name}\n"

    async def migrate(self, vmi: VmiRef) -> str:
        self._ask("migrate", vmi)
        return f"kubevirt-migrate-{vmi.name}"

    async def snapshot(self) -> Snapshot:
        return Snapshot(tuple(self._views.values()))

    @asynccontextmanager
    async def subscribe(self, *, numbers: bool = False) -> AsyncIterator[AsyncIterator[Change]]:
        assert numbers
        stream: _Stream[Change] = _Stream()
        self._changes.append(stream)
        stream.put(await self.snapshot())
        try:
            yield stream.items()
        finally:
            self._changes.remove(stream)

    def _seen(self) -> DevicesSeen:
        if isinstance(self.plugged, UsbError):
            return DevicesSeen((), Trouble.of(self.plugged))
        usual = DeviceUse(("usb-storage",))
        return DevicesSeen(
            tuple(
                DeviceSeen(device, self.uses.get(str(DeviceSelector.of(device)), usual))
                for device in self.plugged
            )
        )

    def _ask(self, command: str, about: object) -> None:
        self.asked.append((command, about))
        if (refusal := self.refusal) is not None:
            self.refusal = None
            raise refusal

    async def _meant(self, selector: DeviceSelector) -> LocalDevice:
        (device,) = [found for found in await self.devices() if selector.matches(found)]
        return device


def redirection(
    device: LocalDevice = STICK,
    to: VmiRef = FEDORA,
    slot: str = "flash",
    state: RedirectionState = RedirectionState.CONNECTED,
    *,
    number: int = 1,
) -> RedirectionStatus:
    """Return the status of a redirection."""
    return RedirectionStatus(
        id=RedirectionId(f"r{number}"),
        device=str(DeviceSelector.of(device)),
        description=device.product,
        vmi=to,
        slot=slot,
        state=state,
        node="node-1",
        handover_doubt="this version has the api route only",
    )


async def _at_once() -> None:
    """Nothing is in the way."""


def seen(*devices: LocalDevice) -> DevicesSeen:
    """Return what is told of these devices, which nothing on this machine needs."""
    return DevicesSeen(tuple(DeviceSeen(device, DeviceUse(("usb-storage",))) for device in devices))


def entrance_to(
    service: ScriptedService,
    *,
    lasting: bool = True,
    before: Callable[[], Awaitable[None]] = _at_once,
) -> Entrance:
    """Return the way to a session with the service.

    Args:
        service: The service.
        lasting: Whether an agent has it.
        before: What comes before a session is open.
    """

    @asynccontextmanager
    async def open_session(context: str | None) -> AsyncIterator[Session]:
        await before()
        context = context or "lab"
        yield Session(service, "demo", context, "alice", flags=("--lab",), lasting=lasting)

    return Entrance(open_session, contexts=lambda: ("lab", "prod"))
