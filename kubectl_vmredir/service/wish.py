"""The wish for a redirection, and what it must pass to become one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_vmredir.errors import (
    DeviceAmbiguous,
    DeviceBusy,
    DeviceNotFound,
    NoUsbSlots,
    SlotNotFound,
    SlotsFull,
    SlotTaken,
    VmiNotReady,
)
from kubectl_vmredir.model import DeviceSelector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubectl_vmredir.model import LocalDevice, RedirectionId, VmiRef, VmiView


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user wants, as it was understood at bind.

    Attributes:
        id: Names the redirection.
        device: Selects exactly its device, also after a replug.
        description: What the device calls itself; untrusted.
        vmi: The VM.
        slot: Name of the slot.
        slot_index: Its place among the slots of the VM.
    """

    id: RedirectionId
    device: DeviceSelector
    description: str
    vmi: VmiRef
    slot: str
    slot_index: int


def only_one(devices: Sequence[LocalDevice], selector: DeviceSelector) -> LocalDevice:
    """Return the device that is meant.

    Raises:
        DeviceNotFound: If there is none.
        DeviceAmbiguous: If there is more than one.
    """
    match [device for device in devices if selector.matches(device)]:
        case []:
            raise DeviceNotFound(selector)
        case [device]:
            return device
        case candidates:
            raise DeviceAmbiguous(selector, candidates)


def lasting(
    selector: DeviceSelector, device: LocalDevice, plugged_in: Sequence[LocalDevice]
) -> DeviceSelector:
    """Return a selector that finds the device again after a replug, and no other one.

    That is the one with the same ids and serial, or with the same ids at the same port: what
    else is plugged in there is another device.

    Args:
        selector: What the user said.
        device: The device that is meant.
        plugged_in: All devices: serial numbers of cheap ones are often the same.
    """
    if selector.serial is not None:
        return selector
    by_itself = DeviceSelector.of(device)
    if selector.port_path is None and [*filter(by_itself.matches, plugged_in)] == [device]:
        return by_itself
    return DeviceSelector(device.ids, device.serial, port_path=device.port_path)


def description(device: LocalDevice) -> str:
    """Return what a device calls itself, or else what it is; untrusted text."""
    return " ".join(filter(None, (device.manufacturer, device.product))) or device.kind


def check_usable(vmi: VmiView) -> None:
    """Return if a VM can take devices.

    Raises:
        NoUsbSlots: If it has no slots.
        VmiNotReady: If it is not running.
    """
    if vmi.architecture == "s390x":
        raise NoUsbSlots(vmi.ref, "s390x has no USB")
    if not vmi.client_passthrough:
        raise NoUsbSlots(vmi.ref)
    if vmi.phase != "Running" or vmi.deleting:
        phase = "being deleted" if vmi.deleting else vmi.phase or "not started yet"
        raise VmiNotReady(
            f"VM {vmi.ref} is not running: it is {phase}", hint="Start it, and bind again."
        )


def check_unwished(device: LocalDevice, wishes: Iterable[Wish]) -> None:
    """Return if no other wish is for the device.

    Raises:
        DeviceBusy: If one is.
    """
    for wish in wishes:
        if wish.device.matches(device):
            raise DeviceBusy(device, f"slot {wish.slot!r} of VM {wish.vmi}")


def free_slot(vmi: VmiView, wanted: str | None, wishes: Iterable[Wish]) -> str:
    """Return the slot for a wish: the one that is wanted, or the first that is free.

    Raises:
        SlotNotFound: If the VM has no slot of that name.
        SlotTaken: If it is for another wish.
        SlotsFull: If all slots are for other wishes.
    """
    taken = {wish.slot: wish.device for wish in wishes if wish.vmi == vmi.ref}
    if wanted is None:
        free = next((name for name in vmi.slots if name not in taken), None)
        if free is None:
            raise SlotsFull(vmi.ref)
        return free
    if wanted not in vmi.slots:
        raise SlotNotFound(vmi.ref, wanted, vmi.slots)
    if wanted in taken:
        raise SlotTaken(vmi.ref, wanted, taken[wanted])
    return wanted
