"""One migration from the user's side: begin, hold, look, let go, cancel, wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab import objects, timeline
from kubectl_vmredir.lab.objects import Collection

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.cache import Cache
    from kubectl_vmredir.lab.timeline import Step

WAIT_TIMEOUT_S: Final = 60.0
"""How long each wait of a lab takes at most."""


class Move:
    """A VirtualMachineInstanceMigration.

    Args:
        client: Of somebody who may change it.
        cache: What that client sees.
        vmim: The object, as it was created.
    """

    def __init__(self, client: KubeClient, cache: Cache, vmim: JsonObject) -> None:
        self._client = client
        self._cache = cache
        self._vmim = vmim
        self.name = objects.name(vmim)
        self.uid = objects.uid(vmim)

    @property
    def vmim(self) -> JsonObject | None:
        """The object as it is now; None if it is gone."""
        return self._cache.by_uid(self.uid)

    async def hold_at(self, step: Step | None) -> None:
        """Hold it at a step that it has not reached yet; None lets it go."""
        change = {"metadata": {"annotations": {timeline.HOLD_AT: step}}}
        patched = await self._client.patch(Collection.VMIMS.path(self._vmim), change)
        self._cache.learn(Collection.VMIMS, patched)

    async def release(self) -> None:
        """Let it go on to its end."""
        await self.hold_at(None)

    async def held(self, step: Step) -> None:
        """Wait until it is held at a step.

        Raises:
            LabError: If it comes to an end before.
        """

        def decided() -> bool:
            vmim = self.vmim
            if vmim is None or objects.phase(vmim) == "Failed":
                raise LabError(f"migration {self.name} ended before it was held at {step}")
            return objects.annotation(vmim, timeline.HELD_AT) == step

        await self._until(decided, f"held at {step}")

    async def finished(self) -> bool:
        """Wait until it has ended, and return whether the VM has moved.

        The object of a cancelled migration is gone then.
        """
        await self._until(lambda: self.vmim is None or objects.is_final(self.vmim), "finished")
        return self.vmim is not None and objects.phase(self.vmim) == "Succeeded"

    async def cancel(self) -> None:
        """Cancel it, as ``virtctl migrate-cancel`` does."""
        await self._client.delete(Collection.VMIMS.path(self._vmim))

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(WAIT_TIMEOUT_S):
                await self._cache.until(condition)
        except TimeoutError as exc:
            raise LabError(f"migration {self.name} was not {what} in time") from exc
