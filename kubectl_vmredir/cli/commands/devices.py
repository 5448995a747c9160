"""``kubectl vmredir devices``: the USB devices that can be bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.cli.options import ClusterCommand, output_flags
from kubectl_vmredir.cli.output import Column, Listing
from kubectl_vmredir.cli.run import local_devices
from kubectl_vmredir.model import DeviceSelector, DeviceUse, LocalDevice, to_json

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.model import JsonValue


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device, and how this machine uses it."""

    device: LocalDevice
    use: DeviceUse

    @property
    def selector(self) -> str:
        """What the user calls it."""
        return str(DeviceSelector.of(self.device))

    @property
    def title(self) -> str:
        """What it calls itself; untrusted."""
        return f"{self.device.manufacturer} {self.device.product}".strip()

    @property
    def access(self) -> str:
        """Whether this user may open it."""
        if not self.use.known:
            return "unknown"
        return "yes" if self.use.openable else "no"

    @property
    def used_by(self) -> str:
        """Programs that use it, with their processes; untrusted."""
        users = [(holder.program, holder.pid) for holder in self.use.holders]
        if self.use.redirected_by is not None:
            users.insert(0, ("kubectl-vmredir", self.use.redirected_by))
        return ", ".join(f"{program} ({pid})" if pid else program for program, pid in users)

    @property
    def drivers(self) -> str:
        """Kernel driver of each interface."""
        return ",".join(driver or "-" for driver in self.use.drivers)

    def as_json(self) -> JsonValue:
        """Return the fields of the device, with its kind in words, and its use."""
        fields = to_json(self.device)
        assert isinstance(fields, dict), "a dataclass is an object"
        return {**fields, "kind": self.device.kind, "use": to_json(self.use)}


DEVICES: Final[Listing[DeviceRow]] = Listing(
    kind="LocalDeviceList",
    columns=(
        Column("DEVICE", lambda row: row.selector),
        Column("KIND", lambda row: row.device.kind),
        Column("NAME", lambda row: row.title),
        Column("BUS-DEV", lambda row: row.device.bus_device),
        Column("PORT", lambda row: f"port:{row.device.port_path}"),
        Column("ACCESS", lambda row: row.access),
        Column("USED-BY", lambda row: row.used_by),
        Column("SPEED", lambda row: row.device.speed, wide=True),
        Column("SERIAL", lambda row: row.device.serial or "", wide=True),
        Column("NODE", lambda row: row.device.node or "virtual", wide=True),
        Column("DRIVERS", lambda row: row.drivers, wide=True),
    ),
    name=lambda row: row.selector,
    empty="No USB devices found.",
    json=DeviceRow.as_json,
)


@click.command(cls=ClusterCommand)
@output_flags
@click.pass_obj
def command(options: Options, output: str | None, no_headers: bool) -> None:
    """List the USB devices that can be bound, and who uses them.

    Without access, see: kubectl vmredir doctor
    """
    rows = [DeviceRow(device, use) for device, use in local_devices(options)]
    DEVICES.print(rows, output, headers=not no_headers)
