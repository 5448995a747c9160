"""How the edge gets into a launcher pod.

Facts: docs/facts/exec.md. A torn upload looks to the command like the end of its input, and one
of the two subprotocols cannot tell the end: so the size is told, and the content is checked in the
pod before the file gets its name. Loops in a pod are bounded, because nothing ends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.kubevirt.exec_probe import PLACES, PodProbe
from kubectl_vmredir.model import SLOT_COUNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.kubevirt.edge.program import EdgeProgram
    from kubectl_vmredir.kubevirt.exec import PodExec, PodRef
    from kubectl_vmredir.kubevirt.exec_probe import PodTools

# $1 path of the program, $2 its sha256.
_LOOK: Final = """
[ -x "$1" ] && echo "$2  $1" | sha256sum -c --status 2>/dev/null && echo present
echo looked
"""

# $1 folder, $2 path of the program, $3 its sha256, $4 its size in bytes.
_PLACE: Final = """
umask 077
new=$2.$$
mkdir -p "$1" && chmod 700 "$1" || exit 3
if head -c "$4" >"$new" && echo "$3  $new" | sha256sum -c --status &&
    chmod 700 "$new" && mv "$new" "$2"; then
    echo placed
else
    rm -f "$new"
    exit 4
fi
"""

# $1 folder. What still runs keeps its file open and goes on.
_REMOVE: Final = """
rm -rf "$1"
[ ! -e "$1" ] && echo removed
"""


@dataclass(frozen=True, slots=True)
class InstalledEdge:
    """The edge, in a pod.

    Attributes:
        path: Of the program.
        folder: Of it and its sockets.
        fresh: Whether it was not there before: that is told to the user.
    """

    path: str
    folder: str
    fresh: bool

    def command(self, slot: int, socket: str) -> tuple[str, ...]:
        """Return the command that is a tunnel to the daemon of a slot.

        Args:
            slot: Index of the slot.
            socket: Path of QEMU's socket, see
                :func:`~kubectl_vmredir.kubevirt.pods.slot_socket`.
        """
        assert 0 <= slot < SLOT_COUNT
        return (self.path, f"{self.folder}/{slot}.sock", socket)


class PodEdges:
    """Knows what pods have, and puts the edge into them.

    Args:
        pod_exec: Runs the commands.
        places: Folders of a pod that may hold one of ours.
    """

    def __init__(self, pod_exec: PodExec, *, places: Sequence[str] = PLACES) -> None:
        self._exec = pod_exec
        self._probe = PodProbe(pod_exec, places=places)

    async def probe(self, pod: PodRef) -> PodTools:
        """Return what a pod has; see :meth:`~kubectl_vmredir.kubevirt.exec_probe.PodProbe.ask`."""
        return await self._probe.ask(pod)

    async def install(self, pod: PodRef, folder: str, program: EdgeProgram) -> InstalledEdge:
        """Put the edge into a pod unless it is there; a torn upload leaves nothing that runs.

        Args:
            pod: Where.
            folder: :attr:`~kubectl_vmredir.kubevirt.exec_probe.PodTools.folder`.
            program: For the architecture of the pod.

        Raises:
            ExecFailed: If it did not get there.
            ClusterError: As :meth:`~kubectl_vmredir.kubevirt.exec.PodExec.open`.
        """
        path = f"{folder}/edge-{program.sha256[:16]}"
        # Asked apart: who sends to a command that does not read may lose its answer.
        if await self._exec.run(pod, _LOOK, path, program.sha256, last_word="looked"):
            return InstalledEdge(path, folder, fresh=False)
        size = str(len(program.data))
        await self._exec.run(
            pod,
            _PLACE,
            *(folder, path, program.sha256, size),
            last_word="placed",
            stdin=program.data,
        )
        return InstalledEdge(path, folder, fresh=True)

    async def remove(self, pod: PodRef, folder: str) -> None:
        """Remove all that is ours from a pod.

        Raises:
            ExecFailed: If it could not be removed.
            ClusterError: As :meth:`~kubectl_vmredir.kubevirt.exec.PodExec.open`.
        """
        await self._exec.run(pod, _REMOVE, folder, last_word="removed")
        self._probe.forget(pod)  # the next one makes the folder again
