"""What a node of the lab knows of a guest: the seam between nodes and guests.

A domain (libvirt's word) is one guest in one launcher pod. It speaks through its run folder, and
the names there are KubeVirt's:

* ``virt-usbredir-0`` .. ``virt-usbredir-3``: unix sockets, one for each USB redirection channel.
  One client at a time; a second one connects, and waits in the backlog unheard.
* ``virt-serial0``: unix socket of the serial console.
* ``virt-serial0-log``: all that the console ever printed in this folder.

A live migration takes two domains, in one process or in two::

    source = await hypervisor.boot(spec)              target = await hypervisor.listen(spec)
    await source.migrate(target.address, ...)         await target.wait_migrated()
    await source.destroy()                            await target.resume()

Hypervisors are async context managers: leaving one destroys its domains.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kubectl_vmredir.model import VmiRef, VmiUid


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """What a domain is made from; source and target of a migration have the same, but the folder.

    Attributes:
        vmi: The VMI it runs.
        vmi_uid: Of that VMI.
        run_folder: Where its sockets are made; must exist. The path may be longer than a
            socket's address may be (108 bytes): clients go through ``/proc/self/fd``.
        memory_mib: Memory of the guest.
        bandwidth: Bytes per second of the copy in a migration; None is as fast as it goes.
    """

    vmi: VmiRef
    vmi_uid: VmiUid
    run_folder: Path
    memory_mib: int = 192
    bandwidth: int | None = None


class MigrationPhase(enum.StrEnum):
    """Where a migration stands at the source, as far as somebody may have to do something."""

    ACTIVE = "active"
    """Memory is being copied, the guest runs."""
    PRE_SWITCHOVER = "pre-switchover"
    """The guest is stopped, the state of its devices is not saved yet."""


class Domain(Protocol):
    """One guest."""

    @property
    def spec(self) -> DomainSpec:
        """What it was made from."""

    @property
    def pid(self) -> int | None:
        """Its process; None for a guest without a process of its own."""

    @property
    def address(self) -> str:
        """Where to migrate to; only a domain that listens has one.

        It is good for any process of this machine and user.
        """

    async def migrate(
        self, address: str, *, on_phase: Callable[[MigrationPhase], Awaitable[None]]
    ) -> None:
        """Migrate away; returns when the target has all, and this guest is stopped for good.

        Cancelling the task cancels the migration.

        Args:
            address: Of the target.
            on_phase: Awaited at each phase. A migration goes on from PRE_SWITCHOVER only
                when it has returned.

        Raises:
            MigrationFailed: If it failed or was cancelled; the guest runs on here.
        """

    async def cancel_migration(self) -> None:
        """Cancel the migration under way, if there is one: :meth:`migrate` fails."""

    async def wait_migrated(self) -> None:
        """Wait, as a target, until the state is loaded; the guest does not run yet.

        Raises:
            MigrationFailed: If the source gave up. The domain has ended, or will.
        """

    async def resume(self) -> None:
        """Let the guest run, as a target whose state is loaded."""

    async def wait_ended(self) -> str:
        """Wait until the domain has ended, and return how: a sentence for people."""

    async def destroy(self) -> None:
        """End the domain now, as pulling the plug does; sockets vanish. Safe to call again."""


class Hypervisor(Protocol):
    """Makes domains."""

    async def boot(self, spec: DomainSpec) -> Domain:
        """Start a guest; returns when it runs and its sockets listen.

        Raises:
            LabError: If it cannot be started.
        """

    async def listen(self, spec: DomainSpec) -> Domain:
        """Make the target of a migration; returns when its sockets listen.

        It stays paused until :meth:`Domain.resume`.

        Raises:
            LabError: If it cannot be started.
        """
