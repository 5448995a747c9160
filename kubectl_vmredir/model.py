"""Values that all parts share; standard library only.

Everything here is frozen and can be written as JSON with :func:`to_json`.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NewType, Self

JsonValue = bool | int | float | str | None | list["JsonValue"] | dict[str, "JsonValue"]

SLOT_COUNT: Final = 4
"""USB redirection channels of a VMI with clientPassthrough (UsbClientPassthroughMaxNumberOf)."""

RedirectionId = NewType("RedirectionId", str)
"""Names a redirection for as long as it is wanted; short, unique in one service."""

MigrationUid = NewType("MigrationUid", str)
"""``metadata.uid`` of a VirtualMachineInstanceMigration; ``migrationState.migrationUid``."""

VmiUid = NewType("VmiUid", str)
"""``metadata.uid`` of a VirtualMachineInstance; a restarted VM has a new one."""


def to_json(value: object) -> JsonValue:
    """Return ``value`` as JSON: dataclasses become objects, enums their values.

    Raises:
        TypeError: If there is something in it that has no JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    match value:
        case enum.Enum():
            return to_json(value.value)
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case list() | tuple() | frozenset():
            return [to_json(item) for item in value]
        case _:
            raise TypeError(f"no JSON form for {type(value).__name__}")


class Speed(enum.StrEnum):
    """Speed of a USB device."""

    LOW = "low"
    FULL = "full"
    HIGH = "high"
    SUPER = "super"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, order=True)
class VendorProduct:
    """USB vendor id and product id, as lsusb writes them."""

    vendor_id: int
    product_id: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``vvvv:pppp`` in hex.

        Raises:
            ValueError: If it is something else.
        """
        if not (found := re.fullmatch(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{4})", text)):
            raise ValueError(f"expected vvvv:pppp in hex, got {text!r}")
        return cls(int(found[1], 16), int(found[2], 16))

    def __str__(self) -> str:
        return f"{self.vendor_id:04x}:{self.product_id:04x}"


@dataclass(frozen=True, slots=True)
class UsbClass:
    """Class triple of one interface."""

    base: int
    sub: int
    protocol: int


_KINDS: Final = {
    1: "audio", 2: "serial", 3: "input", 6: "camera", 7: "printer", 8: "storage", 9: "hub",
    10: "serial", 11: "smartcard", 14: "camera", 224: "wireless",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalDevice:
    """A USB device that this machine, or the lab in this process, can offer to a VM.

    Attributes:
        ids: Vendor and product id.
        bus: Bus number.
        address: Device address on the bus, as lsusb shows it; changes at each replug.
        port_path: Where it is plugged in, for instance ``1-4.2``; stays over a replug.
        serial: Serial number; untrusted text of the device. None if it has none.
        manufacturer: Untrusted text of the device.
        product: Untrusted text of the device.
        speed: Speed it runs at.
        classes: Class triples of its interfaces, in order.
        node: Device node, None for a virtual device.
        virtual: Whether it exists in software only.
        word: What it is, where more is known than its classes say; empty if not.
    """

    ids: VendorProduct
    bus: int
    address: int
    port_path: str
    serial: str | None
    manufacturer: str
    product: str
    speed: Speed
    classes: tuple[UsbClass, ...]
    node: str | None = None
    virtual: bool = False
    word: str = field(default="", compare=False)

    @property
    def bus_device(self) -> str:
        """``BUS-DEV`` as lsusb and virtctl write it."""
        return f"{self.bus}-{self.address}"

    @property
    def kind(self) -> str:
        """A word for what it is."""
        if self.word:
            return self.word
        for usb_class in self.classes:
            if usb_class.base == 3 and usb_class.sub == 1:
                return {1: "keyboard", 2: "mouse"}.get(usb_class.protocol, "input")
            if usb_class.base in _KINDS:
                return _KINDS[usb_class.base]
        return "other"

    def __str__(self) -> str:
        return str(self.ids)


class Danger(enum.StrEnum):
    """What a finding means for who wants to take a device from this machine."""

    NEVER = "never"
    """It is refused, whatever is asked."""
    FORCE = "force"
    """It is done only with ``--force``."""
    ALLOW = "allow"
    """It is done only with ``--allow keyboard``, and undone unless confirmed in time."""
    NOTE = "note"
    """It is done, and said."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know before a device is taken from this machine.

    Attributes:
        danger: What it means.
        message: One clause, for people; may hold untrusted text.
        hint: What to do about it, if there is something; a command where there is one.
    """

    danger: Danger
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """A program of this machine that uses a device through a node of its own.

    Attributes:
        program: Its name; untrusted. ``another user's program`` where it cannot be seen.
        pid: Process id; None where it cannot be seen.
        node: The node that it holds, or the interface that it has claimed.
        claims: Whether it has claimed an interface, so that nobody else can have the device.
        command: What makes it let go; empty if we know nothing.
    """

    program: str
    pid: int | None
    node: str
    claims: bool
    command: str = ""


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """How this machine uses a device right now. Changes all the time, unlike the device.

    Attributes:
        drivers: Kernel driver of each interface, in their order; empty text for none.
            ``usbfs`` is a program in user space.
        openable: Whether this user may open the device node.
        holders: Programs that use it, other than ours.
        redirected_by: Process id of ours that has claimed it; None if there is none.
        findings: What to know before it is taken, worst first.
        known: Whether it could be seen. If not a finding says why, and the rest says nothing.
    """

    drivers: tuple[str, ...] = ()
    openable: bool = True
    holders: tuple[Holder, ...] = ()
    redirected_by: int | None = None
    findings: tuple[Finding, ...] = ()
    known: bool = True


class Outcome(enum.StrEnum):
    """What came of a :class:`Check`."""

    OK = "ok"
    WARNING = "warning"
    """Something is not as it should be; most things work."""
    FAILED = "failed"
    """Without it nothing works."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at on this machine.

    Attributes:
        name: What was looked at; stable, for scripts. Several may have the same.
        outcome: How it stands.
        message: One clause, for people; may hold untrusted text.
        command: What repairs it; empty if nothing has to be, or we know no command.
    """

    name: str
    outcome: Outcome
    message: str
    command: str = ""


_SELECTOR: Final = (
    re.compile(r"(?P<ids>[0-9a-fA-F]{4}:[0-9a-fA-F]{4})(?::(?P<serial>.+))?"),
    re.compile(r"(?P<bus>\d{1,3})-(?P<address>\d{1,3})"),
    re.compile(r"port:(?P<port>\d+-\d+(?:\.\d+)*)"),
)


@dataclass(frozen=True, slots=True)
class DeviceSelector:
    """Which device is meant: the one that has all that is set.

    The user says ``VID:PID``, ``VID:PID:SERIAL``, ``BUS-DEV`` or ``port:PATH``. One that was made
    of a device holds more than it shows: what else is plugged into its port is another device.
    """

    ids: VendorProduct | None = None
    serial: str | None = None
    bus: int | None = None
    address: int | None = None
    port_path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one of the four forms.

        Raises:
            ValueError: If it is none of them.
        """
        for pattern in _SELECTOR:
            if found := pattern.fullmatch(text):
                parts = found.groupdict()
                if "ids" in parts:
                    return cls(ids=VendorProduct.parse(parts["ids"]), serial=parts["serial"])
                if "bus" in parts:
                    return cls(bus=int(parts["bus"]), address=int(parts["address"]))
                return cls(port_path=parts["port"])
        raise ValueError(
            f"expected VID:PID, VID:PID:SERIAL, BUS-DEV or port:PATH for a device, got {text!r}"
        )

    @classmethod
    def of(cls, device: LocalDevice) -> Self:
        """Return a selector for exactly this device: by serial where it has a plain one.

        The serial comes from the device, so it is shown only where it cannot be taken for
        anything else in a command line.
        """
        if device.serial and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", device.serial):
            return cls(ids=device.ids, serial=device.serial)
        return cls(ids=device.ids, serial=device.serial, port_path=device.port_path)

    def matches(self, device: LocalDevice) -> bool:
        """Return whether this is one of the devices meant."""
        return (
            (self.ids is None or self.ids == device.ids)
            and (self.serial is None or self.serial == device.serial)
            and (self.bus is None or (self.bus, self.address) == (device.bus, device.address))
            and (self.port_path is None or self.port_path == device.port_path)
        )

    def __str__(self) -> str:
        if self.port_path is not None:
            return f"port:{self.port_path}"
        if self.ids is not None:
            return f"{self.ids}:{self.serial}" if self.serial else str(self.ids)
        return f"{self.bus}-{self.address}"


@dataclass(frozen=True, slots=True, order=True)
class VmiRef:
    """Names a VirtualMachineInstance of one cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Route(enum.StrEnum):
    """How a link is dialed; docs/architecture.md."""

    API = "api"
    POD = "pod"


@dataclass(frozen=True, slots=True)
class Exact:
    """A link's end is known to the byte: so many of our bytes were consumed."""

    offset: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows how much of what we sent on a link was consumed."""


Boundary = Exact | Unknown
"""Where a link ended; docs/architecture.md."""


class HandoverKind(enum.StrEnum):
    """What happens to the device session when the VM side changes; docs/migration.md."""

    COLD = "cold"
    WARM = "warm"
    SEAMLESS = "seamless"


class RedirectionState(enum.StrEnum):
    """States of a redirection: the only list."""

    WAITING_DEVICE = "waiting-device"
    CLAIMING = "claiming"
    DIALING = "dialing"
    CONNECTED = "connected"
    STALLED = "stalled"
    """The link is up, nothing comes back."""
    MIGRATING = "migrating"
    """A migration is under way; the link is up."""
    HANDING_OVER = "handing-over"
    HOLDING = "holding"
    """No link; trying."""
    PAUSED = "paused"
    BLOCKED = "blocked"
    """A person must act."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are to the cluster.

    Attributes:
        username: As the API server sees it, or the kubeconfig's user name.
        uid: Empty where the API server knows none.
        reviewed: Whether it comes from a SelfSubjectReview.
    """

    username: str
    uid: str = ""
    reviewed: bool = True


@dataclass(frozen=True, slots=True)
class MigrationView:
    """``status.migrationState`` of a VMI, as much as matters here; docs/facts/kubevirt.md.

    Timestamps are the cluster's, RFC 3339, kept as text: they are compared with nothing but
    themselves. Absent booleans are False, absent texts empty.
    """

    uid: MigrationUid
    source_node: str = ""
    target_node: str = ""
    source_pod: str = ""
    target_pod: str = ""
    start_timestamp: str = ""
    target_domain_detected: bool = False
    target_domain_ready_timestamp: str = ""
    end_timestamp: str = ""
    mode: str = ""
    completed: bool = False
    failed: bool = False
    abort_requested: bool = False
    abort_status: str = ""
    failure_reason: str = ""


@dataclass(frozen=True, slots=True)
class VmiView:
    """A VirtualMachineInstance, as much as matters here.

    Attributes:
        ref: Namespace and name.
        uid: Changes when the VM restarts.
        phase: ``Running`` and others, as KubeVirt spells them; empty at first.
        node: ``status.nodeName``: where the usbredir subresource leads.
        client_passthrough: Whether it has USB redirection channels at all.
        slots: Names of the slots, in order of their index; empty without passthrough.
        migratable: Condition LiveMigratable; None while it is unknown.
        migration: The current or last migration.
        deleting: Whether a deletionTimestamp is set.
        architecture: ``spec.architecture``; s390x has no USB.
        slots_problem: Why the names that the VMI gives its slots are not used; empty if they are.
    """

    ref: VmiRef
    uid: VmiUid
    phase: str = ""
    node: str = ""
    client_passthrough: bool = False
    slots: tuple[str, ...] = ()
    migratable: bool | None = None
    migration: MigrationView | None = None
    deleting: bool = False
    architecture: str = ""
    slots_problem: str = ""


@dataclass(frozen=True, slots=True)
class VmimView:
    """A VirtualMachineInstanceMigration, as much as matters here."""

    namespace: str
    name: str
    uid: MigrationUid
    vmi_name: str
    phase: str = ""
    source_node: str = ""
    target_node: str = ""
    deleting: bool = False
