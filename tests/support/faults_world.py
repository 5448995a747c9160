"""A lab that is hurt on purpose, and the agent that has to live with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar, assert_never

from kubectl_vmredir.errors import ClusterError, LabError
from kubectl_vmredir.k8s.objects import JsonObject
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.api.resources import NAMESPACES
from kubectl_vmredir.lab.api.server import ApiServer
from kubectl_vmredir.lab.cache import CONFLICT, NOT_FOUND
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.console import LOOK_INTERVAL_S
from kubectl_vmredir.lab.devices import keyboard, serial_adapter, smartcard, stick
from kubectl_vmredir.lab.devices.shelf import FILE_NAME
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.model import SLOT_COUNT, DeviceSelector, VmiRef
from tests.support.faults import Fault, Kind
from tests.support.faults_accounts import Account, Accounts
from tests.support.faults_process import AgentProcess, agent_process
from tests.support.relay import Relay

Found = TypeVar("Found")

SLOTS: Final = ("a", "b", "c", "d")
PAYLOAD: Final = b"payload-" + secrets.token_hex(12).encode()
"""What the sticks are full of."""

_NODES: Final = 3
_IMAGE_BYTES: Final = 256 << 10
_DEVICES: Final = (
    ("stick", stick.IDS),
    ("keyboard", keyboard.IDS),
    ("serial", serial_adapter.IDS),
    ("smartcard", smartcard.IDS),
)
_COUNTED: Final = frozenset({Kind.MIGRATION, Kind.FAILED_MIGRATION, Kind.HOST_KILLED})
"""Of which is known at once whether they came to anything."""
_TRIES: Final = 3
_PLUGGED: Final = re.compile(r"usb 1-(\d): SerialNumber: (\S+)")
_UNPLUGGED: Final = re.compile(r"usb 1-(\d): USB disconnect")


def serial_of(number: int) -> str:
    """Return the serial number of the device of a redirection."""
    return f"DEVICE{number:03}"


class World:
    """The lab, the ways to it, and the agent.

    Attributes:
        lab: The cluster.
        accounts: Who the agent is to it.
        agent: The agent.
        effects: How often each kind of fault was seen to do harm.

    Args:
        vms: How many VMs there are, with a device for each slot.
    """

    def __init__(
        self,
        lab: Lab,
        relays: Mapping[Account, Relay],
        accounts: Accounts,
        agent: AgentProcess,
        vms: int,
    ) -> None:
        self.lab = lab
        self.accounts = accounts
        self.agent = agent
        self.effects: Counter[Kind] = Counter()
        self._relays = relays
        self._vms = vms
        self._up = asyncio.Event()
        self._up.set()
        self._restarting = asyncio.Lock()
        self._remaking = [asyncio.Lock() for _ in range(vms)]

    @property
    def redirections(self) -> range:
        """Their numbers."""
        return range(self._vms * SLOT_COUNT)

    def vm(self, number: int) -> VmiRef:
        """Return the VM of a redirection."""
        return vm_of(number // SLOT_COUNT)

    def device(self, number: int) -> DeviceSelector:
        """Return the device of a redirection."""
        _, ids = _DEVICES[number % SLOT_COUNT]
        return DeviceSelector.parse(f"{ids}:{serial_of(number)}")

    def account(self, number: int) -> Account:
        """Return who has bound a redirection: all of a VM are of one."""
        return list(Account)[number // SLOT_COUNT % len(Account)]

    # -- faults -------------------------------------------------------------------------------

    async def suffer(self, faults: Iterable[Fault]) -> None:
        """Let the faults happen, each in its time; returns when the last one is over."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(begun_at + fault.at_s - loop.time())
                group.create_task(self._happen(fault), name=str(fault.kind))

    async def _happen(self, fault: Fault) -> None:
        for _ in range(_TRIES if fault.kind in _COUNTED else 1):
            # Another fault may be in the way: that VM is gone, say, or its migration is cut short.
            with contextlib.suppress(ClusterError, LabError):
                if harm := await self._make(fault):
                    self.effects[fault.kind] += harm
                    return

    async def _make(self, fault: Fault) -> int:
        """Make one fault; return how much harm was seen to be done, if that can be said now."""
        vm, account = self.vm(fault.victim), self.account(fault.victim)
        match fault.kind:
            case Kind.NETWORK_CUT:
                return await self._cut(self._relays[account], fault)
            case Kind.API_RESTART:
                return await self.restart_api(fault.lasts_s)
            case Kind.TOKEN_EXPIRED:
                self.accounts.renew(Account.ROBOT)
                return 0
            case Kind.LOGIN_EXPIRED:
                self.accounts.expire(Account.PERSON)
                await asyncio.sleep(fault.lasts_s)
                self.accounts.renew(Account.PERSON)
                return 0
            case Kind.MIGRATION:
                await self._at_rest(vm)
                move = await self._insist(lambda: self.lab.migrate(vm))
                return await move.finished()
            case Kind.FAILED_MIGRATION:
                return await self._fail_migration(vm)
            case Kind.WATCH_GONE:
                self._forget_history()
                return 0
            case Kind.HOST_KILLED:
                return await self.agent.kill_host(serial_of(fault.victim))
            case Kind.VM_RESTARTED:
                async with self._remaking[fault.victim // SLOT_COUNT]:
                    return await self._restart_vm(vm)
            case Kind.VM_RECREATED:
                async with self._remaking[fault.victim // SLOT_COUNT]:
                    return await self._recreate_vm(vm, fault.lasts_s)
            case _:
                assert_never(fault.kind)

    async def _cut(self, relay: Relay, fault: Fault) -> int:
        before = relay.cut_off
        relay.cut(silent=fault.silent)
        await asyncio.sleep(fault.lasts_s)
        relay.mend()
        return relay.cut_off - before

    async def restart_api(self, lasts_s: float = 0.5) -> int:
        """Restart the API server; return how many connections of the agent it broke."""
        async with self._restarting:
            broken = sum(relay.carries for relay in self._relays.values())
            self._up.clear()
            await self._api.stop()
            await asyncio.sleep(lasts_s)
            await self._api.start()
            self._up.set()
            return broken

    def restart_virt_api(self) -> None:
        """End all streams, and no watch."""
        self._api.stop_virt_api()
        self._api.start_virt_api()

    async def _fail_migration(self, vm: VmiRef) -> bool:
        await self._at_rest(vm)
        move = await self._insist(lambda: self.lab.migrate(vm, Step.PRE_SWITCHOVER))
        try:
            await move.held(Step.PRE_SWITCHOVER)
            await self._insist(lambda: self.lab.crash(vm, "targetPod"))
        finally:
            await self._insist(move.release)
        await move.finished()
        return move.vmim is not None and objects.phase(move.vmim) == "Failed"

    def _forget_history(self) -> None:
        store = self._api.store
        # A change that nobody has been told yet, and never will.
        store.put(NAMESPACES, store.list(NAMESPACES)[0])
        store.compact()

    async def _restart_vm(self, vm: VmiRef) -> bool:
        before = self._uid(vm)
        await self._insist(lambda: self._delete(Collection.VMIS, vm))
        await self.lab.until(lambda: self._uid(vm) not in (before, None), f"VM {vm} is another")
        return before is not None

    async def _recreate_vm(self, vm: VmiRef, lasts_s: float) -> bool:
        await self._insist(lambda: self._delete(Collection.VMS, vm))
        try:
            await self.lab.until(lambda: not self.lab.exists(vm), f"VM {vm} is gone")
            await asyncio.sleep(lasts_s)
        finally:
            await self._insist(lambda: self._create(vm))
        return True

    async def _delete(self, collection: Collection, vm: VmiRef) -> None:
        """Delete an object, unless the answer to the same wish was lost before."""
        try:
            await self.lab.client.delete(f"{collection.of(vm.namespace)}/{vm.name}")
        except StatusError as error:
            if error.status != NOT_FOUND:
                raise

    async def _create(self, vm: VmiRef) -> None:
        """Create a VM, unless the answer to the same wish was lost before."""
        try:
            await self.lab.create_vm(vm, slots=SLOTS)
        except StatusError as error:
            if error.status != CONFLICT:
                raise

    # -- peace --------------------------------------------------------------------------------

    async def calm(self) -> None:
        """Wait until all VMs run, and none moves."""
        for vm in map(vm_of, range(self._vms)):
            await self._at_rest(vm)

    async def _at_rest(self, vm: VmiRef) -> None:
        try:
            await self.lab.until(lambda: self._unrest(vm) is None or None, f"{vm} is at rest")
        except LabError as error:
            raise LabError(f"{vm} does not come to rest: {self._unrest(vm)}") from error

    def _unrest(self, vm: VmiRef) -> JsonObject | None:
        """Return what of a VM is not at rest, if anything."""
        vmi = self.lab.vmi(vm)
        if vmi is None or objects.phase(vmi) != "Running" or objects.deleting(vmi):
            return vmi or {}
        return next(
            (
                move
                for move in self.lab.cache.items(Collection.VMIMS)
                if objects.spec(move)["vmiName"] == vm.name and not objects.is_final(move)
            ),
            None,
        )

    async def seen_by_guests(self, limit_s: float) -> None:
        """Wait until the kernel of each VM has the devices that are bound to it.

        Those that it had before it came to its node are not known to be there.
        """
        for number in range(self._vms):
            first = number * SLOT_COUNT
            wanted = {serial_of(first + slot) for slot in range(SLOT_COUNT)}
            try:
                async with asyncio.timeout(limit_s):
                    while self._seen_by(vm_of(number)) != wanted:  # noqa: ASYNC110 - a file
                        await asyncio.sleep(LOOK_INTERVAL_S)
            except TimeoutError:
                seen = self._seen_by(vm_of(number))
                raise AssertionError(f"{vm_of(number)} has {seen}, not {wanted}") from None

    def _seen_by(self, vm: VmiRef) -> set[str]:
        # The target of a migration that failed has a log, too, and nothing in it.
        log = [log for log in self.lab.console_log(vm) if log.stat().st_size][-1]
        seen: dict[str, str] = {}
        for line in log.read_text().splitlines():
            if found := _PLUGGED.search(line):
                seen[found[1]] = found[2]
            elif found := _UNPLUGGED.search(line):
                seen.pop(found[1], None)
        return set(seen.values())

    def last_words(self) -> Counter[str]:
        """Return what the guests' QEMUs wrote to stderr; one that is killed says why."""
        return Counter(
            line
            for log in self.lab.folder.rglob("qemu.log")
            for line in log.read_text().splitlines()
        )

    # -- inside -------------------------------------------------------------------------------

    @property
    def _api(self) -> ApiServer:
        assert self.lab.api is not None, "the lab runs in this process"
        return self.lab.api

    def _uid(self, vm: VmiRef) -> str | None:
        vmi = self.lab.vmi(vm)
        return None if vmi is None else objects.uid(vmi)

    async def _insist(self, ask: Callable[[], Awaitable[Found]]) -> Found:
        """Ask the API server until it is there to answer."""
        while True:
            await self._up.wait()
            try:
                return await ask()
            except ClusterError as error:
                if not error.retryable:
                    raise


def vm_of(number: int) -> VmiRef:
    """Return a VM by its number."""
    return VmiRef("demo", f"vm{number:02}")


@asynccontextmanager
async def a_world(folder: Path, vms: int) -> AsyncIterator[World]:
    """Give a lab with so many VMs that run, and an agent that knows nothing yet."""
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(Lab(folder / "lab", nodes=_NODES))
        assert lab.api is not None, "the lab runs in this process"
        async with asyncio.TaskGroup() as group:
            for number in range(vms):
                group.create_task(lab.create_vm(vm_of(number), slots=SLOTS))
        for number in range(vms):
            await lab.wait_running(vm_of(number))
        port = int(lab.api.url.rpartition(":")[2])
        relays = {
            account: await stack.enter_async_context(Relay(port).listening()) for account in Account
        }
        for name in ("accounts", "agent", "devices"):
            (folder / name).mkdir()
        accounts = Accounts(
            lab.api,
            folder / "accounts",
            {account: relay.port for account, relay in relays.items()},
        )
        _make_devices(folder / "devices", vms)
        agent = await stack.enter_async_context(agent_process(folder / "agent", folder / "devices"))
        yield World(lab, relays, accounts, agent, vms)


def _make_devices(folder: Path, vms: int) -> None:
    image = (PAYLOAD * (_IMAGE_BYTES // len(PAYLOAD) + 1))[:_IMAGE_BYTES]
    listed = []
    for number in range(vms * SLOT_COUNT):
        kind, _ = _DEVICES[number % SLOT_COUNT]
        listed.append({"kind": kind, "serial": serial_of(number)})
        if kind == "stick":
            listed[-1]["image"] = name = f"image{number:03}"
            (folder / name).write_bytes(image)
    (folder / FILE_NAME).write_text(json.dumps(listed))
