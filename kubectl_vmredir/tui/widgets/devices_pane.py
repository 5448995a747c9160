"""The USB devices of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from textual.content import Content

from kubectl_vmredir.model import DeviceSelector, LocalDevice
from kubectl_vmredir.tui import empty, looks
from kubectl_vmredir.tui.drawing import Column, plain, printable
from kubectl_vmredir.tui.selection import device_name
from kubectl_vmredir.tui.widgets.pane import Pane

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from kubectl_vmredir.tui.world import World

_COLUMNS: Final = (
    Column("DEVICE"),
    Column("KIND", 9, from_width=69),
    Column("ID", 9, from_width=59),
    Column("PORT", 7, from_width=77),
    Column("STATE", 16),
)


class DevicesPane(Pane[LocalDevice]):
    """Lists devices, and whether they are free."""

    def __init__(self) -> None:
        super().__init__(
            "1 USB devices", _COLUMNS, key=_key, cells=self._device_cells, id="devices"
        )
        self._world: World | None = None

    def show(self, world: World) -> None:
        """Show what is known."""
        self._world = world
        self.set_class(world.unopened is not None, "-old")
        self.refilter()

    def refilter(self) -> None:
        """Show the devices that pass the filter."""
        if self._world is None:
            return
        devices = self._world.devices or ()
        matches = self.matches
        rows = [device for device in devices if matches(_searched(device))]
        hidden = len(devices) - len(rows)
        count = f"{len(rows)} of {len(devices)}" if hidden else ""
        self.show_rows(rows, empty.devices(self._world, hidden=0 if rows else hidden), count)

    def _device_cells(self, device: LocalDevice) -> Sequence[Content]:
        view = self._world.of_device(device) if self._world is not None else None
        serial = f" {printable(device.serial)}" if device.serial else ""
        if view is not None:
            look = looks.of_state(view.status.state)
        else:
            use = self._world.use_of(device) if self._world is not None else None
            look = looks.of_unused(use)
        return (
            Content.assemble(printable(device_name(device)), (serial, looks.Tone.QUIET.style)),
            Content(device.kind),
            Content(str(device.ids)),
            plain(device.port_path),
            look.content,
        )


def _key(device: LocalDevice) -> Hashable:
    return device.bus, device.port_path, device.ids, device.serial


def _searched(device: LocalDevice) -> str:
    return " ".join((
        device.manufacturer, device.product, device.kind, str(DeviceSelector.of(device)),
        device.port_path, device.serial or "",
    ))  # fmt: skip
