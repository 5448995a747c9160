"""Says when USB devices are plugged in or taken away.

A thread of its own listens to udev and looks at all devices again after each event, whatever it
says: events come in any order, and some are lost when there are too many at a time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import socket
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, Self

import pyudev

from kubectl_vmredir.errors import UsbUnavailable
from kubectl_vmredir.usb.discovery import ROOT, list_devices, open_udev, require_bus
from kubectl_vmredir.usb.threads import in_thread, start
from kubectl_vmredir.usb.use import may_open

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from kubectl_vmredir.model import LocalDevice

logger = logging.getLogger(__name__)

FIRST_LOOK_S: Final = 20.0
"""How long the first look may take: sysfs waits for a device that is just being reset."""

LAST_LOOK_S: Final = 2.0
"""How long the look that is under way in the end is waited for."""

_MOST_AT_ONCE: Final = 1000
"""Events that are taken before the devices are looked at."""


class Events(Protocol):
    """Where it is heard that something happened to a USB device."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are events."""

    def drain(self) -> None:
        """Take the events that have come. What they say does not matter.

        Raises:
            OSError: If there will be no more.
        """


class UdevEvents:
    """Events of udev, or of the kernel where no udevd runs; listens from the start.

    Args:
        root: Where ``sys`` and ``run`` are.

    Raises:
        UsbUnavailable: If this machine has no USB bus, libudev is missing, or we may not listen.
    """

    def __init__(self, root: Path = ROOT) -> None:
        require_bus(root)
        source = "udev" if (root / "run/udev/control").exists() else "kernel"
        try:
            self._monitor = pyudev.Monitor.from_netlink(open_udev(), source)
            self._monitor.filter_by("usb")
            self._monitor.start()
        except OSError as exc:
            raise UsbUnavailable(
                f"cannot hear when USB devices are plugged in: {exc.strerror or exc}",
                hint="In a container or sandbox, allow netlink sockets (AF_NETLINK).",
            ) from exc
        logger.debug("listening to the events of %s", source)

    def fileno(self) -> int:
        """Return the descriptor of the netlink socket."""
        descriptor: int = self._monitor.fileno()
        return descriptor

    def drain(self) -> None:
        """Take the events that have come.

        Raises:
            OSError: If there will be no more.
        """
        try:
            for _ in range(_MOST_AT_ONCE):
                if self._monitor.poll(timeout=0) is None:
                    return
        except ValueError:  # EINVAL: not a message of udev
            logger.debug("a message that is none of udev's")
        except OSError as exc:
            # pyudev sees that the socket has an error, and leaves it there.
            error = exc.errno or self._take_error()
            if error != errno.ENOBUFS:
                raise OSError(error, os.strerror(error)) from exc
            logger.debug("more events than the kernel keeps: some are lost")

    def _take_error(self) -> int:
        with socket.socket(fileno=os.dup(self.fileno())) as netlink:
            return netlink.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


class Hotplug:
    """Follows which devices are plugged in; an async context manager.

    It listens first and lists then, so that nothing is missed in between.

    Args:
        listen: Starts to listen; called in a thread.
        look: Returns the devices that are plugged in; called in a thread.
        first_look_s: How long the first look may take.
        last_look_s: How long a look may take in the end, before it is left behind.
    """

    def __init__(
        self,
        listen: Callable[[], Events] = UdevEvents,
        look: Callable[[], Sequence[LocalDevice]] = list_devices,
        *,
        first_look_s: float = FIRST_LOOK_S,
        last_look_s: float = LAST_LOOK_S,
    ) -> None:
        self._listen = listen
        self._look = look
        self._first_look_s = first_look_s
        self._last_look_s = last_look_s
        self._stack = AsyncExitStack()
        self._seen: dict[LocalDevice, bool] = {}
        self._trouble: UsbUnavailable | None = None
        self._version = 0
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Start to listen, and look for the first time.

        Raises:
            UsbUnavailable: If this machine has no USB bus, libudev is missing, we may not
                listen, or the kernel does not answer.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._first_look_s):
                events = await in_thread(self._listen, name="usb-listen")
                self._seen = await in_thread(self._see, name="usb-look")
        except TimeoutError as exc:
            raise UsbUnavailable(
                f"the kernel did not list the USB devices within {self._first_look_s:g} s",
                hint="A device may hang. See: sudo dmesg | grep -i usb",
            ) from exc
        async with AsyncExitStack() as stack:
            group = await stack.enter_async_context(asyncio.TaskGroup())
            stop, stopped = socket.socketpair()
            watching = start(partial(self._watch, events, stopped, loop), name="usb-hotplug")
            task = group.create_task(_finish(watching), name="usb-hotplug")
            stack.push_async_callback(self._leave, task)
            stack.callback(stop.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop listening; bounded in time."""
        return await self._stack.__aexit__(exc_type, exc, traceback)

    @property
    def devices(self) -> Sequence[LocalDevice]:
        """The devices that were plugged in when something last happened, by port."""
        return tuple(self._seen)

    def changes(self) -> AsyncGenerator[None, None]:
        """Yield when devices came or went since this call, until closed.

        Also when this user may open one now, or no longer: udev may be late, or a rule new. What
        our own claims do (drivers change, the device is reset) is no change; who waits for a
        driver or a holder must look again from time to time.

        Raises:
            UsbUnavailable: While iterating, if nothing more will be heard.
        """
        return self._follow(self._version)

    async def _follow(self, known: int) -> AsyncGenerator[None, None]:
        while True:
            while self._version == known:
                if self._trouble is not None:
                    raise self._trouble
                await self._changed.wait()
            known = self._version
            yield

    async def _leave(self, watching: asyncio.Task[None]) -> None:
        """Wait for the thread, which has been told to end, unless the kernel keeps it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._last_look_s):
                await asyncio.wait({watching})
        if not watching.done():
            logger.warning("the kernel still does not list the USB devices: not waited for")
            watching.cancel()

    def _update(self, seen: dict[LocalDevice, bool]) -> None:
        changed = seen != self._seen
        self._seen = seen  # also if they are equal: words of the same devices may be better now
        if changed:
            self._version += 1
            self._wake()

    def _fail(self, cause: OSError) -> None:
        self._trouble = UsbUnavailable(f"USB devices are no longer heard of: {cause.strerror}")
        self._trouble.__cause__ = cause
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- in the thread ----------------------------------------------------------------------

    def _watch(
        self, events: Events, stopped: socket.socket, loop: asyncio.AbstractEventLoop
    ) -> None:
        poll = select.poll()
        poll.register(events, select.POLLIN)
        poll.register(stopped, select.POLLIN)
        with stopped:
            while stopped.fileno() not in {descriptor for descriptor, _ in poll.poll()}:
                try:
                    events.drain()
                except OSError as exc:
                    loop.call_soon_threadsafe(self._fail, exc)
                    return
                try:
                    seen = self._see()
                except UsbUnavailable:  # the bus has gone, and all its devices
                    seen = {}
                loop.call_soon_threadsafe(self._update, seen)

    def _see(self) -> dict[LocalDevice, bool]:
        """Return the devices, and whether this user may open each."""
        return {device: may_open(device) for device in self._look()}


async def _finish(thread: Future[None]) -> None:
    """Wait for the thread, so that a bug in it is not silent."""
    await asyncio.wrap_future(thread)
