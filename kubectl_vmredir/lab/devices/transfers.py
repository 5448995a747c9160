"""The transfers of a guest that have no answer yet: under way to the device, or waiting."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from kubectl_vmredir.lab.devices.function import Clock, Timer
    from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket

MAX_TRANSFERS: Final = 1024
"""Transfers that a guest may have under way; QEMU has some tens at most."""

MAX_TRANSFER_BYTES: Final = 16 << 20
"""Bytes in the OUT transfers among them."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A data packet of the guest, with its id."""

    id: int
    packet: ControlPacket | BulkPacket | InterruptPacket


class Transfers:
    """Keeps transfers until they are answered; bounded.

    Args:
        arrive: Called when a transfer reaches the device, in the order of submission.
        clock: Time.
        latency_s: How long a transfer is on its way, in seconds; 0 is not at all.
    """

    def __init__(
        self, arrive: Callable[[Transfer], None], *, clock: Clock, latency_s: float
    ) -> None:
        self._arrive = arrive
        self._clock = clock
        self._latency_s = latency_s
        self._travelling: deque[tuple[float, Transfer]] = deque()
        """With the time of arrival."""
        self._timer: Timer | None = None
        self._queues: dict[int, deque[Transfer]] = {}
        self._count = 0
        self._bytes = 0

    @property
    def queues(self) -> Mapping[int, deque[Transfer]]:
        """Transfers that wait for the device, by endpoint; to be removed with :meth:`pop`."""
        return self._queues

    def submit(self, transfer: Transfer) -> None:
        """Send a transfer to the device.

        Raises:
            RemoteProtocolError: If there are too many.
        """
        size = len(transfer.packet.data)
        if self._count >= MAX_TRANSFERS or self._bytes + size > MAX_TRANSFER_BYTES:
            raise RemoteProtocolError(f"more than {self._count} transfers under way")
        if self._latency_s:
            self._travelling.append((self._clock.time() + self._latency_s, transfer))
            self._count_in(transfer)
            self._arm()
        else:
            self._arrive(transfer)

    def wait(self, transfer: Transfer) -> None:
        """Keep a transfer that has arrived, until the device can answer it."""
        self._queues.setdefault(transfer.packet.endpoint, deque()).append(transfer)
        self._count_in(transfer)

    def pop(self, endpoint: int) -> Transfer:
        """Remove and return the first that waits at this endpoint."""
        return self._count_out(self._queues[endpoint].popleft())

    def take(self, transfer_id: int) -> Transfer | None:
        """Remove and return the one with this id, wherever it is; None if there is none."""
        for travelling in self._travelling:
            if travelling[1].id == transfer_id:
                self._travelling.remove(travelling)
                return self._count_out(travelling[1])
        for queue in self._queues.values():
            for transfer in queue:
                if transfer.id == transfer_id:
                    queue.remove(transfer)
                    return self._count_out(transfer)
        return None

    def take_at(self, endpoints: Collection[int]) -> list[Transfer]:
        """Remove and return those of these endpoints."""
        taken = [transfer for address in endpoints for transfer in self._queues.pop(address, ())]
        taken += [each for _, each in self._travelling if each.packet.endpoint in endpoints]
        self._travelling = deque(
            entry for entry in self._travelling if entry[1].packet.endpoint not in endpoints
        )
        for transfer in taken:
            self._count_out(transfer)
        return taken

    def take_all(self) -> list[Transfer]:
        """Remove and return all."""
        taken = [transfer for queue in self._queues.values() for transfer in queue]
        taken += [transfer for _, transfer in self._travelling]
        self._queues.clear()
        self._travelling.clear()
        self._count = self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return taken

    def _arm(self) -> None:
        if self._timer is None and self._travelling:
            self._timer = self._clock.call_at(self._travelling[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        while self._travelling and self._travelling[0][0] <= self._clock.time():
            self._arrive(self._count_out(self._travelling.popleft()[1]))
        self._arm()

    def _count_in(self, transfer: Transfer) -> None:
        self._count += 1
        self._bytes += len(transfer.packet.data)

    def _count_out(self, transfer: Transfer) -> Transfer:
        self._count -= 1
        self._bytes -= len(transfer.packet.data)
        return transfer
