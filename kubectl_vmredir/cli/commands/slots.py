"""``kubectl vmredir slots``: VMs and their USB slots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import click

from kubectl_vmredir.cli import candidates
from kubectl_vmredir.cli.diagnostics import say
from kubectl_vmredir.cli.options import ClusterCommand, output_flags, parse_vmi
from kubectl_vmredir.cli.output import Column, Listing, printable
from kubectl_vmredir.cli.run import with_service
from kubectl_vmredir.errors import NoUsbSlots, UsageError, VmiNotFound
from kubectl_vmredir.service.interface import VmiChanged, VmiRemoved, VmisSeen, VmisUncertain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.cli.reaching import Reached
    from kubectl_vmredir.model import RedirectionId, VmiRef
    from kubectl_vmredir.service.interface import VmiNews, VmiSlots

DELETED: Final = "Deleted"
"""Shown as the phase of a VM that is no longer there; KubeVirt has no such phase."""


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One slot of one VM, with what matters of the VM.

    Attributes:
        vmi: The VM.
        slot: Name of the slot.
        phase: Of the VM, as KubeVirt spells it.
        node: Where the VM runs; empty while unknown.
        migratable: Whether the VM can migrate; None while that is unknown.
        migrating_to: Where the VM is just going; empty if it stays where it is.
        redirection: The redirection of ours that the slot is for; None if there is none that we
            know of.
        device: Selector of that redirection's device; empty if there is none.
    """

    vmi: VmiRef
    slot: str
    phase: str
    node: str
    migratable: bool | None
    migrating_to: str
    redirection: RedirectionId | None = None
    device: str = ""

    @classmethod
    def rows(cls, entry: VmiSlots) -> list[SlotRow]:
        """Return the rows of a VM; none if it has no slots."""
        vmi, migration = entry.vmi, entry.vmi.migration
        under_way = migration is not None and not (migration.completed or migration.failed)
        target = migration.target_node if migration is not None and under_way else ""
        return [
            cls(
                vmi=vmi.ref,
                slot=slot.name,
                phase=vmi.phase,
                node=vmi.node,
                migratable=vmi.migratable,
                migrating_to=target,
                redirection=slot.redirection,
                device=slot.device,
            )
            for slot in entry.slots
        ]

    @property
    def deleted(self) -> SlotRow:
        """The row of a slot that is no longer there."""
        return replace(
            self,
            phase=DELETED,
            node="",
            migratable=None,
            migrating_to="",
            redirection=None,
            device="",
        )


_YES_NO: Final = {True: "yes", False: "no", None: "unknown"}

SLOTS: Final[Listing[SlotRow]] = Listing(
    kind="SlotList",
    columns=(
        Column("NAMESPACE", lambda row: row.vmi.namespace),
        Column("VM", lambda row: row.vmi.name),
        Column("SLOT", lambda row: row.slot),
        Column("DEVICE", lambda row: row.device),
        Column("PHASE", lambda row: row.phase),
        Column("NODE", lambda row: row.node),
        Column("MIGRATABLE", lambda row: _YES_NO[row.migratable]),
        Column("MIGRATING-TO", lambda row: row.migrating_to, wide=True),
    ),
    name=lambda row: f"{row.vmi.name}/{row.slot}",
    empty="No VM with USB slots found; a VM has them with devices.clientPassthrough: {}",
)


@click.command(cls=ClusterCommand)
@click.argument("vmi", metavar="VMI", shell_complete=candidates.vms)
@click.argument("names", metavar="NAME,...")
@click.pass_obj
def name_command(options: Options, vmi: str, names: str) -> None:
    """Name the first slots of a VM, in order; the others keep usb0 to usb3.

    The names are written to the running VM, and to the template that it is started from. A slot
    with a device of yours in it keeps its name.
    """
    wanted = [name.strip() for name in names.split(",")]

    async def name(reached: Reached) -> None:
        ref = parse_vmi(vmi, reached.namespace)
        lasting = await reached.service.name_slots(ref, wanted)
        click.echo(f"slots of {ref} named: {', '.join(wanted)}")
        if not lasting:
            say(f"warning: there is no VirtualMachine {ref.name!r}: a restart loses the names")

    with_service(options, name)


class _SlotsCommand(ClusterCommand):
    """Lists slots; ``slots name VMI NAME,...`` is another command.

    A VM may be called ``name``: ``slots name``, without more, lists that.
    """

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's own signature
    ) -> click.Context:
        """Make the context of the command that is meant."""
        if args[:1] == ["name"] and len(args) > 1 and not args[1].startswith("-"):
            return name_command.make_context("name", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=_SlotsCommand)
@click.argument("vmi", metavar="[VMI]", required=False, shell_complete=candidates.vms)
@click.option("-A", "--all-namespaces", is_flag=True, help="VMs of all namespaces.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="Label selector for VMs.")
@click.option("-w", "--watch", is_flag=True, help="Go on and print what changes.")
@output_flags
@click.pass_obj
def command(
    options: Options,
    vmi: str | None,
    all_namespaces: bool,
    selector: str,
    watch: bool,
    output: str | None,
    no_headers: bool,
) -> None:
    """List VMs with their USB slots.

    To name the slots of a VM: kubectl vmredir slots name VMI NAME,...
    """
    if vmi and (all_namespaces or selector):
        raise UsageError("a VM is named, so neither -A nor -l can be used")

    def scope(reached: Reached) -> str | None:
        return None if all_namespaces else reached.namespace

    async def show(reached: Reached) -> None:
        if vmi:
            found: Sequence[VmiSlots] = [await _one(reached, vmi)]
        else:
            found = await reached.service.vmis(scope(reached), selector)
        rows = [row for entry in found for row in SlotRow.rows(entry)]
        SLOTS.print(rows, output, headers=not no_headers)

    async def keep_showing(reached: Reached) -> None:
        only = (await _one(reached, vmi)).vmi.ref if vmi else None
        async with reached.service.watch_vmis(scope(reached), selector) as news:
            await _follow(news, only, SLOTS.follow(output, headers=not no_headers))

    with_service(options, keep_showing if watch else show)


async def _follow(
    news: AsyncIterator[VmiNews],
    only: VmiRef | None,
    show: Callable[[Sequence[SlotRow]], None],
) -> None:
    """Show all slots, and then each one again when something of it has changed.

    Args:
        news: Of VMs.
        only: The only VM that counts; None for all.
        show: Prints rows.
    """
    vmis: dict[VmiRef, VmiSlots] = {}
    shown: dict[tuple[VmiRef, str], SlotRow] = {}
    async for item in news:
        match item:
            case VmisSeen(vmis=seen):
                vmis = {entry.vmi.ref: entry for entry in seen}
            case VmiChanged(vmi=entry):
                vmis[entry.vmi.ref] = entry
            case VmiRemoved(vmi=ref):
                vmis.pop(ref)
            case VmisUncertain(cause=cause):
                click.echo(f"warning: no news of VMs: {printable(cause.message)}", err=True)
                continue
        rows = {
            (row.vmi, row.slot): row
            for ref, entry in vmis.items()
            if only in (None, ref)
            for row in SlotRow.rows(entry)
        }
        gone = [row.deleted for key, row in shown.items() if key not in rows]
        show([*(row for key, row in rows.items() if shown.get(key) != row), *gone])
        shown = rows


async def _one(reached: Reached, vmi: str) -> VmiSlots:
    ref = parse_vmi(vmi, reached.namespace)
    entries = await reached.service.vmis(ref.namespace)
    found = [entry for entry in entries if entry.vmi.ref == ref]
    if not found:
        raise VmiNotFound(ref)
    if not found[0].slots:
        raise NoUsbSlots(ref)
    return found[0]
