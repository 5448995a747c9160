"""What is asked before something is done that others may notice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from textual.content import Content

from kubectl_vmredir.model import SLOT_COUNT, RedirectionState
from kubectl_vmredir.tui import command_lines
from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.looks import Tone
from kubectl_vmredir.tui.screens.dialog import Choice
from kubectl_vmredir.tui.screens.name_dialog import NameDialog
from kubectl_vmredir.tui.screens.question import Question
from kubectl_vmredir.tui.selection import redirected_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_vmredir.model import VmiRef, VmiView
    from kubectl_vmredir.service.interface import RedirectionStatus
    from kubectl_vmredir.tui.session import Session
    from kubectl_vmredir.tui.world import World


KEEP: Final = "keep"
"""The answer that leaves all as it is when the program ends."""

LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS label, RFC 1123."""


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


UNPLUGGED: Final = (
    RedirectionState.WAITING_DEVICE,
    RedirectionState.HOLDING,
    RedirectionState.BLOCKED,
)
"""In these states the VM has no device that it could lose."""


def reconnect(world: World, status: RedirectionStatus, clock: Callable[[], float]) -> Question:
    """Return the question whether to make a new link, while there is one."""
    name = redirected_name(world, status)
    text = Content.assemble(
        f"The VM loses {printable(name)} for a moment, as if pulled out and put back.\n",
        "A disk should be unmounted in the VM first.\n",
        ("If the VM migrates just now, it is done afterwards.", Tone.QUIET.style),
    )
    choices = (Choice("reconnect", "Reconnect", danger=True),)
    return Question(f"Reconnect {name}", text, choices, clock, danger=True)


def pause(world: World, status: RedirectionStatus, clock: Callable[[], float]) -> Question:
    """Return the question whether to give a device back for now."""
    name = redirected_name(world, status)
    text = Content.assemble(
        f"The VM loses {printable(name)} until you press p again; this machine has it meanwhile.\n",
        "A disk must be ejected or unmounted in the VM first, or it may lose data.\n",
        ("If the VM migrates just now, it is paused afterwards.", Tone.QUIET.style),
    )
    choices = (Choice("pause", "Pause", danger=True),)
    return Question(f"Pause {name} in {status.vmi}", text, choices, clock, danger=True)


def slot_names(vmi: VmiRef, names: str, clock: Callable[[], float]) -> NameDialog:
    """Return the question what the slots of a VM are to be called."""
    return NameDialog(
        f"Name the slots of {vmi}",
        clock,
        value=names,
        button="Name",
        note="Up to four names with commas between them. They are written to the VM, and to its "
        "template; slots with devices in them keep theirs.",
        wrong=_why_no_slot_names,
    )


def namespace(known: Sequence[str], clock: Callable[[], float]) -> NameDialog:
    """Return the question which namespace to show: typed, as not all users may list them."""
    seen = [name for name in known if LABEL.fullmatch(name)]
    return NameDialog(
        "Namespace",
        clock,
        known=seen,
        button="Show",
        placeholder="name of a namespace",
        note=f"seen: {', '.join(seen)}" if seen else "a shows all namespaces",
        wrong=lambda name: "" if LABEL.fullmatch(name) else f"{name!r} is no name of a namespace",
    )


def context(known: Sequence[str], now: str, clock: Callable[[], float]) -> NameDialog:
    """Return the question which context of the kubeconfig to go to."""
    others = [name for name in known if name != now]
    return NameDialog(
        "Context",
        clock,
        known=others,
        value=others[0] if len(others) == 1 else "",
        button="Go",
        placeholder="name of a context",
        note=f"now: {now}   others: {', '.join(others)}",
        wrong=lambda name: "" if name in known else f"there is no context {name!r}",
    )


def _why_no_slot_names(text: str) -> str:
    names = [name.strip() for name in text.split(",")]
    if len(names) > SLOT_COUNT:
        return f"a VM has {SLOT_COUNT} slots, these are {len(names)} names"
    for name in names:
        if not LABEL.fullmatch(name):
            return f"{name!r} is no name of a slot: small letters, digits and dashes"
        if names.count(name) > 1:
            return f"{name!r} is there twice"
    return ""


def leave(devices: int, clock: Callable[[], float], *, lasting: bool, read_only: bool) -> Question:
    """Return the question whether to end while devices are in use.

    Args:
        devices: How many.
        clock: Returns seconds.
        lasting: Whether they stay in use if nothing is done about it.
        read_only: Whether nothing may be done about it.
    """
    said = "1 device is" if devices == 1 else f"{devices} devices are"
    if lasting:
        text = Content.assemble(
            f"{said} plugged into VMs; the agent can keep them plugged without this window.\n",
            ("kubectl vmredir opens it again.", Tone.QUIET.style),
        )
        keep, stop = Choice(KEEP, "Keep in background"), Choice("end", "Stop all", danger=True)
        return Question("Quit", text, (keep,) if read_only else (keep, stop), clock)
    text = Content.assemble(
        f"{said} plugged into VMs, and this program keeps them plugged.\n",
        "The VMs lose them when it ends.",
    )
    return Question(
        "Quit", text, (Choice("end", "Unplug and quit", danger=True),), clock, danger=True
    )
