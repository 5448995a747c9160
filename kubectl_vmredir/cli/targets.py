"""Which redirections a command is for: of all that the agent keeps up, those that are meant."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.cli.options import parse_target
from kubectl_vmredir.cli.reaching import adopted
from kubectl_vmredir.errors import UsageError, VmRedirError
from kubectl_vmredir.model import DeviceSelector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.agent.control import Overview, ServiceOverview
    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.model import LocalDevice, VmiRef
    from kubectl_vmredir.service.interface import RedirectionStatus

BoundKey = tuple[str, str]
"""Tells redirections of all services apart."""

NOTHING: Final = "No redirections."


@dataclass(frozen=True, slots=True)
class Bound:
    """A redirection, and the service that keeps it up."""

    service: ServiceOverview
    status: RedirectionStatus

    @property
    def key(self) -> BoundKey:
        """What is of no other redirection."""
        return self.service.id, self.status.id

    def __str__(self) -> str:
        status = self.status
        where = f" (context {self.service.context})" if self.service.context else ""
        return f"{status.id}: {status.device}, {place(status.vmi, status.slot)}{where}"


def place(vmi: VmiRef, slot: str) -> str:
    """Return a VM and a slot of it, which may not be known yet, in words."""
    return f"VM {vmi}, slot {slot}" if slot else f"VM {vmi}"


def target(vmi: VmiRef, slot: str) -> str:
    """Return a VM and a slot of it, which may not be known yet, as bind takes them."""
    return f"{vmi.name}/{slot}" if slot else vmi.name


def within(overview: Overview, options: Options) -> list[Bound]:
    """Return all redirections of an overview, or those of the context and so on that is named.

    Raises:
        UsageError: As :func:`is_within`.
    """
    return [bound for bound in everything(overview) if is_within(bound, options)]


def everything(overview: Overview) -> list[Bound]:
    """Return all redirections of an overview."""
    return [
        Bound(service, status) for service in overview.services for status in service.redirections
    ]


def is_within(bound: Bound, options: Options) -> bool:
    """Return whether a redirection is of the context, user, cluster and namespace that are named.

    Raises:
        UsageError: If something is named that redirections cannot be told apart by.
    """
    given = {
        "--kubeconfig": options.kubeconfig,
        "--cluster": options.cluster,
        "--token": options.token,
        "--as": options.impersonate_user or options.impersonate_groups or options.impersonate_uid,
    }
    if named := [flag for flag, value in given.items() if value]:
        raise UsageError(
            f"what is bound cannot be narrowed by {named[0]}",
            hint="It can be by --context, --user, -s and -n.",
        )
    service = bound.service
    return (
        options.context in (None, service.context)
        and options.user in (None, service.user)
        and options.server in (None, service.cluster)
        and options.namespace in (None, bound.status.vmi.namespace)
    )


async def meant(text: str, bound: Sequence[Bound]) -> Sequence[Bound]:
    """Return the redirections that a target means, at least one.

    Raises:
        UsageError: If it means none.
    """
    found = [one for one in bound if one.status.id == text]
    found = found or _by_device(text, bound)
    found = found or await _by_plugged_in(text, bound)
    found = found or _by_vmi(text, bound)
    if not found:
        there = "\n".join(f"  {one}" for one in bound)
        raise UsageError(
            f"nothing that is bound is {text!r}",
            hint=f"There are:\n{there}" if bound else f"{NOTHING}",
        )
    return found


async def the_one(text: str, bound: Sequence[Bound]) -> Bound:
    """Return the one redirection that a target means.

    Raises:
        UsageError: If it means none, or more than one.
    """
    found = await meant(text, bound)
    if len(found) > 1:
        candidates = "\n".join(f"  {one}" for one in found)
        same_id = len({one.status.id for one in found}) < len(found)
        by = "Name one of them, and its --context" if same_id else "Name one of them by its ID"
        raise UsageError(f"{text} means {len(found)} redirections", hint=f"{by}:\n{candidates}")
    return found[0]


def _by_device(text: str, bound: Sequence[Bound]) -> list[Bound]:
    """Return those whose selector says all that the text says."""
    if (said := _selector(text)) is None:
        return []
    wanted = (said.ids, said.serial, said.bus, said.address, said.port_path)
    found = []
    for one in bound:
        if (known := _selector(one.status.device)) is not None:
            has = (known.ids, known.serial, known.bus, known.address, known.port_path)
            if all(part in (None, own) for part, own in zip(wanted, has, strict=True)):
                found.append(one)
    return found


async def _by_plugged_in(text: str, bound: Sequence[Bound]) -> list[Bound]:
    """Return those whose device is plugged in, and is one that the text means."""
    if (said := _selector(text)) is None:
        return []
    found = []
    plugged: dict[str, Sequence[LocalDevice]] = {}
    for one in bound:
        if (service := one.service.id) not in plugged:
            plugged[service] = []
            with contextlib.suppress(VmRedirError):  # nothing is known of them then
                async with adopted(service) as client:
                    plugged[service] = await client.devices()
        known = _selector(one.status.device)
        if known is not None and any(
            known.matches(device) and said.matches(device) for device in plugged[service]
        ):
            found.append(one)
    return found


def _by_vmi(text: str, bound: Sequence[Bound]) -> list[Bound]:
    """Return those in a VM, or in a slot of it, whatever its namespace."""
    try:
        vmi, slot = parse_target(text, "")
    except UsageError:
        return []
    return [
        one for one in bound if one.status.vmi.name == vmi.name and slot in (None, one.status.slot)
    ]


def _selector(text: str) -> DeviceSelector | None:
    try:
        return DeviceSelector.parse(text)
    except ValueError:
        return None
