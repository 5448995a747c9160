"""What a launcher pod has of that which is needed there."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kubectl_vmredir.kubevirt.exec import PodExec, PodRef

PLACES: Final = ("/run/kubevirt-private", "/var/run/kubevirt-private", "/tmp", "/dev/shm")  # noqa: S108
"""Where a folder of ours may be in a pod; 0700, and only if it is ours."""
_MAX_PODS: Final = 256
_NAME: Final = ".vmredir"
_TOOLS: Final = ("ncat", "cat", "virsh", "timeout", "head", "sha256sum")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_]{1,32}")

# $1 names the tools, $2 our folder, $3 and on where it may be. A program is tried in each: it may
# be read-only, or forbid to run what lies there.
_PROBE: Final = """
umask 077
for tool in $1; do
    command -v "$tool" >/dev/null 2>&1 && echo "tool $tool"
done
echo "machine $(uname -m)"
name=$2; shift 2
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


@dataclass(frozen=True, slots=True)
class PodTools:
    """What a launcher pod has.

    Attributes:
        tools: Those of ours that are there.
        architecture: As ``uname -m`` says it.
        folder: Where programs can be put and run; empty if nowhere, or not asked for.
    """

    tools: frozenset[str]
    architecture: str
    folder: str

    @property
    def why_no_link(self) -> str:
        """Why a slot cannot be dialed there; empty if it can. One clause, for people."""
        return self._missing("ncat", "cat")

    @property
    def why_no_occupancy(self) -> str:
        """Why nobody can say there which slots are taken; empty if somebody can."""
        return self._missing("virsh", "timeout")

    @property
    def why_no_edge(self) -> str:
        """Why no edge can be put there; empty if it can."""
        if missing := self._missing("head", "sha256sum"):
            return missing
        if not self.folder:
            return "the launcher pod has no folder that can be written to and run from"
        return ""

    def _missing(self, *needed: str) -> str:
        missing = [tool for tool in needed if tool not in self.tools]
        return f"the launcher pod has no {' and no '.join(missing)}" if missing else ""


class PodProbe:
    """Asks pods what they have, and remembers it.

    Args:
        pod_exec: Runs the commands.
        places: Folders that may hold one of ours, which is made; none leaves no trace in the pod.
    """

    def __init__(self, pod_exec: PodExec, *, places: Sequence[str] = ()) -> None:
        self._exec = pod_exec
        self._places = places
        self._known: OrderedDict[PodRef, PodTools] = OrderedDict()

    async def ask(self, pod: PodRef) -> PodTools:
        """Return what a pod has; asked once, since the name of a pod is never used again.

        Raises:
            ExecFailed: If it cannot be asked: it may have no shell.
            ClusterError: As :meth:`~kubectl_vmredir.kubevirt.exec.PodExec.open`.
        """
        if (known := self._known.get(pod)) is not None:
            return known
        arguments = (" ".join(_TOOLS), _NAME, *self._places)
        said = await self._exec.run(pod, _PROBE, *arguments, last_word="probed")
        found = _parse(said, {f"{place}/{_NAME}" for place in self._places})
        self._known[pod] = found
        if len(self._known) > _MAX_PODS:
            self._known.popitem(last=False)
        return found

    def forget(self, pod: PodRef) -> None:
        """Ask a pod anew the next time."""
        self._known.pop(pod, None)


def _parse(said: str, folders: Collection[str]) -> PodTools:
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
