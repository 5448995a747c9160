"""A link over the pod route: ncat in the launcher pod, at QEMU's socket.

Facts: docs/facts/exec.md. ncat does not end when QEMU closes its socket: it just closes its
standard output, and would hold the stream for ever. So something reads that, says a last word
when it ends, and ends ncat. The last word tells an end of QEMU's from one of the way to it, which
no exit status does.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import PathBroken, StreamLost, VmiNotReady
from kubectl_vmredir.k8s.objects import printable
from kubectl_vmredir.kubevirt.pods import slot_socket
from kubectl_vmredir.model import Route, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.kubevirt.exec import PodExec, PodRef
    from kubectl_vmredir.kubevirt.exec_stream import ExecStatus, ExecStream
    from kubectl_vmredir.service.ports import Launcher, LinkListener

CONNECT_TIMEOUT_S: Final = 5.0
"""How long ncat may take to be connected: it needs 0.1 s to start, on an idle node."""
CLOSE_TIMEOUT_S: Final = 1.0
"""How long QEMU may take to let go of the slot, before the stream is closed all the same."""

# $1 path of the socket. What ncat reads is ours, its first line apart, and comes as it is.
_CARRY: Final = """
sh -c 'echo $$; exec ncat -v -U "$1"' sh "$1" | {
    read -r ncat
    cat
    echo ended >&2
    kill "$ncat" 2>/dev/null
}
"""
_LAST_WORD: Final = re.compile(r"^ended$", re.MULTILINE)
_CONNECTED: Final = "Ncat: Connected to "
_CHATTER: Final = re.compile(r"Ncat: (Version |Connected to |\d+ bytes sent)|ended$|Terminated$|$")


async def dial_slot(
    pod_exec: PodExec,
    pod: PodRef,
    launcher: Launcher,
    slot: int,
    listener: LinkListener,
    ask: Callable[[], None],
) -> PodLink:
    """Open a link; the caller owns it.

    A cancellation before ncat is connected gives the dial up. Time limits are kept in here.

    Args:
        pod_exec: Runs the command.
        pod: Where.
        launcher: The same, as the service knows it.
        slot: Index of the slot.
        listener: Hears what happens on the link; nothing if it cannot be opened.
        ask: Called before each try; what it raises ends the dial.

    Raises:
        VmiNotReady: If nothing listens there.
        ClusterError: As :meth:`~kubectl_vmredir.kubevirt.exec.PodExec.open`.
    """
    ears = _Ears(listener)
    command = ("sh", "-c", _CARRY, "vmredir", slot_socket(launcher.uid, slot))
    stream = await pod_exec.open(pod, command, ears, ask)
    opened = False
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await ears.decided.wait()
        opened, reason = ears.connected, ears.reason
    except TimeoutError:
        reason = f"not connected within {CONNECT_TIMEOUT_S:g} s"
    finally:
        if not opened:
            await stream.close()
    if not opened:
        raise VmiNotReady(f"slot {slot} of VM {launcher.vmi} cannot be opened in {pod}: {reason}")
    return PodLink(stream, ears)


class PodLink:
    """A link over the pod route; a :class:`~kubectl_vmredir.service.ports.Link`.

    Its round trips are those to the API server, and it never learns what QEMU consumed.
    """

    def __init__(self, stream: ExecStream, ears: _Ears) -> None:
        self._stream = stream
        self._ears = ears
        self._sent = 0

    @property
    def route(self) -> Route:
        """See :attr:`~kubectl_vmredir.service.ports.Link.route`."""
        return Route.POD

    @property
    def sent(self) -> int:
        """See :attr:`~kubectl_vmredir.service.ports.Link.sent`."""
        return self._sent

    def send(self, data: bytes | memoryview) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.send`."""
        self._sent += len(data)
        self._stream.send(data)

    def pause_reading(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.pause_reading`."""
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.resume_reading`."""
        self._stream.resume_reading()

    def ping(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.ping`."""
        self._stream.ping()

    async def close(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.close`.

        Where standard input can be closed by itself, QEMU has let go of the slot when this
        returns in time: a new link is not left waiting behind this one.
        """
        self._ears.closing = True
        self._stream.resume_reading()  # else its end would not be heard
        if self._stream.half_closes:
            self._stream.close_stdin()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._ears.ended.wait()
        await self._stream.close()


class _Ears:
    """Tells a link's listener what an exec's listener hears, once ncat is connected.

    Attributes:
        decided: Set when ncat is connected, or never will be.
        connected: Whether it is, or was.
        ended: Set when all is over.
        closing: Whether we end it: nothing more is to be heard then.
        reason: Why it ended; one clause, may hold untrusted text.
    """

    def __init__(self, listener: LinkListener) -> None:
        self.exec_writable = listener.link_writable
        self.exec_pong = listener.link_pong
        self.decided = asyncio.Event()
        self.connected = False
        self.ended = asyncio.Event()
        self.closing = False
        self.reason = ""
        self._listener = listener
        self._complaint = ""

    def exec_output(self, data: memoryview) -> None:
        self._connect()
        if not self.closing:
            self._listener.link_received(data)

    def exec_complained(self, complaint: str) -> None:
        self._complaint = complaint
        if _CONNECTED in complaint:
            self._connect()

    def exec_ended(self, cause: VmRedirError, status: ExecStatus | None) -> None:
        lines = self._complaint.splitlines()
        said = "; ".join(line for line in lines if not _CHATTER.match(line))
        told = status.message if status is not None else ""
        self.reason = printable(said) or told or str(cause)
        self.decided.set()
        self.ended.set()
        if self.connected:
            self._listener.link_ended(Unknown(), self._cause(cause, said))

    def _connect(self) -> None:
        self.connected = True
        self.decided.set()

    def _cause(self, cause: VmRedirError, said: str) -> VmRedirError:
        if self.closing:
            return StreamLost("closed by us")
        if _LAST_WORD.search(self._complaint):
            how = f" ({printable(said)})" if said else ""
            return StreamLost(f"the VM's end of the stream is gone{how}")
        if isinstance(cause, StreamLost):
            return PathBroken(f"the way into the launcher pod broke: {self.reason}")
        return cause
