"""What idle redirections cost: two looks at the processes of a machine, and the difference."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.report import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_SHARE: Final = 0.01
"""Of one core, for all our processes together, as the kernel of the VM counts it."""

_OURS: Final = ("kubectl-vmredir", "kubectl_vmredir")
"""In a word of the command of each process that we start."""
_PID, _PPID = 0, 1
_TIMES: Final = slice(11, 15)
"""utime, stime, cutime, cstime; numbers of fields count from behind the name (see _fields)."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of ours, at one moment.

    Attributes:
        pid: Its number.
        name: For people.
        ticks: CPU time of the process, and of its children that have ended, as in its ``stat``.
        run_s: CPU time of its threads, as in their ``schedstat``.
        runs: How many times a thread was given the CPU.
    """

    pid: int
    name: str
    ticks: int
    run_s: float
    runs: int


@dataclass(frozen=True, slots=True)
class Look:
    """All processes of ours, at one moment.

    Attributes:
        clock_s: Monotonic clock of their machine.
        tick_s: Length of a tick.
        processes: By pid.
    """

    clock_s: float
    tick_s: float
    processes: Mapping[int, Process]

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Look:
        """Read what :func:`benchmarks.in_vm.processes` found."""
        all_fields = [(_fields(entry["stat"]), entry) for entry in said["processes"]]
        commands = {fields[_PID]: entry["command"] for fields, entry in all_fields}
        parents = {fields[_PID]: fields[_PPID] for fields, _ in all_fields}
        ours = {
            pid for pid in commands if pid != said["own_pid"] and _is_ours(pid, commands, parents)
        }
        found = {}
        for fields, entry in all_fields:
            if (pid := fields[_PID]) in ours:
                tasks = [[int(number) for number in task.split()] for task in entry["tasks"]]
                found[pid] = Process(
                    pid,
                    _name(pid, commands, parents),
                    sum(fields[_TIMES]),
                    sum(run_ns for run_ns, _, _ in tasks) / 1e9,
                    sum(runs for _, _, runs in tasks),
                )
        return cls(said["clock_s"], 1 / said["ticks_per_s"], found)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process did between two looks.

    Attributes:
        name: For people.
        ticks_s: CPU time by its ``stat``, in steps of a tick.
        run_s: CPU time by ``schedstat``, which is exact, but knows no thread that has ended.
        runs_per_s: How often a thread was given the CPU.
    """

    name: str
    ticks_s: float
    run_s: float
    runs_per_s: float


@dataclass(frozen=True, slots=True)
class Idleness:
    """What came out.

    Attributes:
        seconds: Between the two looks.
        usages: Of each process.
        loop_vm_s: CPU time of the reference loop in the VM.
        loop_here_s: The same on this machine.
    """

    seconds: float
    usages: Sequence[Usage]
    loop_vm_s: float
    loop_here_s: float

    @classmethod
    def between(
        cls, before: Look, after: Look, *, loop_vm_s: float, loop_here_s: float
    ) -> Idleness:
        """Compare two looks; a process that began in between counts from its beginning."""
        seconds = after.clock_s - before.clock_s
        usages = []
        for pid, process in after.processes.items():
            old = before.processes.get(pid, Process(pid, process.name, 0, 0.0, 0))
            usages.append(
                Usage(
                    process.name,
                    (process.ticks - old.ticks) * after.tick_s,
                    process.run_s - old.run_s,
                    (process.runs - old.runs) / seconds,
                )
            )
        usages.sort(key=lambda usage: usage.name)
        return cls(seconds, usages, loop_vm_s, loop_here_s)

    @property
    def share(self) -> float:
        """Share of one core that all took, by the way of counting that says more."""
        ticks_s = sum(usage.ticks_s for usage in self.usages)
        run_s = sum(usage.run_s for usage in self.usages)
        return max(ticks_s, run_s) / self.seconds

    @property
    def slowness(self) -> float:
        """How many times the CPU time of this machine the reference loop takes in the VM."""
        return self.loop_vm_s / self.loop_here_s

    @property
    def ok(self) -> bool:
        """Whether it is little enough."""
        return self.share <= MOST_SHARE

    def to_json(self) -> Mapping[str, object]:
        """Return it as one JSON object."""
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "share": round(self.share, 5),
            "most_share": MOST_SHARE,
            "processes": [dataclasses.asdict(usage) for usage in self.usages],
            "loop_vm_us": round(self.loop_vm_s * 1e6),
            "loop_here_us": round(self.loop_here_s * 1e6),
            "slowness": round(self.slowness, 1),
            "share_without_emulation": round(self.share / self.slowness, 6),
        }

    def to_text(self) -> str:
        """Return a table for people, and what to think of it."""
        rows = [
            (
                usage.name,
                f"{usage.ticks_s / self.seconds:.2%}",
                f"{usage.run_s / self.seconds:.3%}",
                f"{usage.runs_per_s:.2f}",
            )
            for usage in self.usages
        ]
        return "\n".join(
            [
                f"CPU time of our processes in {self.seconds:.1f} s, as a share of one core:",
                *table(("process", "stat", "schedstat", "runs/s"), rows),
                "",
                f"All together: {self.share:.2%} of a core of the VM (required: <= "
                f"{MOST_SHARE:.0%}){'' if self.ok else ' MISSED'}",
                f"The VM is emulated: there the reference loop takes {self.slowness:.0f} times "
                f"the CPU time that it takes on this machine, of which that would be "
                f"{self.share / self.slowness:.3%} of a core.",
            ]
        )


def _fields(stat: str) -> Sequence[int]:
    """Return the numbers of a ``stat``: the pid, and all that is behind name and state."""
    # The name is in parentheses, and may have some of its own.
    pid, rest = stat.split(" (", 1)
    return [int(pid), *(int(number) for number in rest.rpartition(")")[2].split()[1:])]


def _is_ours(pid: int, commands: Mapping[int, Sequence[str]], parents: Mapping[int, int]) -> bool:
    """Return whether a process, or one that it descends from, is ours."""
    while pid in commands:
        if any(ours in word for word in commands[pid] for ours in _OURS):
            return True
        pid = parents[pid]
    return False


def _name(pid: int, commands: Mapping[int, Sequence[str]], parents: Mapping[int, int]) -> str:
    """Return what a process does: the part of its command that a user knows."""
    command = commands[pid]
    if "bind" in command:
        return " ".join(command[command.index("bind") :][:2])
    if "usb-host" in command:
        return f"{_name(parents[pid], commands, parents)}: usb-host"
    return " ".join(command)
