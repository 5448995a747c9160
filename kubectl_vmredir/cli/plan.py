"""How a plan is shown: what a bind would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.cli.diagnostics import tell_trouble
from kubectl_vmredir.cli.output import API_VERSION, document, printable
from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.model import Danger, DeviceSelector, HandoverKind, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_vmredir.model import JsonValue
    from kubectl_vmredir.service.interface import BindPlan

_DANGERS: Final = {
    Danger.NEVER: "Never",
    Danger.FORCE: "With --force",
    Danger.ALLOW: "With --allow keyboard",
    Danger.NOTE: "Note",
}

_MIGRATION: Final = {
    HandoverKind.COLD: "the VM loses the device while it moves, and gets it back when the cluster "
    "leads to its new node",
    HandoverKind.WARM: "the VM loses the device while it moves, and gets it back as soon as it "
    "runs on its new node",
    HandoverKind.SEAMLESS: "the VM keeps the device",
}


def show(plan: BindPlan, output: str | None) -> int:
    """Print a plan; return the exit status that the bind would have."""
    if output is not None:
        document(_as_json(plan), output)
    else:
        rows = list(_rows(plan))
        width = max(len(title) for title, _ in rows)
        for title, text in rows:
            click.echo(f"{title:<{width}}   {printable(text)}")
    if plan.trouble is None:
        return ExitCode.OK
    tell_trouble(plan.trouble)
    return plan.trouble.exit_code


def _as_json(plan: BindPlan) -> JsonValue:
    fields, device = to_json(plan), to_json(plan.device)
    assert isinstance(fields, dict), "a dataclass is an object"
    assert isinstance(device, dict), "a dataclass is an object"
    return {
        "apiVersion": API_VERSION,
        "kind": "BindPlan",
        **fields,
        "device": {**device, "kind": plan.device.kind},
    }


def _rows(plan: BindPlan) -> Iterator[tuple[str, str]]:
    """Yield titles and untrusted texts."""
    device, use = plan.device, plan.use
    name = f"{device.manufacturer} {device.product}".strip()
    yield "Device", f"{DeviceSelector.of(device)} ({', '.join(filter(None, (device.kind, name)))})"
    if drivers := list(dict.fromkeys(filter(None, use.drivers))):
        yield "Driver", ", ".join(drivers)
    for holder in use.holders:
        yield (
            "Held by",
            holder.program if holder.pid is None else f"{holder.program} ({holder.pid})",
        )
    for finding in use.findings:
        yield _DANGERS[finding.danger], finding.message
    yield "VM", f"{plan.vmi}, slot {plan.slot}" if plan.slot else str(plan.vmi)
    doubt = f": {plan.handover_doubt}" if plan.handover_doubt else ""
    yield "Handover", f"{plan.handover}{doubt}"
    yield "Migration", _MIGRATION[plan.handover]
    found = {finding.message for finding in use.findings}
    for note in plan.notes:
        if note not in found:
            yield "Note", note
    if plan.waiting_for:
        yield "Waits for", plan.waiting_for
    yield "Result", "it would be bound" if plan.trouble is None else "it would be refused"
