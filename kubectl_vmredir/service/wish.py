"""The wish for a redirection, and what it must pass to become one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_vmredir.errors import (
    DeviceAmbiguous,
    DeviceNotFound,
    NoUsbSlots,
    SlotNotFound,
    SlotsFull,
    SlotTaken,
)
from kubectl_vmredir.model import SLOT_COUNT, DeviceSelector
from kubectl_vmredir.service.migration import FINAL_VMI_PHASES

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
        slot: Name of the slot; empty while the first free one is wanted of a VM not seen yet.
        slot_index: Its place among the slots of the VM; None until the VM was seen.
    """

    id: RedirectionId
    device: DeviceSelector
    description: str
    vmi: VmiRef
    slot: str
    slot_index: int | None

    @property
    def place(self) -> str:
        """Where the device is to be, for people."""
        slot = f"slot {self.slot!r} of VM" if self.slot else "a slot of VM"
        return f"{slot} {self.vmi}"


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


def waiting_for(ref: VmiRef, vmi: VmiView | None) -> str:
    """Return what is waited for if a VM does not run, for people; empty if it runs.

    Args:
        ref: The VM.
        vmi: As it was last seen; None if it is not there. Its phase is untrusted text.
    """
    if vmi is None:
        return f"VM {ref}, which does not exist"
    if vmi.deleting:
        return f"VM {ref}, which is being deleted"
    if vmi.phase != "Running":
        return f"VM {ref}, which is {vmi.phase or 'not started yet'}"
    return ""


def slots_of(vmi: VmiView | None) -> tuple[str, ...] | None:
    """Return the names of a VM's slots.

    None if they are not known: it is not there, or about to go, and its next life has slots of
    its own.

    Raises:
        NoUsbSlots: If it has no slots.
    """
    if vmi is None or vmi.deleting or vmi.phase in FINAL_VMI_PHASES:
        return None
    if vmi.architecture == "s390x":
        raise NoUsbSlots(vmi.ref, "s390x has no USB")
    if not vmi.client_passthrough:
        raise NoUsbSlots(vmi.ref)
    return vmi.slots


def free_slot(vmi: VmiRef, slots: Sequence[str] | None, wanted: str, wishes: Iterable[Wish]) -> str:
    """Return the slot for a wish: the one that is wanted, or the first that is free.

    Args:
        vmi: The VM.
        slots: Names of its slots; None if they are not known.
        wanted: Name of the slot that is wanted; empty for any.
        wishes: The other wishes.

    Returns:
        Its name; empty if any is wanted, and they are not known.

    Raises:
        SlotNotFound: If the VM has no slot of that name.
        SlotTaken: If it is for another wish.
        SlotsFull: If all slots are for other wishes, or as many wishes as it can have slots.
    """
    others = [wish for wish in wishes if wish.vmi == vmi]
    taken = {wish.slot: wish.device for wish in others}
    if wanted:
        if slots is not None and wanted not in slots:
            raise SlotNotFound(vmi, wanted, slots)
        if wanted in taken:
            raise SlotTaken(vmi, wanted, taken[wanted])
        return wanted
    if slots is None and len(others) < SLOT_COUNT:
        return ""
    if (free := next((name for name in slots or () if name not in taken), None)) is None:
        raise SlotsFull(vmi)
    return free
