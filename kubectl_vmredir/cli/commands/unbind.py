"""``kubectl vmredir unbind``: a device comes back from its VM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.cli.acting import Verb, act_on, target_flags
from kubectl_vmredir.cli.options import ClusterCommand

if TYPE_CHECKING:
    from kubectl_vmredir.agent.client import AgentClient
    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.cli.targets import Bound


async def _unbind(client: AgentClient, bound: Bound) -> None:
    await client.forget(bound.service.id, bound.status.id)


UNBIND: Final = Verb(
    past="unbound", later="It is unbound as soon as that harms nobody.", act=_unbind
)


@click.command(cls=ClusterCommand, short_help="Take a device back from its VM.")
@target_flags
@click.pass_obj
def command(options: Options, *, target: str | None, every: bool, timeout_s: float | None) -> int:
    """Take a device back from its VM, and wish for it no longer.

    TARGET is ID, VMI/SLOT, VMI or DEVICE, as status shows them. While the VM migrates it is
    waited for, as ending the link could crash the VM.
    """
    return act_on(options, target, every=every, timeout_s=timeout_s, verb=UNBIND)
