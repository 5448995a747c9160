"""A redirection that the agent keeps up: it is wished for, and then it is waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.cli.diagnostics import say, tell_progress
from kubectl_vmredir.cli.following import Follower
from kubectl_vmredir.cli.output import API_VERSION, document, printable
from kubectl_vmredir.cli.targets import place
from kubectl_vmredir.cli.trial import try_out
from kubectl_vmredir.errors import RedirectionNotFound, VmRedirError
from kubectl_vmredir.model import RedirectionState, to_json
from kubectl_vmredir.service.interface import TRIAL_S

if TYPE_CHECKING:
    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import (
        BindRequest,
        RedirectionService,
        RedirectionStatus,
    )

STAYS_WANTED: Final = "The agent goes on trying. To take the wish back: kubectl vmredir unbind"


async def bind_and_wait(
    service: RedirectionService, request: BindRequest, *, timeout_s: float | None
) -> tuple[RedirectionId, int]:
    """Bind, and return when the device has come into the VM to stay, or cannot.

    On a terminal it is told what happens. However this ends, the device stays wanted.

    Args:
        service: The agent's.
        request: What is wanted.
        timeout_s: How long to wait, in seconds; None for as long as it takes.

    Returns:
        The redirection, and the exit status: that of the trouble if a person must act before it
        can be connected; failure if it was undone meanwhile.

    Raises:
        VmRedirError: If the wish makes no sense, or it is not connected in time.
    """
    async with service.subscribe() as changes:
        before = {view.status.id: view.story for view in (await service.snapshot()).redirections}
        redirection = await service.bind(request)
        story = before.get(redirection)  # of one that was blocked, and has been told then
        follower = Follower(
            redirection,
            told=story[-1] if story else None,
            tell=tell_progress,
            until_connected=True,
        )
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                asking = group.create_task(try_out(service, redirection, follower), name="try-out")
                status = await follower.follow(changes)
                asking.cancel()
        except TimeoutError as exc:
            now = follower.latest
            stands = f"{now.state}: {now.reason}".removesuffix(": ") if now else "not known"
            raise VmRedirError(
                f"not connected after {timeout_s:g} s; its state is {stands}",
                hint=f"{STAYS_WANTED} {redirection}",
            ) from exc
        except asyncio.CancelledError:
            say(f"not waiting any more. {STAYS_WANTED} {redirection}")
            raise
        if follower.blocked:
            say(f"{STAYS_WANTED} {redirection}")
        return redirection, status


async def bind_and_go(service: RedirectionService, request: BindRequest) -> RedirectionId:
    """Bind, and leave it to the agent to get the device into the VM.

    Raises:
        VmRedirError: If the wish makes no sense.
    """
    if request.allow_keyboard:
        say(f"nobody waits to confirm: if it is the only one, it comes back in {TRIAL_S:.0f} s")
    return await service.bind(request)


async def tell_result(
    service: RedirectionService, redirection: RedirectionId, output: str | None
) -> None:
    """Print what has become of a wish.

    Raises:
        RedirectionNotFound: If it has been undone.
    """
    views = (await service.snapshot()).redirections
    status = next((view.status for view in views if view.status.id == redirection), None)
    if status is None:
        raise RedirectionNotFound(redirection)
    match output:
        case None:
            click.echo(printable(_sentence(status)))
        case "name":
            click.echo(status.id)
        case _:
            document(
                {"apiVersion": API_VERSION, "kind": "Redirection", "status": to_json(status)},
                output,
            )


def _sentence(status: RedirectionStatus) -> str:
    is_there = status.state in (RedirectionState.CONNECTED, RedirectionState.MIGRATING)
    become = "is plugged into" if is_there else f"is wanted ({status.state}) in"
    return f"{status.id}: {status.device} {become} {place(status.vmi, status.slot)}"
