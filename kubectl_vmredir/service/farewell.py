"""The end of all redirections, as far as that harms nobody."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.service.bulkhead import contained, unexpected
from kubectl_vmredir.service.gate import Act, Wait
from kubectl_vmredir.service.interface import ClosingWaits, ExitRisk

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.gate import Gate
    from kubectl_vmredir.service.interface import Change
    from kubectl_vmredir.service.supervisor import Supervisor

logger = logging.getLogger(__name__)

EXIT_HARM: Final = (
    "closing the link while the VM migrates can crash the VM, and lose what is on its way to the "
    "device"
)


class Farewell:
    """Ends all redirections, and says what it would break to end the process now.

    Attributes:
        begun: Whether it was asked for: nothing new begins then.

    Args:
        supervisor: Of the redirections.
        gate: Says whether one can be ended.
        publish: Told what is waited for.
    """

    def __init__(
        self, supervisor: Supervisor, gate: Gate, publish: Callable[[Change], None]
    ) -> None:
        self.begun = False
        self._supervisor = supervisor
        self._gate = gate
        self._publish = publish

    async def say(self, deadline_s: float) -> tuple[ExitRisk, ...]:
        """End all redirections, as far as that harms nobody.

        Subscribers hear :class:`ClosingWaits`, at the beginning and at the end. Links that the
        gate keeps open are left open, and are closed as soon as it allows that, for as long as
        the supervisor lives.

        Args:
            deadline_s: How long to wait for the gate.

        Returns:
            What ending the process would break now; empty if nothing.
        """
        self.begun = True
        try:
            async with asyncio.timeout(deadline_s), asyncio.TaskGroup() as group:
                for redirection in self._supervisor:
                    group.create_task(
                        self._end(redirection.wish.id), name=f"exit-{redirection.wish.id}"
                    )
                if risks := self.risks():
                    self._publish(ClosingWaits(risks))
        except TimeoutError:
            logger.info("shutdown: not done after %.0f s", deadline_s)
        risks = self.risks()
        self._publish(ClosingWaits(risks))
        return risks

    def risks(self) -> tuple[ExitRisk, ...]:
        """Return what it would break to end the process now."""
        now = asyncio.get_running_loop().time()
        risks = []
        for redirection in self._supervisor:
            wish, session = redirection.wish, redirection.session
            verdict = self._gate.may(Act.EXIT, wish.vmi, now)
            at_risk = session is not None and session.at_risk
            if at_risk and isinstance(verdict, Wait):
                risks.append(ExitRisk(wish.id, wish.vmi, wish.slot, verdict.reason, EXIT_HARM))
        return tuple(risks)

    async def _end(self, redirection_id: RedirectionId) -> None:
        """End a redirection; one that cannot be ended must not cut the others short."""
        raised = await contained(
            self._supervisor.end(redirection_id, Act.EXIT), name=f"end-at-exit-{redirection_id}"
        )
        if raised is not None and (bug := unexpected(raised)) is not None:
            logger.error("redirection %s cannot be ended", redirection_id, exc_info=bug)
