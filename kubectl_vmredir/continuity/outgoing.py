"""What a link was given for its QEMU, and what that has not read yet."""

from __future__ import annotations

from collections import deque
from typing import Final

from kubectl_vmredir.errors import LocalProtocolError

KEPT_BYTES: Final = 4 << 20
"""With more that is unread, no more of it is kept. A link takes no more bytes long before that:
:class:`kubectl_vmredir.continuity.events.GuestWritable`."""


class Outgoing:
    """Counts the bytes that go out on one link, and keeps those that are not known to be read.

    Attributes:
        sent: Bytes given out on this link.
        read: So many of them QEMU is known to have read.
        complete: Whether all that is unread is kept, so that another QEMU can be given it.
    """

    def __init__(self) -> None:
        self.open(keeps=False)

    def open(self, *, keeps: bool) -> None:
        """Begin with a fresh link.

        Args:
            keeps: Whether to keep what is unread: the link says what is read.
        """
        self.sent = 0
        self.read = 0
        self.complete = keeps
        self._kept: deque[bytes] = deque()
        self._kept_from = 0  # where the first of them begins

    def add(self, data: memoryview | bytes) -> None:
        """Take note of bytes that go out now."""
        self.sent += len(data)
        if self.complete:
            self._kept.append(bytes(data))
            if self.sent - self._kept_from > KEPT_BYTES:
                self.complete = False
                self._kept.clear()

    def note_read(self, offset: int) -> None:
        """QEMU is known to have read everything up to an offset.

        Raises:
            LocalProtocolError: If it was known to have read more, or was not given so much.
        """
        if not self.read <= offset <= self.sent:
            raise LocalProtocolError(
                f"{offset} bytes read: {self.read} were before, {self.sent} were sent"
            )
        self.read = offset
        while self._kept and self._kept_from + len(self._kept[0]) <= offset:
            self._kept_from += len(self._kept.popleft())

    def splice(self, offset: int) -> bytes:
        """Go on with another link, at whose far end QEMU has read so many bytes of this one.

        Returns:
            What is unread: the first bytes of the new link.

        Raises:
            LocalProtocolError: As :meth:`note_read`.
        """
        assert self.complete, "what is unread is not known"
        self.note_read(offset)
        unread = b"".join(self._kept)[offset - self._kept_from :] if self._kept else b""
        self.open(keeps=True)
        self.add(unread)
        return unread
