"""Serves the clients of the agent on its socket, and knows when nobody needs it any more."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Final

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.control import AgentStatus
from kubectl_vmredir.agent.conversation import Conversation
from kubectl_vmredir.agent.messages import MAX_REQUEST_BYTES
from kubectl_vmredir.agent.peer import is_ours
from kubectl_vmredir.agent.services import Services
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.bulkhead import contained
from kubectl_vmredir.service.interface import SHUTDOWN_WAIT_S

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from kubectl_vmredir.agent.services import OpenService
    from kubectl_vmredir.agent.wishes import Wishes
    from kubectl_vmredir.service.interface import ExitRisk

logger = logging.getLogger(__name__)

IDLE_S: Final = 10.0
"""How long the agent stays when it owns nothing and nobody is connected."""

FORCED_WAIT_S: Final = 1.0
"""How long an end that waits for no gate leaves for what can be ended in an orderly way."""

MAX_CLIENTS: Final = 128
"""Clients at once; one more is not even greeted."""


class AgentServer:
    """Owns the services of one user, and answers their clients.

    Attributes:
        services: The services.

    Args:
        open_service: Opens a service.
        wishes: What is wanted; gone on with from the beginning.
        idle_s: How long to stay when nobody needs it; None for ever.
        wall_clock: Returns seconds since the epoch.
    """

    services: Services

    def __init__(
        self,
        open_service: OpenService,
        wishes: Wishes,
        *,
        idle_s: float | None = IDLE_S,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._open_service = open_service
        self._wishes = wishes
        self._idle_s = idle_s
        self._started = wall_clock()
        self._bell = Bell()
        self._conversations: dict[Conversation, asyncio.Task[None]] = {}
        self._closing = False
        self._over = False

    async def serve(
        self, listening: socket.socket, ready: Callable[[], None] = lambda: None
    ) -> None:
        """Serve clients until :meth:`stop`, or until nobody needs it.

        Args:
            listening: The socket; closed at the end.
            ready: Called when clients can connect.

        Raises:
            AgentError: If it cannot be known what is wanted.
        """
        wishes = self._wishes.load()
        async with asyncio.TaskGroup() as group:
            self.services = Services(self._open_service, group, self._bell.ring, self._wishes)
            for wanted in wishes:
                self.services.restore(wanted.key.access(os.environ))
            server = await asyncio.start_unix_server(
                lambda reader, writer: self._welcome(reader, writer, group),
                sock=listening,
                limit=MAX_REQUEST_BYTES,
            )
            ready()
            try:
                await self._until_over()
            finally:
                server.close()
                self.services.close()
                for conversation, task in list(self._conversations.items()):
                    await conversation.end_streams()
                    task.cancel()

    async def status(self) -> AgentStatus:
        """See ``AgentControl.status``."""
        return AgentStatus(
            pid=os.getpid(),
            version=__version__,
            started=self._started,
            clients=len(self._conversations),
            services=len(self.services),
            redirections=await self.services.redirections(),
            closing=self.services.exit_risks() if self._closing else None,
        )

    async def stop(self, *, force: bool = False) -> tuple[ExitRisk, ...]:
        """See ``AgentControl.stop``."""
        self._closing = True
        await self.services.shutdown(FORCED_WAIT_S if force else SHUTDOWN_WAIT_S)
        risks = self.services.exit_risks()
        self._over = force or not risks
        self._bell.ring()
        return risks

    def _welcome(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, group: asyncio.TaskGroup
    ) -> None:
        if not is_ours(writer.get_extra_info("socket")):
            logger.warning("somebody else than the user of the agent wanted to talk to it")
            writer.transport.abort()
        elif len(self._conversations) >= MAX_CLIENTS:
            logger.warning("more than %s clients at once", MAX_CLIENTS)
            writer.transport.abort()
        else:
            conversation = Conversation(reader, writer, self)
            self._conversations[conversation] = group.create_task(
                self._converse(conversation), name="conversation"
            )
            self._bell.ring()

    async def _converse(self, conversation: Conversation) -> None:
        raised = await contained(conversation.run(), name="converse")
        if raised is not None:
            logger.error("a conversation has a bug", exc_info=raised)
        del self._conversations[conversation]
        self._bell.ring()

    async def _until_over(self) -> None:
        loop = asyncio.get_running_loop()
        idle_at: float | None = None
        while not self._over:
            if self._closing and not await self.services.redirections():
                return
            if self._conversations or self.services or self._idle_s is None:
                idle_at = None
            elif idle_at is None:
                idle_at = loop.time() + self._idle_s
            elif loop.time() >= idle_at:
                logger.info("nobody needs the agent")
                return
            await self._bell.wait(idle_at)
