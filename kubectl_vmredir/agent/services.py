"""The services that the agent owns: opened on demand, closed when nobody needs them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.control import Overview, ServiceId
from kubectl_vmredir.agent.overview import closed, opened
from kubectl_vmredir.agent.variables import Variables
from kubectl_vmredir.agent.wire import BUG, error_of, trouble_of
from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.bootstrap import Connection
from kubectl_vmredir.errors import AgentError, RedirectionNotFound
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.bulkhead import contained
from kubectl_vmredir.service.changes import Changes
from kubectl_vmredir.service.interface import SHUTDOWN_WAIT_S, RedirectionEnded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from kubectl_vmredir.agent.access import AccessKey
    from kubectl_vmredir.agent.wishes import Wishes
    from kubectl_vmredir.backoff import BackoffFactory
    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import Change, ExitRisk, Trouble

logger = logging.getLogger(__name__)

OVERVIEW_INTERVAL_S: Final = 0.1
"""How long changes are gathered before who watches the overview hears of them."""

OpenService = Callable[[Access], AbstractAsyncContextManager[Connection]]
"""Opens a service. The variables that it gets change when a client brings other ones."""


@dataclass(slots=True)
class _Owned:
    """A service, or one that is just being opened.

    Attributes:
        id: Names it to clients.
        variables: What credential plugins see.
        users: What to call for each who holds it when it ends.
        bell: Rung when it may have become unneeded.
        opened: Set when there is a connection, or trouble instead.
    """

    id: ServiceId
    variables: Variables
    users: list[Callable[[], None]] = field(default_factory=list)
    bell: Bell = field(default_factory=Bell)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    connection: Connection | None = None
    trouble: Trouble | None = None


class Services:
    """Owns a service for each ``Access.key`` that is in use, or has a redirection.

    Args:
        open_service: Opens one.
        group: Runs their owners.
        changed: Called when there is one more or less of them, or less for them to do.
        wishes: What is wanted of them, also when they are not open.
        backoff: How long to wait between two tries to open one that is wanted.
    """

    def __init__(
        self,
        open_service: OpenService,
        group: asyncio.TaskGroup,
        changed: Callable[[], None],
        wishes: Wishes,
        *,
        backoff: BackoffFactory = exponential_backoff,
    ) -> None:
        self._open_service = open_service
        self._wishes = wishes
        self._backoff = backoff
        self._group = group
        self._changed = changed
        self._owned: dict[AccessKey, _Owned] = {}
        self._ids = (ServiceId(f"s{number}") for number in itertools.count(1))
        self._changes = Changes()
        self._closing = False
        self._over = False

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._owned)

    @asynccontextmanager
    async def use(self, access: Access, lost: Callable[[], None]) -> AsyncIterator[Connection]:
        """Hold a service, which is opened if it is not.

        Args:
            access: Which one. Credential plugins see its variables from now on, unless those
                lack what the shell that bound had.
            lost: Called if the service ends while it is held.

        Raises:
            VmRedirError: If it cannot be opened.
        """
        owned = self._obtain(access)
        owned.users.append(lost)
        try:
            await owned.opened.wait()
            if owned.connection is None:
                assert owned.trouble is not None, "neither opened nor failed"
                raise error_of(owned.trouble)
            yield owned.connection
        finally:
            owned.users.remove(lost)
            owned.bell.ring()

    def binds(self, access: Access) -> None:
        """Have credential plugins of a service see the variables of the shell that binds now."""
        if (owned := self._owned.get(access.key)) is not None:
            owned.variables.bind(access.environ)

    def restore(self, access: Access) -> None:
        """Open a service, of which something is wanted, and go on with that."""
        self._obtain(access)

    def access_to(self, service: ServiceId) -> Access:
        """Return the access that leads to a service, with the variables that it has.

        Raises:
            AgentError: If there is none of that id.
        """
        key, owned = self._find(service)
        return key.access(owned.variables.values)

    async def overview(self) -> Overview:
        """Return how all of them stand."""
        return Overview(
            tuple(
                [
                    closed(owned.id, key, self._wishes.of(key), owned.trouble)
                    if (connection := owned.connection) is None
                    else await opened(owned.id, connection)
                    for key, owned in list(self._owned.items())
                ]
            )
        )

    async def overviews(self) -> AsyncGenerator[Overview, None]:
        """Yield how all of them stand, now and whenever that has changed, until closed."""
        async with aclosing(self._changes.follow()) as changes:
            told = await self.overview()
            yield told
            async for _ in changes:
                await asyncio.sleep(OVERVIEW_INTERVAL_S)
                if (found := await self.overview()) != told:
                    told = found
                    yield told

    async def forget(self, service: ServiceId, redirection_id: RedirectionId) -> None:
        """End a redirection, also of a service that is not open: then it is no longer wanted.

        Raises:
            RedirectionNotFound: If there is none of that id.
            AgentError: If it cannot be written.
        """
        key, owned = self._find(service)
        if owned.connection is None:
            kept = self._wishes.of(key)
            left = tuple(one for one in kept if one.wish.id != redirection_id)
            if left == kept:
                raise RedirectionNotFound(redirection_id)
            await self._wishes.put(key, left, self._wishes.variables_of(key))
            self._tell()
            if owned.connection is None:
                owned.bell.ring()
                return
            # It has been opened in the meantime, and may have gone on with what was wanted then.
            with suppress(RedirectionNotFound):
                await owned.connection.service.unbind(redirection_id)
        else:
            await owned.connection.service.unbind(redirection_id)
        await self.settle(key)

    async def settle(self, key: AccessKey) -> None:
        """Write down what is wanted of a service, if that has changed.

        Raises:
            AgentError: If it cannot be written.
        """
        owned = self._owned.get(key)
        if owned is not None and owned.connection is not None and not self._closing:
            connection = owned.connection
            names = owned.variables.names if connection.runs_plugin else ()
            await self._wishes.put(key, connection.service.wishes(), names)

    async def redirections(self) -> int:
        """Return how many redirections they keep up, all together."""
        snapshots = [await connection.service.snapshot() for connection in self._connections()]
        return sum(len(snapshot.redirections) for snapshot in snapshots)

    def exit_risks(self) -> tuple[ExitRisk, ...]:
        """Return what it would break to end them all now."""
        return tuple(
            risk for connection in self._connections() for risk in connection.service.exit_risks()
        )

    async def shutdown(self, deadline_s: float = SHUTDOWN_WAIT_S) -> None:
        """End all redirections, as far as that harms nobody; nothing can be bound from now on.

        What is wanted stays wanted.

        Args:
            deadline_s: How long to wait for the gate.
        """
        self._closing = True
        async with asyncio.TaskGroup() as group:
            for connection in self._connections():
                group.create_task(connection.service.shutdown(deadline_s), name="shutdown")

    def close(self) -> None:
        """End them all, whatever they own; :meth:`shutdown` was before."""
        self._closing = self._over = True
        for owned in self._owned.values():
            owned.bell.ring()

    def _find(self, service: ServiceId) -> tuple[AccessKey, _Owned]:
        for key, owned in self._owned.items():
            if owned.id == service:
                return key, owned
        raise AgentError(f"the agent has no service {service[:40]!r}")

    def _tell(self) -> None:
        """Tell everybody that something has changed."""
        self._changes.announce()
        self._changed()

    def _connections(self) -> list[Connection]:
        owned = self._owned.values()
        return [one.connection for one in owned if one.connection is not None]

    def _obtain(self, access: Access) -> _Owned:
        if (owned := self._owned.get(access.key)) is not None:
            owned.variables.offer(access.environ)
            return owned
        variables = Variables(access.environ, self._wishes.variables_of(access.key))
        owned = self._owned[access.key] = _Owned(next(self._ids), variables)
        self._group.create_task(self._own(access, owned), name="own-service")
        self._tell()
        return owned

    async def _own(self, access: Access, owned: _Owned) -> None:
        delays = self._backoff()
        while True:
            raised = await contained(self._keep(access, owned), name="service")
            if raised is not None:
                owned.trouble = trouble_of(raised)
                logger.warning("a service is not to be had: %s", owned.trouble.message)
                if owned.connection is not None and owned.trouble.kind == BUG:
                    logger.error("a service has a bug", exc_info=raised)
            if owned.connection is not None:
                owned.connection = None
                for lost in list(owned.users):
                    lost()
            owned.opened.set()
            self._tell()
            if raised is None or not self._wishes.of(access.key):
                break
            await owned.bell.wait(asyncio.get_running_loop().time() + next(delays))
            if self._over:
                break
        if self._owned.get(access.key) is owned:
            del self._owned[access.key]
        self._tell()

    async def _keep(self, access: Access, owned: _Owned) -> None:
        """Open a service, and keep it open until nobody needs it."""
        key = access.key
        async with (
            self._open_service(
                Access(access.options, owned.variables.values, owned.variables.names)
            ) as connection,
            connection.service.subscribe() as changes,
            asyncio.TaskGroup() as group,
        ):
            for kept in self._wishes.of(key):
                connection.service.restore(kept)
            owned.connection = connection
            owned.opened.set()
            self._changes.announce()
            following = group.create_task(self._follow(changes, key, owned.bell), name="follow")
            while not self._over:
                snapshot = await connection.service.snapshot()
                if not owned.users and not snapshot.redirections:
                    break
                await owned.bell.wait()
            # From here on whoever asks for it gets a new one, and this one has no users.
            if self._owned.get(key) is owned:
                del self._owned[key]
            following.cancel()

    async def _follow(self, changes: AsyncIterator[Change], key: AccessKey, bell: Bell) -> None:
        """Write down what is wanted, and notice when there is less to do."""
        async for change in changes:
            self._changes.announce()
            try:
                await self.settle(key)
            except AgentError as error:
                logger.error("%s", error)
            if isinstance(change, RedirectionEnded):
                bell.ring()
                self._changed()
