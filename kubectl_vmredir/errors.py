"""Every exception this package raises on purpose.

* VmRedirError
    * UsageError
        * RedirectionNotFound
    * ProtocolError
        * LocalProtocolError
        * RemoteProtocolError
    * UsbError
        * DeviceNotFound
        * DeviceAmbiguous
        * DeviceBusy
            * DeviceReleasing
        * DevicePermissionDenied
        * DeviceUnsafe
        * DeviceLost
        * UsbUnavailable
    * ClusterError
        * KubeconfigError
        * ClusterUnreachable
        * CertificateRejected
        * LoginRequired
        * Forbidden
        * RedirectRefused
        * VmiNotFound
        * VmiNotReady
        * NoUsbSlots
        * SlotNotFound
        * SlotsFull
        * SlotTaken
        * IdentityChanged
        * MigrationRefused
        * ExecFailed
        * EdgeUnavailable
    * StreamLost
        * PathBroken
    * AgentError
        * MessageMalformed
        * AgentGone
        * OtherVersion
    * LabError
        * MigrationFailed
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, ClassVar

from kubectl_vmredir.model import (
    Danger,
    DeviceSelector,
    Identity,
    LocalDevice,
    VmiRef,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kubectl_vmredir.model import Finding


class ExitCode(enum.IntEnum):
    """Exit status of the command; part of its contract (README.md)."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DEVICE = 3
    CLUSTER = 4
    TAKEN = 5
    INTERRUPTED = 130


class VmRedirError(Exception):
    """Base class: an error with a sentence for the user and, if we have one, a way out.

    Args:
        message: What failed, naming the object. One clause, lower case, no final stop.
        hint: What the user can do about it. Full sentences.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE
    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later with nothing changed by the user."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(VmRedirError):
    """The command line asks for something that cannot be meant."""

    exit_code = ExitCode.USAGE


class RedirectionNotFound(UsageError):
    """There is no redirection of that id."""

    def __init__(self, redirection_id: str) -> None:
        super().__init__(f"no redirection {redirection_id!r}")


class ProtocolError(VmRedirError):
    """usbredir was not spoken as it should be."""


class LocalProtocolError(ProtocolError):
    """Our own bug: we tried to send or do what the protocol forbids."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol forbids."""


class UsbError(VmRedirError):
    """Something about the local device."""

    exit_code = ExitCode.DEVICE


class DeviceNotFound(UsbError):
    """No local device is the one asked for."""

    def __init__(self, selector: DeviceSelector) -> None:
        super().__init__(
            f"no USB device {selector}",
            hint="List devices with: kubectl vmredir devices",
        )


class DeviceAmbiguous(UsbError):
    """More than one local device is the one asked for."""

    def __init__(self, selector: DeviceSelector, candidates: Sequence[LocalDevice]) -> None:
        names = [str(DeviceSelector.of(device)) for device in candidates]
        if len({*names}) < len(names):  # some have the same serial number
            names = [f"port:{device.port_path}" for device in candidates]
        lines = "\n".join(f"  {name}" for name in names)
        super().__init__(
            f"{selector} means {len(candidates)} devices",
            hint=f"Name one of them:\n{lines}",
        )


class DeviceBusy(UsbError):
    """The device is held by somebody else."""

    exit_code = ExitCode.TAKEN

    def __init__(self, device: LocalDevice, holder: str, *, hint: str | None = None) -> None:
        super().__init__(f"device {device} is held by {holder}", hint=hint)


class DeviceReleasing(DeviceBusy):
    """A process of ours still gives the device back."""

    retryable = True

    def __init__(self, device: LocalDevice, pid: int) -> None:
        which = f"process {pid} of ours" if pid else "a process of ours"
        super().__init__(device, f"{which}, which is just giving it back")


class DevicePermissionDenied(UsbError):
    """The device is plugged in, but this user may not open it."""

    def __init__(self, device: LocalDevice) -> None:
        selector = DeviceSelector.of(device)
        super().__init__(
            f"permission denied on {device.node} (device {device})",
            hint=(
                "Let your user open it, with the udev rule that this prints:\n"
                f"  kubectl vmredir doctor --udev-rule {selector}"
            ),
        )


class DeviceUnsafe(UsbError):
    """Taking the device from this machine would harm it, and was not asked for.

    Args:
        device: The device.
        findings: Those that forbid it, worst first; at least one.
    """

    exit_code = ExitCode.TAKEN

    def __init__(self, device: LocalDevice, findings: Sequence[Finding]) -> None:
        reasons = "; ".join(finding.message for finding in findings)
        hints = [finding.hint for finding in findings if finding.hint]
        if flags := _flags_against({finding.danger for finding in findings}):
            hints.append(f"To take it all the same, add: {flags}")
        super().__init__(
            f"device {device} is needed here: {reasons}", hint="\n".join(hints) or None
        )


def _flags_against(dangers: Collection[Danger]) -> str:
    if Danger.NEVER in dangers:
        return ""
    flags = {Danger.FORCE: "--force", Danger.ALLOW: "--allow keyboard"}
    return " ".join(flag for danger, flag in flags.items() if danger in dangers)


class DeviceLost(UsbError):
    """The device went away while it was in use."""

    retryable = True


class UsbUnavailable(UsbError):
    """This machine has no USB that we can use: no bus, no udev, or a library is missing."""


class ClusterError(VmRedirError):
    """Something about the cluster."""

    exit_code = ExitCode.CLUSTER


class KubeconfigError(ClusterError):
    """The kubeconfig is missing, broken, or lacks what was asked for."""


class ClusterUnreachable(ClusterError):
    """The API server does not answer, or something on the way to it does not."""

    retryable = True


class CertificateRejected(ClusterError):
    """The API server's certificate is not the one that the kubeconfig trusts."""


class LoginRequired(ClusterError):
    """The cluster does not know the credentials, or no longer."""


class Forbidden(ClusterError):
    """The cluster knows the user, who may not do this."""


class RedirectRefused(ClusterError):
    """The server sent us elsewhere: credentials go nowhere but where the user pointed them."""


class VmiNotFound(ClusterError):
    """No such VMI."""

    retryable = True

    def __init__(self, vmi: VmiRef) -> None:
        super().__init__(
            f"no running VM {vmi.name!r} in namespace {vmi.namespace!r}",
            hint="List VMs and their slots with: kubectl vmredir slots -A",
        )


class VmiNotReady(ClusterError):
    """The VMI exists, but its streams cannot be reached just now."""

    retryable = True


class NoUsbSlots(ClusterError):
    """The VMI has no USB redirection channels."""

    def __init__(self, vmi: VmiRef, reason: str = "") -> None:
        super().__init__(
            f"VM {vmi} has no USB slots" + (f": {reason}" if reason else ""),
            hint=None
            if reason
            else (
                "Add them to the VM and restart it:\n"
                f"  kubectl patch vm -n {vmi.namespace} {vmi.name} --type=merge -p "
                '\'{"spec":{"template":{"spec":{"domain":{"devices":{"clientPassthrough":{}}}}}}}\''
            ),
        )


class SlotNotFound(ClusterError):
    """The VMI has slots, but none of that name."""

    exit_code = ExitCode.USAGE

    def __init__(self, vmi: VmiRef, slot: str, names: Sequence[str]) -> None:
        super().__init__(
            f"VM {vmi} has no slot {slot!r}", hint=f"Its slots are: {', '.join(names)}."
        )


class SlotsFull(ClusterError):
    """All slots of the VMI are in use, as far as the cluster says."""

    exit_code = ExitCode.TAKEN
    retryable = True

    def __init__(self, vmi: VmiRef) -> None:
        super().__init__(
            f"all USB slots of VM {vmi} are in use",
            hint="Unbind a device, or end another client's virtctl usbredir, and try again.",
        )


class SlotTaken(ClusterError):
    """The slot holds another redirection of ours."""

    exit_code = ExitCode.TAKEN

    def __init__(self, vmi: VmiRef, slot: str, device: DeviceSelector) -> None:
        super().__init__(
            f"slot {slot!r} of VM {vmi} already holds {device}",
            hint="Choose another slot, or unbind that device first.",
        )


class IdentityChanged(ClusterError):
    """The credentials belong to somebody else than at bind."""

    exit_code = ExitCode.TAKEN

    def __init__(self, before: Identity, now: Identity) -> None:
        super().__init__(
            f"the credentials now belong to {now.username!r}, the device was bound by "
            f"{before.username!r}",
            hint="Log in as the user who bound the device, or bind it again.",
        )


class MigrationRefused(ClusterError):
    """The cluster did not start the migration."""


class ExecFailed(ClusterError):
    """A command in a pod did not do what it was asked for."""

    retryable = True


class EdgeUnavailable(ClusterError):
    """This installation has no edge for the machine that the VM runs on."""

    def __init__(self, architecture: str) -> None:
        super().__init__(
            f"this installation has no edge for {architecture}",
            hint="In a checkout of the source compile it with: make edge",
        )


class StreamLost(VmRedirError):
    """An open stream ended, for whatever reason: EOF, reset, migration of the VMI."""

    retryable = True


class PathBroken(StreamLost):
    """The way to the API server broke: the far end may not know yet, and hold its slot."""


class AgentError(VmRedirError):
    """Something about the background process that keeps redirections up."""


class MessageMalformed(AgentError):
    """What came through the agent's socket is not what was agreed on."""


class AgentGone(AgentError):
    """No agent answers, or it went away while it was asked."""

    retryable = True


class OtherVersion(AgentError):
    """The agent and its client are of different versions."""


class LabError(VmRedirError):
    """The lab could not do what it was asked for."""


class MigrationFailed(LabError):
    """A guest of the lab did not move; it runs on where it was, if its node does."""
