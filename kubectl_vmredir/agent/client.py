"""Redirections in the agent: the service interface, through its socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.agent.control import AgentControl
from kubectl_vmredir.service.interface import RedirectionService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.agent.access import Access
    from kubectl_vmredir.agent.control import AgentStatus, Overview, ServiceId
    from kubectl_vmredir.agent.line import Line
    from kubectl_vmredir.model import DeviceUse, LocalDevice, RedirectionId, VmiRef
    from kubectl_vmredir.service.interface import (
        BindPlan,
        BindRequest,
        Change,
        DevicesSeen,
        ExitRisk,
        Snapshot,
        VmiNews,
        VmiSlots,
    )


class AgentClient:
    """A ``RedirectionService``, and an ``AgentControl``, that the agent is asked for.

    :meth:`open` or :meth:`adopt` comes before all of the service: it says which one is meant.

    Args:
        line: To the agent.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    # -- the service interface --------------------------------------------------------------

    async def devices(self) -> Sequence[LocalDevice]:
        """See ``RedirectionService.devices``."""
        return await self._line.call(RedirectionService.devices)

    async def device_use(self, device: LocalDevice) -> DeviceUse:
        """See ``RedirectionService.device_use``."""
        return await self._line.call(RedirectionService.device_use, device)

    def watch_devices(self) -> AbstractAsyncContextManager[AsyncIterator[DevicesSeen]]:
        """See ``RedirectionService.watch_devices``."""
        return self._line.stream(RedirectionService.watch_devices)

    async def vmis(self, namespace: str | None, selector: str = "") -> Sequence[VmiSlots]:
        """See ``RedirectionService.vmis``."""
        return await self._line.call(RedirectionService.vmis, namespace, selector)

    def watch_vmis(
        self, namespace: str | None, selector: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[VmiNews]]:
        """See ``RedirectionService.watch_vmis``."""
        return self._line.stream(RedirectionService.watch_vmis, namespace, selector)

    async def bind(self, request: BindRequest) -> RedirectionId:
        """See ``RedirectionService.bind``."""
        return await self._line.call(RedirectionService.bind, request)

    async def plan(self, request: BindRequest) -> BindPlan:
        """See ``RedirectionService.plan``."""
        return await self._line.call(RedirectionService.plan, request)

    async def confirm(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.confirm``."""
        await self._line.call(RedirectionService.confirm, redirection_id)

    async def unbind(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.unbind``."""
        await self._line.call(RedirectionService.unbind, redirection_id)

    async def pause(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.pause``."""
        await self._line.call(RedirectionService.pause, redirection_id)

    async def resume(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.resume``."""
        await self._line.call(RedirectionService.resume, redirection_id)

    async def reconnect(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.reconnect``."""
        await self._line.call(RedirectionService.reconnect, redirection_id)

    async def migrate(self, vmi: VmiRef) -> str:
        """See ``RedirectionService.migrate``."""
        return await self._line.call(RedirectionService.migrate, vmi)

    async def may_migrate(self, namespace: str) -> bool:
        """See ``RedirectionService.may_migrate``."""
        return await self._line.call(RedirectionService.may_migrate, namespace)

    async def name_slots(self, vmi: VmiRef, names: Sequence[str]) -> bool:
        """See ``RedirectionService.name_slots``."""
        return await self._line.call(RedirectionService.name_slots, vmi, names)

    async def vmi_yaml(self, vmi: VmiRef) -> str:
        """See ``RedirectionService.vmi_yaml``."""
        return await self._line.call(RedirectionService.vmi_yaml, vmi)

    async def snapshot(self) -> Snapshot:
        """See ``RedirectionService.snapshot``."""
        return await self._line.call(RedirectionService.snapshot)

    def subscribe(
        self, *, numbers: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """See ``RedirectionService.subscribe``."""
        return self._line.stream(RedirectionService.subscribe, numbers=numbers)

    # -- the agent itself -------------------------------------------------------------------

    async def open(self, access: Access) -> str:
        """See ``AgentControl.open``."""
        return await self._line.call(AgentControl.open, access)

    async def adopt(self, service: ServiceId) -> None:
        """See ``AgentControl.adopt``."""
        await self._line.call(AgentControl.adopt, service)

    async def overview(self) -> Overview:
        """See ``AgentControl.overview``."""
        return await self._line.call(AgentControl.overview)

    def watch_overview(self) -> AbstractAsyncContextManager[AsyncIterator[Overview]]:
        """See ``AgentControl.watch_overview``."""
        return self._line.stream(AgentControl.watch_overview)

    async def forget(self, service: ServiceId, redirection_id: RedirectionId) -> None:
        """See ``AgentControl.forget``."""
        await self._line.call(AgentControl.forget, service, redirection_id)

    async def status(self) -> AgentStatus:
        """See ``AgentControl.status``."""
        return await self._line.call(AgentControl.status)

    async def stop(self, *, force: bool = False) -> tuple[ExitRisk, ...]:
        """See ``AgentControl.stop``."""
        return await self._line.call(AgentControl.stop, force=force)
