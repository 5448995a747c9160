"""Has the device of a redirection claimed: once it is plugged in, and only if that is safe."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import DeviceAmbiguous, DeviceNotFound, UsbError
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import TRIAL_S
from kubectl_vmredir.service.safety import check_safe, notes, on_trial

if TYPE_CHECKING:
    from kubectl_vmredir.model import DeviceUse, LocalDevice
    from kubectl_vmredir.service.bell import Bell
    from kubectl_vmredir.service.redirection import Surroundings
    from kubectl_vmredir.service.safety import Consent
    from kubectl_vmredir.service.session import DeviceSession
    from kubectl_vmredir.service.story import Story
    from kubectl_vmredir.service.wish import Wish

logger = logging.getLogger(__name__)

SHORT_LIVED_S: Final = 10.0
"""A device session that ends sooner has not earned that its device is claimed again at once."""


class DeviceClaimer:
    """Claims devices for one redirection; what it has claimed belongs to the device sessions.

    Attributes:
        devices_changed: Whether devices have come or gone since it looked last.
        confirmed: Whether the only keyboard or pointer may stay away.

    Args:
        wish: What is wanted.
        consent: Which dangers the user accepts.
        confirmed: See there.
        around: What redirections share.
        story: Told what happens.
        bell: Rung when it may be worth another look.
    """

    def __init__(
        self,
        wish: Wish,
        consent: Consent,
        around: Surroundings,
        story: Story,
        bell: Bell,
        *,
        confirmed: bool,
    ) -> None:
        self.devices_changed = False
        self.confirmed = confirmed
        self._wish = wish
        self._consent = consent
        self._around = around
        self._story = story
        self._bell = bell
        self._loop = asyncio.get_running_loop()
        self._claiming: LocalDevice | None = None
        self._claimed_at = 0.0
        self._not_before = 0.0
        self._delays = around.backoff()
        self._on_trial = False
        self._told: set[str] = set()

    @property
    def consent(self) -> Consent:
        """Which dangers the user accepts."""
        return self._consent

    def start_afresh(self, consent: Consent) -> None:
        """Try again at once: the user has acted, and accepts other dangers now."""
        self._consent = consent
        self._not_before = 0.0

    def confirm(self) -> None:
        """Leave the only keyboard or pointer away, from now on."""
        self.confirmed = True
        if self._story.try_out(None):
            self._story.note("confirmed: the device stays in the VM")

    def end_trial(self) -> None:
        """Take in that the device is back here: the next time it is taken is another trial."""
        self._on_trial = False
        self._story.try_out(None)

    def pace(self) -> None:
        """Put off the next claim if the session that has just ended was a short one."""
        now = self._loop.time()
        if now >= self._claimed_at + SHORT_LIVED_S:
            self._delays = self._around.backoff()
        else:
            self._not_before = now + next(self._delays)
            self._story.enter(RedirectionState.HOLDING, "trying again")

    async def found(self) -> DeviceSession | None:
        """Return the session that was claimed last, or is just being; None if it is no more."""
        if self._claiming is None:
            return None
        return await self._around.sessions.find(self._claiming, self._wish.id)

    async def claimed(self) -> DeviceSession:
        """Return the session of the device, as soon as it is plugged in.

        Raises:
            UsbError: If a person must act.
        """
        while True:
            self.devices_changed = False  # what changes from now on is worth another look
            device = await self._plugged_in()
            if self._loop.time() < self._not_before:
                await self._bell.wait(self._not_before)
                continue
            self._claiming = device
            try:
                session = await self.found() or await self._claim(device)
            except UsbError as error:
                self._not_before = self._loop.time() + next(self._delays)
                if not (error.retryable or await self._is_gone(device, error)):
                    raise
                self._story.enter(RedirectionState.WAITING_DEVICE, str(error))
            else:
                self._claimed_at = self._loop.time()
                return session

    async def _plugged_in(self) -> LocalDevice:
        selector = self._wish.device
        while True:
            plugged_in = await self._around.devices.devices()
            match [device for device in plugged_in if selector.matches(device)]:
                case [device]:
                    return device
                case []:
                    reason = f"device {selector} is unplugged"
                    self._story.enter(RedirectionState.WAITING_DEVICE, reason)
                    await self._bell.wait()
                case candidates:
                    raise DeviceAmbiguous(selector, candidates)

    async def _is_gone(self, device: LocalDevice, error: UsbError) -> bool:
        """Return whether a device was unplugged since we looked; whatever came of that."""
        plugged_in = await self._around.devices.devices()
        return isinstance(error, DeviceNotFound) or device not in plugged_in

    async def _claim(self, device: LocalDevice) -> DeviceSession:
        use = await self._around.sessions.use(device)
        check_safe(device, use, self._consent)
        # Tried again and again without a word, what stays blocked fills no story.
        if blocked := self._story.state is RedirectionState.BLOCKED:
            logger.info("%s: claiming device %s", self._wish.id, device)
        else:
            self._story.enter(RedirectionState.CLAIMING, "claiming the device")
        session = await self._around.sessions.claim(device, self._wish.id)
        if blocked:
            self._story.enter(RedirectionState.CLAIMING, "claimed the device")
        self._note(device, use)
        return session

    def _note(self, device: LocalDevice, use: DeviceUse) -> None:
        """Tell what the user is to know of the device that was claimed, each thing once."""
        for note in notes(device, use, self._story.handover):
            if note not in self._told:
                self._told.add(note)
                self._story.note(note)
        if on_trial(use) and not self.confirmed and not self._on_trial:
            self._on_trial = True
            self._story.try_out(self._around.wall_clock() + TRIAL_S)
            self._story.note(f"the device comes back in {TRIAL_S:.0f} s unless you confirm")
            self._around.try_out(self._wish.id)
