"""What one would type to do the same: shown, and copied with ``c``.

Names come from devices and the cluster. One that a shell could take for anything else than a name
is in no command line: there is none then.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import DeviceSelector
from kubectl_vmredir.service.interface import BindRequest

if TYPE_CHECKING:
    from kubectl_vmredir.model import LocalDevice, VmiRef
    from kubectl_vmredir.tui.selection import Selection
    from kubectl_vmredir.tui.session import Session
    from kubectl_vmredir.tui.widgets.vms_pane import TreeRow

_PROGRAM: Final = ("kubectl", "vmredir")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_NO_LINE: Final = ""


def bind(session: Session, request: BindRequest) -> str:
    """Return the command that binds; empty if a name cannot be in one."""
    slot = () if request.slot is None else (request.slot,)
    consent = ("--force",) * request.force + ("--allow", "keyboard") * request.allow_keyboard
    names = (request.vmi.namespace, request.vmi.name, *slot)
    if not all(map(_is_name, names)):
        return _NO_LINE
    target = "/".join((request.vmi.name, *slot))
    return _line(
        session, "bind", str(request.device), target, "-n", request.vmi.namespace,
        *consent, *(() if session.lasting else ("--foreground",)),
    )  # fmt: skip


def migrate(session: Session, vmi: VmiRef) -> str:
    """Return the command that migrates a VM; empty if its name cannot be in one."""
    return _about_vmi(session, "migrate", vmi)


def slots(session: Session, vmi: VmiRef) -> str:
    """Return the command that lists the slots of a VM; empty if its name cannot be in one."""
    return _about_vmi(session, "slots", vmi)


def of_selection(
    session: Session, selected: Selection, *, device: LocalDevice | None, tree: TreeRow | None
) -> str:
    """Return the command for what the cursor is on; empty if there is none.

    Args:
        session: Whom we work for.
        selected: What the cursor is on.
        device: Where the cursor is in the list of devices: it may be the device of a slot.
        tree: Where it is in the tree of VMs: it may be the slot of a device.
    """
    if (view := selected.redirection) is not None:
        status = view.status
        wished = BindRequest(DeviceSelector.parse(status.device), status.vmi, status.slot)
        return bind(session, wished)
    if device is not None and tree is not None and tree.vmi.slots:
        return bind(session, BindRequest(DeviceSelector.of(device), tree.vmi.vmi.ref, tree.slot))
    return slots(session, selected.vmi.vmi.ref) if selected.vmi is not None else _NO_LINE


def why_none(session: Session) -> str:
    """Return why there is no command line; empty if that is for a name that cannot be in one."""
    return "no command line of yours reaches what is shown here" if session.flags is None else ""


def _about_vmi(session: Session, command: str, vmi: VmiRef) -> str:
    if not (_is_name(vmi.name) and _is_name(vmi.namespace)):
        return _NO_LINE
    return _line(session, command, vmi.name, "-n", vmi.namespace)


def _is_name(text: str) -> bool:
    # A name that begins with a dash would be taken for a flag.
    return _NAME.fullmatch(text) is not None and not text.startswith("-")


def _line(session: Session, *words: str) -> str:
    if session.flags is None:
        return _NO_LINE
    return shlex.join((*_PROGRAM, *words, *session.flags))
