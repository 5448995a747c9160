"""What speaks against taking a device from this machine, and what is said of it. Pure.

What there is to know is found by the devices' side (:class:`~kubectl_vmredir.model.DeviceUse`);
here it is weighed against what the user accepts. Asked when a device is wished for, and again
before each claim: in between it may have been mounted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, assert_never

from kubectl_vmredir.errors import DeviceBusy, DevicePermissionDenied, DeviceUnsafe
from kubectl_vmredir.model import Danger, HandoverKind

if TYPE_CHECKING:
    from kubectl_vmredir.model import DeviceUse, Finding, LocalDevice
    from kubectl_vmredir.service.interface import BindRequest

_MASS_STORAGE: Final = 8

STORAGE_NOTE: Final = (
    "a migration unplugs the disk for a moment: what the guest has not written by then is lost"
)
"""True while the handover is cold or warm (docs/migration.md)."""


@dataclass(frozen=True, slots=True)
class Consent:
    """Which dangers the user accepts.

    Attributes:
        force: Those of danger ``force``.
        allow_keyboard: That the only keyboard or pointer of this machine is taken, on trial.
    """

    force: bool = False
    allow_keyboard: bool = False

    @classmethod
    def of(cls, request: BindRequest) -> Self:
        """Return what a request accepts."""
        return cls(request.force, request.allow_keyboard)

    def covers(self, danger: Danger) -> bool:
        """Return whether this danger is accepted."""
        match danger:
            case Danger.NEVER:
                return False
            case Danger.FORCE:
                return self.force
            case Danger.ALLOW:
                return self.allow_keyboard
            case Danger.NOTE:
                return True
            case _:
                assert_never(danger)


def check_safe(device: LocalDevice, use: DeviceUse, consent: Consent) -> None:
    """Return if taking the device harms nothing here but what the user accepts.

    Raises:
        DeviceUnsafe: If it does.
    """
    if refused := [finding for finding in use.findings if not consent.covers(finding.danger)]:
        raise DeviceUnsafe(device, refused)


def check_free(device: LocalDevice, use: DeviceUse) -> None:
    """Return if the device can be had, as far as can be seen without taking it.

    Raises:
        DeviceBusy: If another program has it, or another process of ours.
        DevicePermissionDenied: If this user may not open it.
    """
    if use.redirected_by is not None:
        raise DeviceBusy(device, f"process {use.redirected_by}, which redirects it")
    for holder in use.holders:
        if holder.claims:
            who = holder.program if holder.pid is None else f"{holder.program} ({holder.pid})"
            hint = f"Make it let go with:\n  {holder.command}" if holder.command else None
            raise DeviceBusy(device, who, hint=hint)
    if not use.openable:
        raise DevicePermissionDenied(device)


def on_trial(use: DeviceUse) -> Finding | None:
    """Return why the device comes back unless somebody confirms that it may stay away."""
    return next((finding for finding in use.findings if finding.danger is Danger.ALLOW), None)


def notes(device: LocalDevice, use: DeviceUse, handover: HandoverKind) -> tuple[str, ...]:
    """Return what the user is to know of a device that is taken; may hold untrusted text."""
    told = [finding.message for finding in use.findings]
    if handover is not HandoverKind.SEAMLESS and _is_disk(device):
        told.append(STORAGE_NOTE)
    return tuple(told)


def _is_disk(device: LocalDevice) -> bool:
    return any(usb_class.base == _MASS_STORAGE for usb_class in device.classes)
