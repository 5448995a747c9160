"""What the cursor is on, and why a key cannot act on it; no I/O, no widgets.

Each ``why_not`` function returns a sentence for the user, or nothing if the key can act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.tui.world import under_way

if TYPE_CHECKING:
    from kubectl_vmredir.model import LocalDevice
    from kubectl_vmredir.service.interface import RedirectionStatus, RedirectionView, VmiSlots
    from kubectl_vmredir.tui.world import World

_CAN: Final = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """What the cursor is on.

    Attributes:
        device: The device, in the list of devices.
        vmi: The VM, in the tree; or the one that has the device.
        slot: Name of the slot, in the tree.
        redirection: The redirection of that device, slot or VM.
    """

    device: LocalDevice | None = None
    vmi: VmiSlots | None = None
    slot: str | None = None
    redirection: RedirectionView | None = None


def device_name(device: LocalDevice) -> str:
    """Return what a device is called; untrusted."""
    return device.product or device.manufacturer or f"{device.kind} {device.ids}"


def redirected_name(world: World, status: RedirectionStatus) -> str:
    """Return what the device of a redirection is called; untrusted."""
    if (device := world.device_named(status.device)) is not None:
        return device_name(device)
    return status.description or status.device


def why_no_session(world: World) -> str:
    """Say why nothing can be asked of the cluster."""
    if world.session is not None:
        return _CAN
    if world.unopened is not None:
        return f"there is no cluster: {world.unopened.trouble.message}"
    return "the cluster is not connected yet"


def why_not_pick_device(world: World, selection: Selection) -> str:
    """Say why the device cannot be plugged into a VM."""
    if reason := why_no_session(world):
        return reason
    if selection.device is None:
        return "there is no USB device here to plug in"
    if (view := selection.redirection) is not None:
        if view.status.state is RedirectionState.BLOCKED:
            return _CAN  # it is given another try
        return (
            f"{device_name(selection.device)} is already in {view.status.vmi}: "
            "press u to unbind it first"
        )
    return _CAN


def why_not_pick_slot(world: World, selection: Selection) -> str:
    """Say why nothing can be plugged into the slot, or into any of the VM."""
    if reason := why_no_session(world):
        return reason
    if (entry := selection.vmi) is None:
        return "there is no VM here to plug a device into"
    name = entry.vmi.ref.name
    if not entry.slots:
        return f"VM {name} has no USB slots: press d to see how it gets them"
    if entry.vmi.phase != "Running":
        return f"VM {name} does not run: it is {entry.vmi.phase or 'new'}"
    if selection.slot is not None:
        view = world.in_slot(entry.vmi.ref, selection.slot)
        if view is None or view.status.state is RedirectionState.BLOCKED:
            return _CAN
        return (
            f"slot {selection.slot} already holds {redirected_name(world, view.status)}: "
            "press u to unbind it first"
        )
    if len(world.of_vmi(entry.vmi.ref)) >= len(entry.slots):
        return f"all slots of VM {name} hold devices of yours: press u to unbind one"
    return _CAN


def why_not_unbind(selection: Selection) -> str:
    """Say why there is nothing to unbind."""
    return _CAN if selection.redirection is not None else "nothing is plugged into a VM here"


def why_not_keep(selection: Selection) -> str:
    """Say why there is nothing to keep."""
    view = selection.redirection
    if view is not None and view.status.trial_ends is not None:
        return _CAN
    return "no keyboard or pointer is on trial here"


def why_not_migrate(world: World, selection: Selection) -> str:
    """Say why the VM cannot be asked to migrate."""
    if reason := why_no_session(world):
        return reason
    if selection.vmi is None:
        return "no VM is chosen: press 2 and move to one"
    vmi = selection.vmi.vmi
    if under_way(vmi) and vmi.migration is not None:
        where = f" to {vmi.migration.target_node}" if vmi.migration.target_node else ""
        return f"VM {vmi.ref.name} already migrates{where}"
    if vmi.migratable is False:
        return f"KubeVirt says that VM {vmi.ref.name} cannot migrate"
    if vmi.phase != "Running":
        return f"VM {vmi.ref.name} does not run: it is {vmi.phase or 'new'}"
    return _CAN
