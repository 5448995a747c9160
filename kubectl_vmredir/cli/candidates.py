"""What an argument may be, for the tab key: devices here, VMs and slots there, what is bound.

A shell has no place for an error: what cannot be had, or not in time, is not offered. Nor is text
of a device or of the cluster that would be more than one plain word.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from click.core import ParameterSource
from click.shell_completion import CompletionItem

from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.cli.reaching import service_anywhere
from kubectl_vmredir.cli.run import local_devices, unwrapped
from kubectl_vmredir.cli.targets import target
from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.model import DeviceSelector

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

    from kubectl_vmredir.agent.control import Overview
    from kubectl_vmredir.service.interface import VmiSlots

    Candidates = list[CompletionItem[str]]

LIMIT_S: Final = 5.0
"""Whoever presses the key waits for it; kubectl lets its own requests take as long."""

_WORD: Final = re.compile(r"[A-Za-z0-9._:/-]{1,256}")


def devices(context: click.Context, _argument: click.Parameter, unfinished: str) -> Candidates:
    """Return the devices that can be named."""
    try:
        found = local_devices(_options(context))
    except VmRedirError:
        return []
    selectors = ((str(DeviceSelector.of(device)), device) for device, _ in found)
    return _offer(
        unfinished, [(name, f"{device.kind}: {device.product}") for name, device in selectors]
    )


def vms(context: click.Context, _argument: click.Parameter, unfinished: str) -> Candidates:
    """Return the VMs that have slots."""
    return _offer(
        unfinished,
        [(entry.vmi.ref.name, entry.vmi.phase) for entry in _vms(context) if entry.slots],
    )


def slots(context: click.Context, _argument: click.Parameter, unfinished: str) -> Candidates:
    """Return the VMs with each of their slots."""
    return _offer(
        unfinished,
        [
            (f"{entry.vmi.ref.name}/{slot}", entry.vmi.phase)
            for entry in _vms(context)
            for slot in entry.vmi.slots
        ],
    )


def bound(_context: click.Context, _argument: click.Parameter, unfinished: str) -> Candidates:
    """Return the slots in which something is."""

    async def ask() -> Overview:
        async with asyncio.timeout(LIMIT_S), connect(Places.of_user().socket) as (line, _):
            return await AgentClient(line).overview()

    try:
        overview = unwrapped(lambda: asyncio.run(ask()))
    except (VmRedirError, TimeoutError):
        return []
    statuses = [status for service in overview.services for status in service.redirections]
    return _offer(
        unfinished,
        [
            (target(status.vmi, status.slot), f"{status.state}: {status.device}")
            for status in statuses
        ],
    )


def _offer(unfinished: str, words: Sequence[tuple[str, str]]) -> Candidates:
    return [
        CompletionItem(word, help=meaning)
        for word, meaning in words
        if word.startswith(unfinished) and _WORD.fullmatch(word)
    ]


def _vms(context: click.Context) -> Sequence[VmiSlots]:
    options = _options(context)

    async def ask() -> Sequence[VmiSlots]:
        async with asyncio.timeout(LIMIT_S), service_anywhere(options) as reached:
            return await reached.service.vmis(reached.namespace)

    try:
        return unwrapped(lambda: asyncio.run(ask()))
    except (VmRedirError, TimeoutError):
        return ()


def _options(context: click.Context) -> Options:
    """Return what was said of cluster and devices so far, before and after the command."""
    said = {
        name: value
        for each in (context.parent, context)
        if each is not None
        for name, value in each.params.items()
        if each.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    return Options(
        **{field.name: said[field.name] for field in fields(Options) if field.name in said}
    )
