"""``kubectl vmredir pause``: a device comes back for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.cli.acting import Verb, act_on, in_service, target_flags
from kubectl_vmredir.cli.options import ClusterCommand

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Options


PAUSE: Final = Verb(
    past="paused",
    later="It is paused as soon as that harms nobody.",
    act=in_service(AgentClient.pause),
)


@click.command(cls=ClusterCommand, short_help="Take a device back until it is resumed.")
@target_flags
@click.pass_obj
def command(options: Options, *, target: str | None, every: bool, timeout_s: float | None) -> int:
    """Take a device back from its VM, and keep the wish: resume plugs it in again.

    TARGET is ID, VMI/SLOT, VMI or DEVICE, as status shows them. While the VM migrates it is
    waited for, as ending the link could crash the VM.
    """
    return act_on(options, target, every=every, timeout_s=timeout_s, verb=PAUSE)
