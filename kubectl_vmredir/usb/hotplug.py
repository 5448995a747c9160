"""Says when USB devices are plugged in or taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from types import TracebackType

    from kubectl_vmredir.model import LocalDevice


class Hotplug:
    """Follows which devices are plugged in; an async context manager.

    It listens first and lists then, so that nothing is missed in between.
    """

    async def __aenter__(self) -> Self:
        """Start to listen, and look for the first time.

        Raises:
            UsbUnavailable: If this machine has no USB bus, or libudev is missing.
        """
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening."""

    @property
    def devices(self) -> Sequence[LocalDevice]:
        """The devices that were plugged in when something last happened, by port."""
        return ()

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield when devices came or went since this call, until closed.

        Also when this user may open one now, or no longer: a udev rule may be late. What our
        own claims do (drivers change, the device is reset) is no change.
        """
        return
        yield
