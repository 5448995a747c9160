"""``kubectl vmredir reconnect``: a redirection gets a new link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.cli.acting import Verb, act_on, in_service, target_flags
from kubectl_vmredir.cli.options import ClusterCommand

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Options


RECONNECT: Final = Verb(
    past="reconnecting", later="See: kubectl vmredir status", act=in_service(AgentClient.reconnect)
)


@click.command(cls=ClusterCommand, short_help="Close the link to the VM, and dial anew.")
@target_flags
@click.pass_obj
def command(options: Options, *, target: str | None, every: bool, timeout_s: float | None) -> int:
    """Close the link to the VM, as soon as that harms nobody, and dial anew.

    TARGET is ID, VMI/SLOT, VMI or DEVICE, as status shows them. What is blocked is tried again.
    """
    return act_on(options, target, every=every, timeout_s=timeout_s, verb=RECONNECT)
