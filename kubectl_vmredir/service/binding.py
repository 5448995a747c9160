"""From a request to a wish: what is certain to be wrong is refused, the rest is waited for."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kubectl_vmredir.errors import DeviceBusy, VmiNotFound, VmRedirError
from kubectl_vmredir.model import HandoverKind, RedirectionId, RedirectionState
from kubectl_vmredir.service.interface import BindPlan, Trouble
from kubectl_vmredir.service.kept import KeptWish
from kubectl_vmredir.service.redirection import Redirection
from kubectl_vmredir.service.safety import Consent, check_free, check_safe, notes
from kubectl_vmredir.service.story import COLD_DOUBT
from kubectl_vmredir.service.wish import (
    Wish,
    description,
    free_slot,
    lasting,
    only_one,
    slots_of,
    waiting_for,
)

if TYPE_CHECKING:
    from kubectl_vmredir.model import LocalDevice, VmiRef, VmiView
    from kubectl_vmredir.service.interface import BindRequest
    from kubectl_vmredir.service.redirection import Surroundings
    from kubectl_vmredir.service.supervisor import Supervisor


class Binder:
    """Checks requests, and has redirections kept up for those that make sense.

    Args:
        supervisor: Keeps them up.
        around: What they share.
    """

    def __init__(self, supervisor: Supervisor, around: Surroundings) -> None:
        self._supervisor = supervisor
        self._around = around
        self._ids = (RedirectionId(f"r{number}") for number in itertools.count(1))

    async def bind(self, request: BindRequest) -> RedirectionId:
        """See ``RedirectionService.bind``."""
        plugged_in = await self._around.devices.devices()
        device = only_one(plugged_in, request.device)
        use = await self._around.sessions.use(device)
        slots = slots_of(await self._vmi(request.vmi))
        bound_by = await self._around.identity.ask()
        consent = Consent.of(request)
        check_safe(device, use, consent)
        # No await from here on: what is free now is ours.
        if (blocked := self._blocked(device, request)) is not None:
            self._supervisor.retry(blocked, bound_by, consent)
            return blocked.wish.id
        slot = free_slot(request.vmi, slots, request.slot or "", self._supervisor.wishes())
        self._check_unwished(device)
        check_free(device, use)
        wish = Wish(
            id=self._unused_id(),
            device=lasting(request.device, device, plugged_in),
            description=description(device),
            vmi=request.vmi,
            slot=slot,
            slot_index=slots.index(slot) if slots is not None else None,
        )
        self._supervisor.start(Redirection(KeptWish(wish, bound_by, consent), self._around))
        return wish.id

    async def plan(self, request: BindRequest) -> BindPlan:
        """See ``RedirectionService.plan``."""
        device = only_one(await self._around.devices.devices(), request.device)
        use = await self._around.sessions.use(device)
        vmi = await self._vmi(request.vmi)
        slot, trouble = "", None
        try:
            # As in a bind, so that of two troubles it is the same one.
            slots = slots_of(vmi)
            await self._around.identity.ask()
            check_safe(device, use, Consent.of(request))
            if (blocked := self._blocked(device, request)) is not None:
                slot = blocked.wish.slot
            else:
                wishes = self._supervisor.wishes()
                slot = free_slot(request.vmi, slots, request.slot or "", wishes)
                self._check_unwished(device)
                check_free(device, use)
        except VmRedirError as error:
            trouble = Trouble.of(error)
        return BindPlan(
            device=device,
            use=use,
            vmi=request.vmi,
            slot=slot,
            handover=HandoverKind.COLD,
            handover_doubt=COLD_DOUBT,
            notes=notes(device, use, HandoverKind.COLD),
            trouble=trouble,
            waiting_for=waiting_for(request.vmi, vmi),
        )

    async def _vmi(self, ref: VmiRef) -> VmiView | None:
        try:
            return await self._around.cluster.vmi(ref)
        except VmiNotFound:
            return None

    def _blocked(self, device: LocalDevice, request: BindRequest) -> Redirection | None:
        for redirection in self._supervisor:
            wish = redirection.wish
            if (
                redirection.story.state is RedirectionState.BLOCKED
                and wish.device.matches(device)
                and wish.vmi == request.vmi
                and request.slot in (None, wish.slot)
            ):
                return redirection
        return None

    def _check_unwished(self, device: LocalDevice) -> None:
        """Return if no redirection is for the device.

        Raises:
            DeviceBusy: If one is.
        """
        for redirection in self._supervisor:
            if redirection.wish.device.matches(device):
                paused = redirection.paused
                raise DeviceBusy(
                    device,
                    redirection.wish.place + (", and paused" if paused else ""),
                    hint=f"Go on with:\n  kubectl vmredir resume {redirection.wish.id}"
                    if paused
                    else None,
                )

    def _unused_id(self) -> RedirectionId:
        used = {wish.id for wish in self._supervisor.wishes()}
        return next(name for name in self._ids if name not in used)
