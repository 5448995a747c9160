"""``kubectl vmredir resume``: a device that was paused goes back into its VM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.cli.acting import Verb, act_on, in_service, target_flags
from kubectl_vmredir.cli.options import ClusterCommand

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Options


RESUME: Final = Verb(
    past="resumed", later="See: kubectl vmredir status", act=in_service(AgentClient.resume)
)


@click.command(cls=ClusterCommand, short_help="Plug a device in again that was paused.")
@target_flags
@click.pass_obj
def command(options: Options, *, target: str | None, every: bool, timeout_s: float | None) -> int:
    """Plug a device into its VM again that was paused.

    TARGET is ID, VMI/SLOT, VMI or DEVICE, as status shows them.
    """
    return act_on(options, target, every=every, timeout_s=timeout_s, verb=RESUME)
