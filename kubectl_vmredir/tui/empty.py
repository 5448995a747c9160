"""What is said where there is nothing to show: what is missing, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from textual.content import Content

from kubectl_vmredir.tui.drawing import printable, time_of_day
from kubectl_vmredir.tui.looks import Tone

if TYPE_CHECKING:
    from kubectl_vmredir.service.interface import Trouble
    from kubectl_vmredir.tui.world import Bad, World

SLOTS_YAML: Final = """\
spec:
  template:
    metadata:
      annotations:
        vmredir.io/slots: flash,token
    spec:
      domain:
        devices:
          clientPassthrough: {}"""
"""What a VM needs to have slots, with names for two of them."""

NOTHING: Final = Content()

_AGAIN: Final = "It is tried again by itself; ctrl+r: now."


def devices(world: World, *, hidden: int) -> Content:
    """Return what to say above the list of devices.

    Args:
        world: What is known.
        hidden: How many devices the filter hides, where it hides all.
    """
    if (bad := world.devices_bad) is not None:
        return _broken("USB devices cannot be listed", bad.trouble)
    if world.devices is None:
        if world.unopened is not None:
            return _waiting("Devices are shown as soon as there is a cluster to plug them into.")
        return _waiting("Looking for USB devices…")
    if hidden:
        return _hidden(hidden, "device")
    if not world.devices:
        return _empty(
            "No USB device is plugged in here.",
            "Plug one in: it appears by itself.",
        )
    if world.session is not None and not world.redirections:
        return Content.styled(world.session.hint, Tone.MOVING.style)
    return NOTHING


def vmis(world: World, *, shown: int, hidden: int) -> Content:
    """Return what to say above the tree of VMs.

    Args:
        world: What is known.
        shown: How many VMs are shown.
        hidden: How many the filter hides.
    """
    if (bad := world.unopened or world.vmis_bad) is not None:
        if world.vmis is not None:
            return _old(bad)
        if bad is world.vmis_bad:
            return _refused(world, bad.trouble)
        title = "No agent" if world.agent_gone else "No cluster"
        return _broken(title, bad.trouble, _AGAIN)
    if world.vmis is None:
        return _waiting("Waiting for the cluster…")
    if not shown and hidden:
        return _hidden(hidden, "VM")
    if not world.vmis:
        if world.scope is None:
            return _empty("No VM runs in this cluster.", "Start one: it appears by itself.")
        return _empty(
            f"No VM runs in namespace {printable(world.scope)}.",
            "a: all namespaces   n: another namespace",
        )
    if not any(entry.slots for entry in world.vmis.values()):
        return _empty(
            "None of these VMs has USB slots.",
            "Add this to a VM and restart it (the names are yours to choose):",
            SLOTS_YAML,
        )
    return NOTHING


def no_slots(name: str) -> Content:
    """Return how a VM gets slots."""
    return _empty(
        f"VM {printable(name)} has no USB slots.",
        "Add this to it and restart it (the names are yours to choose):",
        SLOTS_YAML,
    )


def redirection(world: World) -> Content:
    """Return what to say where there is no redirection to tell of."""
    if not world.redirections:
        return Content.assemble(
            "Nothing is redirected yet.\n",
            ("Press enter on a device, then enter on a free slot.", Tone.QUIET.style),
        )
    return Content.assemble(
        "Nothing is plugged in here.\n",
        ("Move to a device or slot in use to see its story.", Tone.QUIET.style),
    )


def _refused(world: World, trouble: Trouble) -> Content:
    """Say why nothing at all is known of VMs."""
    match trouble.kind:
        case "Forbidden":
            scope = "all namespaces" if world.scope is None else f"namespace {world.scope}"
            ways = (
                "n: another namespace" if world.scope is None else "n: another namespace   a: all"
            )
            return _broken(f"You may not see the VMs of {printable(scope)}", trouble, ways)
        case "LoginRequired":
            return _broken("The cluster does not accept your login", trouble, _AGAIN)
        case "ClusterUnreachable" | "CertificateRejected":
            return _broken("The cluster cannot be reached", trouble, _AGAIN)
        case _:
            return _broken("VMs cannot be listed", trouble, _AGAIN)


def _old(bad: Bad) -> Content:
    """Say that what is shown may not be true any more."""
    return Content.assemble(
        (f"✖ What is shown is as old as {time_of_day(bad.since)}: ", Tone.BAD.style),
        printable(bad.trouble.message),
        _hint(bad.trouble),
    )


def _broken(title: str, trouble: Trouble, *more: str) -> Content:
    lines = [("\n" + text, Tone.QUIET.style) for text in more]
    return Content.assemble(
        (f"✖ {title}", f"bold {Tone.BAD.style}"),
        f"\n{printable(trouble.message)}",
        _hint(trouble),
        *lines,
    )


def _hint(trouble: Trouble) -> Content:
    """Return the hint line by line: it may be a command to type."""
    if not trouble.hint:
        return NOTHING
    lines = (printable(text) for text in trouble.hint.splitlines())
    return Content.styled("\n" + "\n".join(lines), Tone.BUSY.style)


def _empty(title: str, *lines: str) -> Content:
    rest = "".join(f"\n{text}" for text in lines)
    return Content.assemble((f"○ {title}", "bold"), (rest, Tone.QUIET.style))


def _waiting(text: str) -> Content:
    return Content.styled(f"◌ {text}", Tone.BUSY.style)


def _hidden(count: int, noun: str) -> Content:
    plural = "" if count == 1 else "s"
    return _empty(f"The filter hides {count} {noun}{plural}.", "esc: show all again")
