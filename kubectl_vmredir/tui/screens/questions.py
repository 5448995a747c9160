"""What is asked before something is done that others may notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from kubectl_vmredir.tui import command_lines
from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.looks import Tone
from kubectl_vmredir.tui.screens.dialog import Choice
from kubectl_vmredir.tui.screens.question import Question
from kubectl_vmredir.tui.selection import redirected_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.model import VmiView
    from kubectl_vmredir.service.interface import RedirectionStatus
    from kubectl_vmredir.tui.session import Session
    from kubectl_vmredir.tui.world import World


def unbind(world: World, status: RedirectionStatus, clock: Callable[[], float]) -> Question:
    """Return the question whether to unplug a device."""
    name = redirected_name(world, status)
    text = Content.assemble(
        f"The VM loses {printable(name)} at once, as if somebody pulled the plug.\n",
        "A disk must be ejected or unmounted in the VM first, or it may lose data.\n",
        ("If the VM migrates just now, it is unplugged afterwards.", Tone.QUIET.style),
    )
    return Question(
        f"Unbind {name} from {status.vmi}",
        text,
        (Choice("unbind", "Unbind", danger=True),),
        clock,
        danger=True,
    )


def migrate(world: World, session: Session, vmi: VmiView, clock: Callable[[], float]) -> Question:
    """Return the question whether to move a VM; dangerous if it has devices of ours."""
    name, node = printable(vmi.ref.name), printable(vmi.node)
    views = world.of_vmi(vmi.ref)
    lines = [
        f"{name} leaves {node} for a node that the cluster chooses.",
        *(
            f"{printable(redirected_name(world, view.status))}: {view.status.handover} handover"
            for view in views
        ),
    ]
    return Question(
        f"Migrate {vmi.ref}",
        Content("\n").join(lines),
        (Choice("migrate", "Migrate", danger=bool(views)),),
        clock,
        command=command_lines.migrate(session, vmi.ref),
        danger=bool(views),
    )


def leave(devices: int, clock: Callable[[], float]) -> Question:
    """Return the question whether to end while devices are in use."""
    said = "1 device is" if devices == 1 else f"{devices} devices are"
    text = Content.assemble(
        f"{said} plugged into VMs, and this program keeps them plugged.\n",
        "The VMs lose them when it ends.",
    )
    return Question(
        "Quit", text, (Choice("end", "Unplug and quit", danger=True),), clock, danger=True
    )
