"""``kubectl vmredir devices``: the USB devices that can be bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.cli.options import ClusterCommand, output_flags
from kubectl_vmredir.cli.output import Column, Listing
from kubectl_vmredir.cli.run import local_devices
from kubectl_vmredir.model import DeviceSelector, LocalDevice

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Options

DEVICES: Final[Listing[LocalDevice]] = Listing(
    kind="LocalDeviceList",
    columns=(
        Column("DEVICE", lambda device: str(DeviceSelector.of(device))),
        Column("KIND", lambda device: device.kind),
        Column("NAME", lambda device: f"{device.manufacturer} {device.product}".strip()),
        Column("BUS-DEV", lambda device: device.bus_device),
        Column("PORT", lambda device: f"port:{device.port_path}"),
        Column("SPEED", lambda device: device.speed, wide=True),
        Column("SERIAL", lambda device: device.serial or "", wide=True),
        Column("NODE", lambda device: device.node or "virtual", wide=True),
    ),
    name=lambda device: str(DeviceSelector.of(device)),
    empty="No USB devices found.",
)


@click.command(cls=ClusterCommand)
@output_flags
@click.pass_obj
def command(options: Options, output: str | None, no_headers: bool) -> None:
    """List the USB devices that can be bound."""
    DEVICES.print(local_devices(options), output, headers=not no_headers)
