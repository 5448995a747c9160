"""All that is known of a device, a VM or a redirection, for who wants to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from kubectl_vmredir.model import DeviceSelector
from kubectl_vmredir.tui import empty, looks, story
from kubectl_vmredir.tui.drawing import byte_count, plain, printable
from kubectl_vmredir.tui.looks import Tone
from kubectl_vmredir.tui.selection import redirected_name
from kubectl_vmredir.tui.world import under_way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.model import Check, DeviceUse, LocalDevice
    from kubectl_vmredir.service.interface import RedirectionView, VmiSlots
    from kubectl_vmredir.tui.widgets.pairs import Pair
    from kubectl_vmredir.tui.world import World

_QUIET = Tone.QUIET.style


def of_device(device: LocalDevice, use: DeviceUse | None) -> list[Pair]:
    """Return what is known of a device.

    Args:
        device: The device.
        use: How this machine uses it; None if it is not plugged in any more.
    """
    rows: list[Pair] = [
        ("Product", plain(device.product)),
        ("Manufacturer", plain(device.manufacturer)),
        ("Serial", plain(device.serial or "")),
        ("Named", str(DeviceSelector.of(device))),
        ("Kind", device.kind),
        ("Bus-device", device.bus_device),
        ("Port", plain(f"port:{device.port_path}")),
        ("Speed", str(device.speed)),
        ("Node", plain(device.node or "none: it is virtual")),
    ]
    for number, usb_class in enumerate(device.classes):
        driver = use.drivers[number] if use is not None and number < len(use.drivers) else ""
        classes = f"class {usb_class.base:02x}/{usb_class.sub:02x}/{usb_class.protocol:02x}"
        rows.append((f"Interface {number}", plain(f"{classes}  {driver}")))
    return [*_told(rows), ("", ""), *(("", text) for text in _use(use))]


def of_vmi(entry: VmiSlots) -> list[Pair]:
    """Return what is known of a VM."""
    vmi = entry.vmi
    rows: list[Pair] = [
        ("Namespace", plain(vmi.ref.namespace)),
        ("Name", plain(vmi.ref.name)),
        ("State", looks.of_vmi(vmi).content),
        ("Node", plain(vmi.node)),
        ("Architecture", plain(vmi.architecture)),
        ("Can migrate", {True: "yes", False: "no", None: "unknown"}[vmi.migratable]),
        ("Slots", plain(", ".join(slot.name for slot in entry.slots))),
        ("UID", plain(vmi.uid)),
    ]
    if vmi.slots_problem:
        rows.append(("Slot names", plain(f"not used: {vmi.slots_problem}")))
    if (migration := vmi.migration) is not None:
        title = "Migration" if under_way(vmi) else "Last migration"
        way = f"{migration.source_node} → {migration.target_node or '?'}"
        end = "failed" if migration.failed else "completed" if migration.completed else "under way"
        reason = f": {migration.failure_reason}" if migration.failure_reason else ""
        rows.append((title, plain(f"{way}, {end}{reason}")))
    no_slots: list[Pair] = [("", ""), ("", empty.no_slots(vmi.ref.name))]
    return _told(rows) + ([] if entry.slots else no_slots)


def of_redirection(world: World, view: RedirectionView) -> list[Pair]:
    """Return what is known of a redirection, with its whole story."""
    status, numbers = view.status, view.status.numbers
    trip = "" if numbers.round_trip_ms is None else f"{numbers.round_trip_ms:.1f} ms"
    hop = f" to {numbers.round_trip_to}" if trip and numbers.round_trip_to else ""
    outage = "" if numbers.last_outage_ms is None else f"{numbers.last_outage_ms:.0f} ms"
    doubt = f", because {status.handover_doubt}" if status.handover_doubt else ""
    rows: list[Pair] = [
        ("State", looks.of_state(status.state).content),
        ("Because", plain(status.reason)),
        ("Device", plain(f"{redirected_name(world, status)}  {status.device}")),
        ("VM", plain(str(status.vmi))),
        ("Slot", plain(status.slot)),
        ("Node", plain(status.node)),
        ("Route", str(status.route)),
        ("Next handover", plain(f"{status.handover}{doubt}")),
        ("Round trip", plain(trip + hop)),
        ("Moved", f"{byte_count(numbers.bytes_up)} to the VM, "
                  f"{byte_count(numbers.bytes_down)} from it"),
        ("Migrations", f"{numbers.migrations_survived} survived"),
        ("Last outage", outage),
        ("Resets", f"{numbers.resets_forwarded} by the VM"),
    ]  # fmt: skip
    if (trouble := status.trouble) is not None:
        rows.insert(2, ("Trouble", plain(trouble.message)))
        rows[3:3] = [("", plain(hint)) for hint in trouble.hint.splitlines()]
    events: list[Pair] = [
        (time.plain, Content.assemble(state, "\n", what))
        for time, state, what in map(story.event_line, reversed(view.story))
    ]
    return [*_told(rows), ("", ""), ("", Content.styled("Story, latest first", "bold")), *events]


def of_checks(checks: Sequence[Check]) -> list[Pair]:
    """Return what was found on this machine, and what repairs it."""
    if not checks:
        return [("", "Nothing: the devices here are virtual.")]
    width = max(len(check.name) for check in checks)
    pairs: list[Pair] = []
    for check in checks:
        repair = f"\nrun: {printable(check.command)}" if check.command else ""
        text = Content.assemble(
            looks.of_outcome(check.outcome).content,
            f"  {printable(check.message)}",
            (repair, Tone.MOVING.style),
        )
        pairs.append((f"{check.name:<{width}}", text))
    return pairs


def _use(use: DeviceUse | None) -> list[Content]:
    if use is None:
        return [Content.styled("◌ it was unplugged", Tone.BUSY.style)]
    lines = [
        Content.assemble(
            looks.of_danger(finding.danger).content,
            f": {printable(finding.message)}",
            (f"\n{printable(finding.hint)}" if finding.hint else "", _QUIET),
        )
        for finding in use.findings
    ]
    for holder in use.holders:
        pid = f" (pid {holder.pid})" if holder.pid is not None else ""
        command = f"\n{printable(holder.command)}" if holder.command else ""
        lines.append(
            Content.assemble(
                f"▲ {printable(holder.program)}{pid} uses {printable(holder.node)}",
                (command, _QUIET),
            )
        )
    if not use.openable:
        lines.append(Content.styled("✖ you may not open its device node", Tone.BAD.style))
    return lines or [Content.styled("● nothing on this machine needs it", Tone.GOOD.style)]


def _told(rows: list[Pair]) -> list[Pair]:
    """Return the rows that tell something."""
    return [(name, value) for name, value in rows if value]
