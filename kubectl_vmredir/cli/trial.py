"""The only keyboard or pointer in a VM: it stays there if somebody confirms that it may."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.cli.asking import answer_to, somebody_is_there
from kubectl_vmredir.cli.diagnostics import say
from kubectl_vmredir.errors import RedirectionNotFound
from kubectl_vmredir.service.interface import TRIAL_S

if TYPE_CHECKING:
    from kubectl_vmredir.cli.following import Follower
    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import RedirectionService

TRIAL_REMINDER_S: Final = 10.0
"""How often it is said how long the only keyboard or pointer is still away."""


async def try_out(
    service: RedirectionService, redirection: RedirectionId, follower: Follower
) -> None:
    """Ask whether the only keyboard or pointer may stay in the VM, if it is there on trial.

    If nobody answers, the service takes it back by itself.

    Args:
        service: Where it is kept up.
        redirection: Names it.
        follower: Follows it.
    """
    await follower.trial_begun.wait()
    if not somebody_is_there():
        say(f"there is no terminal to confirm on: the device comes back in {TRIAL_S:.0f} s")
        return
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_stays(), name="ask")
        over = group.create_task(follower.trial_over.wait(), name="trial-over")
        await asyncio.wait([asking, over], return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        over.cancel()
    if asking.cancelled() or (stays := asking.result()) is None:
        return
    with contextlib.suppress(RedirectionNotFound):  # the answer came too late
        if stays:
            await service.confirm(redirection)
        else:
            await service.unbind(redirection)


async def _stays() -> bool | None:
    """Return whether the user wants the device to stay in the VM; None if they do not say."""
    left_s = TRIAL_S
    while left_s > 0:
        try:
            async with asyncio.timeout(TRIAL_REMINDER_S):
                answer = await answer_to(
                    f"The device comes back in {left_s:.0f} s unless you confirm. "
                    "Leave it in the VM? [Y/n]",
                    first=left_s == TRIAL_S,
                    own_line=True,
                )
        except TimeoutError:
            left_s -= TRIAL_REMINDER_S
        else:
            return None if answer is None else answer in ("", "y", "yes")
    return None
