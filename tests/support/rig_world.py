"""``python -m tests.support.rig_world FOLDER``: a real control plane as a world of the tests.

Runs ``rig`` of ``../shared/peers/control-plane`` and obeys orders on stdin; see worlds.py. All
of it ends with standard input, and with this process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from tests.support.rig_start import rig_module, start_rig
from tests.support.worlds import SPARE_NODE, Part

_NODES: Final = 3
_SUBRESOURCES: Final = "/apis/subresources.kubevirt.io/v1"


class Rig:
    """The real control plane, and what can be done to it."""

    def __init__(self, rig: Any) -> None:  # noqa: ANN401 - rig has no types
        self._rig = rig
        self._wait_until = rig_module("procs").wait_until

    def obey(self, order: list[str]) -> None:
        """Carry an order out."""
        match order:
            case ["kill", part]:
                self._process(part).kill()
            case ["start", part]:
                self._start(part)
            case ["freeze", part]:
                pids = self._signal(part, signal.SIGSTOP)
                self._wait_until("stop", lambda: all(map(_stopped, pids)))
            case ["thaw", part]:
                self._signal(part, signal.SIGCONT)
            case ["copying"]:
                self._wait_until("copy", _copying)
            case ["crash", _, pod, vmi_uid]:
                self._crash(pod, vmi_uid)
            case _:
                raise ValueError(order)

    def _process(self, part: str) -> Any:  # noqa: ANN401 - rig has no types
        return self._rig.processes["kube-apiserver" if part == Part.API_SERVER else part]

    def _start(self, part: str) -> None:
        match part:
            case Part.API_SERVER:
                self._rig.start_apiserver()
                self._rig.wait_apiserver()
            case Part.VIRT_API:
                self._rig.start_virt_api()
                self._wait_until("virt-api", lambda: self._answers(_SUBRESOURCES))
            case Part.CONTROLLER:
                if not self._process(part).alive():
                    rig_module("nodes").start_virt_controller(self._rig)
            case _:
                self._rig.start_handler(part.removeprefix("handler-"))

    def _signal(self, part: str, number: signal.Signals) -> list[int]:
        """Send a part a signal; return the processes that got it."""
        if part in self._rig.nodes:
            names = (f"{program}-{part}" for program in ("handler", "kubelet"))
            guests = self._rig.folder.glob(f"pods/{part}/*/rootfs/run/kubevirt-private/*/pid")
            pids = [self._process(name).pid for name in names]
            pids += [int(path.read_text()) for path in guests]
        else:
            pids = [self._process(part).pid]
        for pid in pids:
            os.kill(pid, number)
        return pids

    def _answers(self, path: str) -> bool:
        status, _ = self._rig.api.raw("GET", path)
        return bool(status == 200)

    def _crash(self, pod: str, vmi_uid: str) -> None:
        for named in self._rig.folder.glob("pods/*/*/pod"):
            if named.read_text().endswith(f"/{pod}"):
                pid = named.parent / "rootfs" / "run" / "kubevirt-private" / vmi_uid / "pid"
                os.kill(int(pid.read_text()), signal.SIGKILL)
                return
        raise ValueError(f"no guest in {pod}")


def _stopped(pid: int) -> bool:
    """Return whether all threads of a process stand still: proc(5), state T."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def _copying() -> bool:
    """Return whether a QEMU is connected to a target: proc(5), /proc/net/unix, state 03."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return any("/migration-" in line and line.split()[5] == "03" for line in lines)


def main() -> None:
    """Start, say where everything is, and obey until stdin ends."""
    folder = Path(sys.argv[1])
    # Whoever else runs these tests on this machine has another network.
    net = f"127.9.{os.getpid() % 250 + 1}"
    answers = sys.stdout
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        rig = start_rig(stack, folder, nodes=_NODES, net=net)
        stack.enter_context(rig_module("nodes").Nodes(rig))
        places = {
            "kubeconfig": str(rig.kubeconfig),
            "component_kubeconfig": str(rig.access.account_kubeconfig("kubevirt-controller")),
            "run_folder": f"{folder}/pods/{{node}}/{{pod}}/rootfs/run/kubevirt-private/{{vmi}}",
        }
        rig.api.patch(f"/api/v1/nodes/{SPARE_NODE}", {"spec": {"unschedulable": True}})
        world = Rig(rig)
        _say(answers, places)
        for line in sys.stdin:
            world.obey(json.loads(line))
            _say(answers, {})


def _say(answers: TextIO, answer: dict[str, str]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
