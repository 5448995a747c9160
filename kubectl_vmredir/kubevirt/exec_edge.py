"""What a launcher pod has, and how the edge gets into it.

Facts: docs/facts/exec.md. A torn upload looks to the command like the end of its input, and one
of the two subprotocols cannot tell the end: so the size is told, and the content is checked in the
pod before the file gets its name. Loops in a pod are bounded, because nothing ends them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import SLOT_COUNT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kubectl_vmredir.kubevirt.edge.program import EdgeProgram
    from kubectl_vmredir.kubevirt.exec import PodExec, PodRef
    from kubectl_vmredir.model import VmiUid

_MAX_PODS: Final = 256
PLACES: Final = ("/run/kubevirt-private", "/var/run/kubevirt-private", "/tmp", "/dev/shm")  # noqa: S108
"""Where a folder of ours may be in a pod; 0700, and only if it is ours."""
_NAME: Final = ".vmredir"
_TOOLS: Final = frozenset({"ncat", "virsh", "head", "sha256sum"})
_PLAIN: Final = re.compile(r"[A-Za-z0-9_]{1,32}")

# $1 is the name of our folder, $2 and on where it may be. A program is tried in each: it may be
# read-only, or forbid to run what lies there.
_PROBE: Final = """
umask 077
for tool in ncat virsh head sha256sum; do
    command -v "$tool" >/dev/null 2>&1 && echo "tool $tool"
done
echo "machine $(uname -m)"
name=$1; shift
for place in "$@"; do
    folder=$place/$name
    mkdir "$folder" 2>/dev/null
    [ -d "$folder" ] && [ ! -L "$folder" ] && [ -O "$folder" ] && chmod 700 "$folder" || continue
    trial=$folder/trial.$$
    printf '#!/bin/sh\\nexit 0\\n' 2>/dev/null >"$trial"
    chmod 700 "$trial" 2>/dev/null && "$trial" 2>/dev/null
    works=$?
    rm -f "$trial"
    if [ $works = 0 ]; then echo "folder $folder"; break; fi
    rmdir "$folder" 2>/dev/null
done
echo probed
"""

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
class PodTools:
    """What a launcher pod has.

    Attributes:
        tools: Of ncat, virsh, head and sha256sum those that are there.
        architecture: As ``uname -m`` says it.
        folder: Where programs can be put and run; empty if nowhere.
    """

    tools: frozenset[str]
    architecture: str
    folder: str

    @property
    def why_no_edge(self) -> str:
        """Why no edge can be put there; empty if it can. One clause, for people."""
        missing = sorted({"head", "sha256sum"} - self.tools)
        if missing:
            return f"the launcher pod has no {' and no '.join(missing)}"
        if not self.folder:
            return "the launcher pod has no folder that can be written to and run from"
        return ""


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
            socket: Path of QEMU's socket, see :func:`slot_socket`.
        """
        assert 0 <= slot < SLOT_COUNT
        return (self.path, f"{self.folder}/{slot}.sock", socket)


def slot_socket(vmi: VmiUid, slot: int) -> str:
    """Return the path of QEMU's socket of a slot, as launcher pods have it."""
    return f"/run/kubevirt-private/{vmi}/virt-usbredir-{slot}"


class PodEdges:
    """Knows what pods have, and puts the edge into them.

    Args:
        pod_exec: Runs the commands.
        places: Folders of a pod that may hold one of ours.
    """

    def __init__(self, pod_exec: PodExec, *, places: Sequence[str] = PLACES) -> None:
        self._exec = pod_exec
        self._places = places
        self._known: OrderedDict[PodRef, PodTools] = OrderedDict()

    async def probe(self, pod: PodRef) -> PodTools:
        """Return what a pod has; asked once, since the name of a pod is never used again.

        Raises:
            ExecFailed: If it cannot be asked: it may have no shell.
            ClusterError: As :meth:`~kubectl_vmredir.kubevirt.exec.PodExec.open`.
        """
        if (known := self._known.get(pod)) is not None:
            return known
        said = await self._exec.run(pod, _PROBE, _NAME, *self._places, last_word="probed")
        found = _parse_probe(said, {f"{place}/{_NAME}" for place in self._places})
        self._known[pod] = found
        if len(self._known) > _MAX_PODS:
            self._known.popitem(last=False)
        return found

    async def install(self, pod: PodRef, folder: str, program: EdgeProgram) -> InstalledEdge:
        """Put the edge into a pod unless it is there; a torn upload leaves nothing that runs.

        Args:
            pod: Where.
            folder: :attr:`PodTools.folder`.
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
        self._known.pop(pod, None)  # the next one makes the folder again


def _parse_probe(said: str, folders: Collection[str]) -> PodTools:
    """Read what the probe said; nothing that it cannot have said is taken over."""
    tools: set[str] = set()
    architecture = folder = ""
    for line in said.splitlines():
        match line.partition(" "):
            case ("tool", _, value) if value in _TOOLS:
                tools.add(value)
            case ("machine", _, value) if _PLAIN.fullmatch(value):
                architecture = value
            case ("folder", _, value) if value in folders:
                folder = value
            case _:
                continue
    return PodTools(frozenset(tools), architecture, folder)
