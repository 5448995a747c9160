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
_NO_VM: Final = "no VM is chosen: press 2 and move to one"


@dataclass(frozen=True, slots=True)
class Selection:
    """What the cursor is on.

    Attributes:
        device: The device, in the list of devices.
        vmi: The VM, in the tree; or the one that has the device.
        slot: Name of the slot, in the tree.
        redirection: The redirection of that device, slot or VM.
        in_story: Whether it is its story that is read.
    """

    device: LocalDevice | None = None
    vmi: VmiSlots | None = None
    slot: str | None = None
    redirection: RedirectionView | None = None
    in_story: bool = False


def device_name(device: LocalDevice) -> str:
    """Return what a device is called; untrusted."""
    return device.product or device.manufacturer or f"{device.kind} {device.ids}"


def redirected_name(world: World, status: RedirectionStatus) -> str:
    """Return what the device of a redirection is called; untrusted."""
    if (device := world.device_named(status.device)) is not None:
        return device_name(device)
    return status.description or status.device


def why_no_session(world: World) -> str:
    """Say why nothing can be asked of the service."""
    if world.session is not None:
        return _CAN
    if world.unopened is not None:
        what = "agent" if world.agent_gone else "cluster"
        return f"there is no {what}: {world.unopened.trouble.message}"
    return "the cluster is not connected yet"


def why_not_change(world: World) -> str:
    """Say why nothing at all can be changed."""
    if world.read_only:
        return "this is --read-only: nothing is changed from here"
    return why_no_session(world)


def why_not_pick_device(world: World, selection: Selection) -> str:
    """Say why the device cannot be plugged into a VM."""
    if reason := why_not_change(world):
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
    if reason := why_not_change(world):
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


def why_not_unbind(world: World, selection: Selection) -> str:
    """Say why there is nothing to unbind."""
    return why_not_change(world) or _why_no_redirection(selection)


def why_not_reconnect(world: World, selection: Selection) -> str:
    """Say why no link can be made anew."""
    if reason := why_not_unbind(world, selection):
        return reason
    if is_paused(selection):
        return "it is paused: press p to go on"
    return _CAN


def why_not_pause(world: World, selection: Selection) -> str:
    """Say why there is nothing to pause, or to go on with."""
    return why_not_unbind(world, selection)


def is_paused(selection: Selection) -> bool:
    """Return whether the redirection is paused by the user."""
    view = selection.redirection
    return view is not None and view.status.state is RedirectionState.PAUSED


def why_not_keep(world: World, selection: Selection) -> str:
    """Say why there is nothing to keep."""
    view = selection.redirection
    if view is not None and view.status.trial_ends is not None:
        return why_not_change(world)
    return "no keyboard or pointer is on trial here"


def why_no_vmi(world: World, selection: Selection) -> str:
    """Say why nothing of a VM can be shown."""
    if reason := why_no_session(world):
        return reason
    return _CAN if selection.vmi is not None else _NO_VM


def why_not_name_slots(world: World, selection: Selection) -> str:
    """Say why no slots can be named."""
    if reason := why_not_change(world):
        return reason
    if selection.vmi is None:
        return _NO_VM
    ref = selection.vmi.vmi.ref
    if not selection.vmi.slots:
        return f"VM {ref.name} has no USB slots: press d to see how it gets them"
    return _CAN


def why_not_leave_context(world: World) -> str:
    """Say why no other context can be chosen."""
    lasting = world.session is None or world.session.lasting
    if world.redirections and not lasting:
        return "devices are plugged in from this window: press u to unbind them first"
    return _CAN


def why_not_migrate(world: World, selection: Selection) -> str:
    """Say why the VM cannot be asked to migrate."""
    if reason := why_not_change(world):
        return reason
    if selection.vmi is None:
        return _NO_VM
    vmi = selection.vmi.vmi
    if under_way(vmi) and vmi.migration is not None:
        where = f" to {vmi.migration.target_node}" if vmi.migration.target_node else ""
        return f"VM {vmi.ref.name} already migrates{where}"
    if world.may_migrate.get(vmi.ref.namespace) is False:
        return (
            f"you may not migrate the VMs of namespace {vmi.ref.namespace}: "
            "the ClusterRole kubevirt.io:migrate would let you"
        )
    if vmi.migratable is False:
        return f"KubeVirt says that VM {vmi.ref.name} cannot migrate"
    if vmi.phase != "Running":
        return f"VM {vmi.ref.name} does not run: it is {vmi.phase or 'new'}"
    return _CAN


def _why_no_redirection(selection: Selection) -> str:
    return _CAN if selection.redirection is not None else "nothing is plugged into a VM here"
