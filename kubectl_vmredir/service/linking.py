"""Keeps a device session linked to its VM: when to dial, when to close, and what to say of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import (
    ClusterError,
    Forbidden,
    KubeconfigError,
    LoginRequired,
    NoUsbSlots,
    RemoteProtocolError,
    SlotsFull,
    VmRedirError,
)
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.gate import Act, Wait
from kubectl_vmredir.service.interface import Trouble
from kubectl_vmredir.service.journey import Journey, has_moved
from kubectl_vmredir.service.link_health import LinkHealth, is_restless
from kubectl_vmredir.service.links import Destination
from kubectl_vmredir.service.pace import DialPace
from kubectl_vmredir.service.wish import waiting_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.errors import IdentityChanged
    from kubectl_vmredir.model import VmiView
    from kubectl_vmredir.service.links import LinkEnd, LinkEndpoint
    from kubectl_vmredir.service.migration import VmiFacts
    from kubectl_vmredir.service.redirection import Surroundings
    from kubectl_vmredir.service.session import DeviceSession
    from kubectl_vmredir.service.story import Story
    from kubectl_vmredir.service.wish import Wish

logger = logging.getLogger(__name__)

CONFIRM_TIMEOUT_S: Final = 5.0
"""How long the cluster may take to say how a VM is that is to be dialed again, once there are
credentials to ask with."""

BELIEVED_AFTER_S: Final = 5.0
"""A refusal that has lasted for so long is believed. An API server that has just started refuses
its own users, for half a second on an idle machine."""

CURED_ELSEWHERE: Final = (Forbidden, KubeconfigError, LoginRequired)
"""Nobody tells us when a person has acted; and a credential plugin fails without a network, too."""


class LinkKeeper:
    """Has links dialed and closed for one redirection; the session owns them.

    Attributes:
        journey: Outages and handovers so far.
        wish: What is wanted; its slot is known before anything is dialed.

    Args:
        wish: See there.
        around: What redirections share.
        story: Told what happens.
        stranger: Returns the error if the credentials are not those of who bound.
    """

    def __init__(
        self,
        wish: Wish,
        around: Surroundings,
        story: Story,
        stranger: Callable[[], IdentityChanged | None],
    ) -> None:
        self.journey = Journey()
        self.wish = wish
        self._around = around
        self._story = story
        self._stranger = stranger
        self._order = around.order_of(wish.vmi)
        self._loop = asyncio.get_running_loop()
        self._health: LinkHealth | None = None
        self._noted_end: LinkEnd | None = None
        self._explained_end: LinkEnd | None = None
        self._refused_at: float | None = None
        self._ghost_told: LinkEnd | None = None
        self._ever_attached = False
        self._pace = DialPace(around.backoff)
        self._failed_on_node = ""
        self._restorations = 0
        self._arrivals = 0
        self._trouble: Trouble | None = None

    @property
    def _slot(self) -> int:
        assert self.wish.slot_index is not None, "its slot is not known"
        return self.wish.slot_index

    def start_afresh(self) -> None:
        """Forget what failed before: somebody has acted."""
        self._pace.start_afresh(self._loop.time())

    def stand_back(self) -> None:
        """Let the other redirections of the VM dial: this one does not want to."""
        if self.wish.slot_index is not None:
            self._order.leave(self.wish.slot_index)
        self._around.watcher.ring(self.wish.vmi)

    def probe(self) -> None:
        """Doubt the link: the machine has slept."""
        if self._health is not None:
            self._health.probe(self._loop.time())

    async def keep(self, session: DeviceSession) -> str:
        """Keep the session linked until it is of no more use, and has no link.

        Returns:
            Why it is of no more use; may be untrusted text.

        Raises:
            VmRedirError: If a person must act. The session has no link then.
        """
        while True:
            now = self._loop.time()
            facts = self._around.watcher.facts(self.wish.vmi)
            if facts.vmi is not None:
                self._story.locate(facts.vmi.node)
            if is_restless(session, now):
                session.start_over("the device does not come to rest after its last link")
            if (endpoint := session.endpoint) is not None:
                until = await self._tend(session, endpoint, facts)
            else:
                self._note_end(session)
                if over := session.lost or session.restart_wanted:
                    if await session.linked():  # by a dial that a former task began
                        continue
                    return over
                until = await self._relink(session, facts)
            await session.bell.wait(until)

    # -- no link ----------------------------------------------------------------------------

    def _note_end(self, session: DeviceSession) -> None:
        """Take in once that a link has ended."""
        end = session.last_end
        if end is None or end is self._noted_end:
            return
        self._noted_end = end
        self.journey.link_ended(end)
        attached_at = self._health.attached_at if self._health is not None else None
        self._health = None
        self._pace.ended(self._loop.time(), None if attached_at is None else end.at - attached_at)
        self._set_back(end.to, Trouble.of(end.cause))
        self._around.identity.suggest()

    def _set_back(self, to: Destination, trouble: Trouble) -> None:
        self._failed_on_node = to.node
        self._restorations = self._around.watcher.restorations(self.wish.vmi)
        self._arrivals = self._order.arrivals
        self._trouble = trouble

    async def _relink(self, session: DeviceSession, facts: VmiFacts) -> float | None:
        """Dial if nothing is in the way; return when to look again."""
        if (stranger := self._stranger()) is not None:
            raise stranger
        if session.rejected:
            session.rejected = False
            raise RemoteProtocolError("the VM's QEMU refuses the device")
        if (trouble := self._around.watcher.trouble(self.wish.vmi)) is not None:
            raise trouble
        now = self._loop.time()
        slot, vmi = self._slot, facts.vmi
        # Those with a higher slot let us go first from now on, also while we may not dial yet.
        absence = waiting_for(self.wish.vmi, vmi)
        if absence:
            self._order.leave(slot)
        else:
            self._order.want(slot, now)
        verdict = self._around.watcher.gate.may(Act.DIAL, self.wish.vmi, now)
        if isinstance(verdict, Wait):
            return self._unlinked(facts, f"waiting for {verdict.reason}", verdict.until)
        if vmi is None or absence:
            return self._unlinked(facts, f"waiting for {absence}")
        if not vmi.client_passthrough:
            raise NoUsbSlots(vmi.ref, "it was restarted without")
        restorations = self._around.watcher.restorations(self.wish.vmi)
        if (vmi.node, restorations) != (self._failed_on_node, self._restorations):
            self._failed_on_node, self._restorations = vmi.node, restorations
            self._pace.hurry(now)
        if self._order.arrivals != self._arrivals:
            self._arrivals = self._order.arrivals
            self._pace.encourage(now)
        if now < self._pace.not_before:
            return self._unlinked(facts, "trying again", self._pace.not_before)
        if not self._loss_explained(facts):
            return await self._explain_loss(facts)
        free_at = self._order.free_at(slot, now)
        if free_at is None or now < free_at:
            return self._unlinked(facts, "waiting for the slots before this one", free_at)
        await self._dial(session, facts, Destination.of(vmi, facts))
        return now

    def _loss_explained(self, facts: VmiFacts) -> bool:
        end = self._noted_end
        return end is None or end is self._explained_end or has_moved(end.to, facts)

    async def _explain_loss(self, facts: VmiFacts) -> float | None:
        """Make sure that the watch has told of whatever ended the last link.

        That end may be the first that we hear of a migration. So the cluster is asked before its
        VM is dialed again, and unless it says what the watch said, the watch is behind.

        Returns:
            When to look again.

        Raises:
            ClusterError: If a person must act before it can be asked.
        """
        vmi: VmiView | None = None
        try:
            await self._around.cluster.ready()
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                vmi = await self._around.cluster.vmi(self.wish.vmi)
        except (ClusterError, TimeoutError) as error:
            logger.info("%s: cannot ask for the VM: %s", self.wish.id, error)
            self._weigh(error)
        else:
            self._refused_at = None
        if vmi is not None and vmi == facts.vmi:
            self._explained_end = self._noted_end
            return self._loop.time()
        self._pace.failed(self._loop.time())
        reason = "waiting for the cluster to tell what happened"
        return self._unlinked(facts, reason, self._pace.not_before)

    def _weigh(self, error: ClusterError | TimeoutError) -> None:
        """Raise a refusal that only a person can cure, once it is to be believed."""
        now = self._loop.time()
        if not isinstance(error, CURED_ELSEWHERE):
            self._refused_at = None
        elif self._refused_at is None:
            self._refused_at = now
        elif now >= self._refused_at + BELIEVED_AFTER_S:
            raise error

    def _unlinked(self, facts: VmiFacts, reason: str, until: float | None = None) -> float | None:
        state = self._state_if_moving(facts, RedirectionState.HOLDING)
        self._story.enter(state, reason, trouble=self._trouble)
        return until

    def _state_if_moving(self, facts: VmiFacts, otherwise: RedirectionState) -> RedirectionState:
        moving = self.journey.under_way(facts, self._loop.time())
        return RedirectionState.HANDING_OVER if moving else otherwise

    async def _dial(self, session: DeviceSession, facts: VmiFacts, to: Destination) -> None:
        slot = self._slot
        state = self._state_if_moving(facts, RedirectionState.DIALING)
        self._story.enter(state, "dialing the VM", trouble=self._trouble)
        self._order.dialing(slot)
        try:
            # It asks the gate again; what it finds is looked at in the next round.
            await session.dial(self._around.dialer, to)
        except VmRedirError as error:
            self._dial_failed(error, to)
        finally:
            self._order.dialed(slot)
            if session.endpoint is not None:
                self._order.leave(slot)
            self._around.watcher.ring(self.wish.vmi)

    def _dial_failed(self, error: VmRedirError, to: Destination) -> None:
        self._pace.failed(self._loop.time())
        self._set_back(to, Trouble.of(error))
        full = isinstance(error, SlotsFull)
        if not error.retryable or (full and not self._ever_attached):
            self._around.identity.suggest()
            raise error
        if full and self._ghost_told is not self.journey.departed:
            # The cluster has not noticed yet that our own last stream is gone.
            self._ghost_told = self.journey.departed
            self._story.note(f"{error}, one perhaps by our own last link: trying again")

    # -- a link that is open ----------------------------------------------------------------

    async def _tend(
        self, session: DeviceSession, endpoint: LinkEndpoint, facts: VmiFacts
    ) -> float | None:
        """Do what an open link needs; return when to look again."""
        now = self._loop.time()
        if self._health is None or self._health.endpoint is not endpoint:
            self._health = LinkHealth(session, endpoint, now)
        health = self._health
        health.feel_pulse(now)
        session.attach()
        if session.attached and health.attached_at is None:
            health.attached_at = now
            self._note_attached(session, endpoint, now)
        if health.at_risk(facts, now):
            self._story.note("a migration began while the VM may still have been plugging it in")
        if has_moved(endpoint.to, facts):
            self._order.want(self._slot, now)
        state, reason = self._linked_state(session, health, facts, now)
        stranger = self._stranger()
        if why := health.useless(facts, now) or (str(stranger) if stranger else ""):
            if (wait := await self._end_link(session, why)) is None:
                return now
            reason = f"{why}; waiting for {wait.reason}"
        self._story.enter(state, reason)
        return health.next_look_at(facts, now)

    def _note_attached(self, session: DeviceSession, endpoint: LinkEndpoint, now: float) -> None:
        handover = self.journey.arrived(endpoint.to, session.first_sent_at or now)
        if handover is not None:
            cause = f"went with the VM from {handover.source_node} to {handover.target_node}"
            self._pace.start_afresh(now)  # the link before did not fail: the VM left
        else:
            cause = "plugged in again" if self._ever_attached else "plugged in"
        if self._ever_attached:
            self._around.identity.suggest()
        self._ever_attached = True
        self._order.arrivals += 1
        self._around.watcher.ring(self.wish.vmi)
        self._trouble = None
        self._story.enter(RedirectionState.CONNECTED, cause, handover=handover)

    def _linked_state(
        self, session: DeviceSession, health: LinkHealth, facts: VmiFacts, now: float
    ) -> tuple[RedirectionState, str]:
        if why := health.stall(now):
            return RedirectionState.STALLED, why
        if not session.attached:
            held = session.held_for
            reason = held.reason if held is not None else "the VM to take the device"
            state = self._state_if_moving(facts, RedirectionState.DIALING)
            return state, f"waiting for {reason}"
        if (migration := facts.in_flight(now)) is not None:
            return RedirectionState.MIGRATING, f"the VM is migrating ({migration.phase})"
        if facts.doubt:
            return RedirectionState.CONNECTED, f"no news of the VM: {facts.doubt}"
        return RedirectionState.CONNECTED, ""

    @staticmethod
    async def _end_link(session: DeviceSession, why: str) -> Wait | None:
        if session.lost and (wait := await session.detach()) is not None:
            return wait
        return await session.close_link(why)
