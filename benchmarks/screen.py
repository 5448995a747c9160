"""Measures how quick the program is for who sits before it: ``python -m benchmarks.screen``.

Times depend on the machine and on who else uses it, so what must be so is a ratio, or a count: of
CPU time to that of a bare Python, and of a long list to a short one, in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.report import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUNDS: Final = 9
KEYS: Final = 200
FEW, MANY = (10, 5), (10_000, 200)
"""VMs and devices."""
QUIET_S: Final = 5.0
ANSWERED_S: Final = 0.1
"""A key is answered when nothing more was written for so long."""
LIMIT_S: Final = 60.0

MOST_BARE_PYTHONS: Final = {"--help": 15.0, "devices": 30.0, "first paint": 60.0}
"""Required: so many times the CPU time of a bare Python at most."""
MOST_GROWTH: Final = 2.0
"""Required: so much longer a key takes with many things than with few at most."""

_PYTHON: Final = (sys.executable, "-m", "kubectl_vmredir")
_SHOWN: Final = b"1 USB devices"

_ESCAPE: Final = "\x1b[27u"
"""As kitty's keyboard protocol says it. To other terminals the key is the first byte of many
sequences, and Textual waits 100 ms, or 200 ms, whether one comes: that is no painting."""
_PRESSED: Final = (
    "j", "j", "\x1b[6~", "k", "\x1b[5~", "/", "0", "1", "\x7f", _ESCAPE, "1", "\t", "\t", "2",
)  # fmt: skip
"""Move, page, filter, and go to each pane; it ends where it began."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What it took to begin, in milliseconds."""

    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Start:
    """How long something takes to begin.

    Attributes:
        name: What.
        taken: The median of each.
        bare_cpu_ms: CPU time of ``python -c pass``, in turns with it.
        most_ratio: Required of the two CPU times.
    """

    name: str
    taken: Taken
    bare_cpu_ms: float
    most_ratio: float

    @property
    def ratio(self) -> float:
        """How many bare Pythons it is."""
        return self.taken.cpu_ms / self.bare_cpu_ms


@dataclass(frozen=True, slots=True)
class Answers:
    """How long keys take to be answered, in milliseconds.

    Attributes:
        first_ms: From a key to the first that it changes on the screen, 95 %.
        whole_ms: From a key to the last that it changes, 95 %.
        cpu_ms: CPU time of the program for a key, in the mean.
        idle_bytes: What was written afterwards in :data:`QUIET_S` in which nothing changed.
    """

    first_ms: float
    whole_ms: float
    cpu_ms: float
    idle_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured.

    Attributes:
        starts: How long things take to begin.
        few: How long keys take with few things to show.
        many: The same with many.
    """

    starts: Sequence[Start]
    few: Answers
    many: Answers

    @property
    def ok(self) -> bool:
        """Whether all that is required is so."""
        quick = all(start.ratio <= start.most_ratio for start in self.starts)
        steady = self.many.first_ms <= MOST_GROWTH * self.few.first_ms
        return quick and steady and not self.many.idle_bytes


class Terminal:
    """A program on a terminal of 140 columns and 40 lines."""

    def __init__(self, command: Sequence[str], home: str) -> None:
        self._master, slave = pty.openpty()
        environment = {
            "PATH": os.environ["PATH"], "HOME": home, "XDG_RUNTIME_DIR": home,
            "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40",
        }  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    @property
    def cpu_ms(self) -> float:
        """CPU time that the program has used so far; proc(5), stat."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._master, key.encode())

    def until(self, words: bytes) -> None:
        """Wait until the program has written these words."""
        said = b""
        while words not in said:
            data = self.read(LIMIT_S)
            assert data, f"never said {words!r}, but {said[-500:]!r}"
            said += data

    def read(self, limit_s: float) -> bytes:
        """Return what it writes next; nothing if it does not in time, or has ended."""
        if not select.select([self._master], [], [], limit_s)[0]:
            return b""
        try:
            return os.read(self._master, 1 << 16)
        except OSError:  # it has ended
            return b""

    def settle(self) -> None:
        """Wait until it writes no more."""
        while self.read(1.0):
            pass

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@contextlib.contextmanager
def on_a_terminal(*command: str) -> Iterator[Terminal]:
    """Run a program on a terminal, in a home of its own."""
    with tempfile.TemporaryDirectory(prefix="vmredir-bench-") as home:
        terminal = Terminal(command, home)
        try:
            yield terminal
        finally:
            terminal.end()


def first_paint() -> Taken:
    """Return what it takes until the panes are there; no cluster is."""
    began = time.perf_counter()
    with on_a_terminal(*_PYTHON, "--foreground", "--kubeconfig", "nowhere") as terminal:
        terminal.until(_SHOWN)
        return Taken((time.perf_counter() - began) * 1000, terminal.cpu_ms)


def to_the_end(*command: str) -> Taken:
    """Return what a command takes."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(wall_s * 1000, cpu_s * 1000)


def starts(rounds: int) -> Sequence[Start]:
    """Measure what begins, in turns with a bare Python."""
    measures = {
        "--help": lambda: to_the_end(*_PYTHON, "--help"),
        "devices": lambda: to_the_end(*_PYTHON, "devices", "--virtual"),
        "first paint": first_paint,
    }
    bare: list[Taken] = []
    found: dict[str, list[Taken]] = {name: [] for name in measures}
    for _ in range(rounds):
        bare.append(to_the_end(sys.executable, "-c", "pass"))
        for name, measure in measures.items():
            found[name].append(measure())
    return [
        Start(name, _median(taken), _median(bare).cpu_ms, MOST_BARE_PYTHONS[name])
        for name, taken in found.items()
    ]


def _median(taken: Sequence[Taken]) -> Taken:
    return Taken(
        statistics.median(one.wall_ms for one in taken),
        statistics.median(one.cpu_ms for one in taken),
    )


def answers(vms: int, devices: int, presses: int) -> Answers:
    """Press keys that move, page, filter and change panes, and wait for the answer to each."""
    program = (sys.executable, "-m", "benchmarks.screen_of_many", str(vms), str(devices))
    with on_a_terminal(*program) as terminal:
        terminal.until(b"live")
        terminal.press("2")
        terminal.settle()
        first_ms: list[float] = []
        whole_ms: list[float] = []
        cpu_before_ms = terminal.cpu_ms
        for number in range(presses):
            key = _PRESSED[number % len(_PRESSED)]
            began = time.perf_counter()
            terminal.press(key)
            written_ms: list[float] = []
            while terminal.read(ANSWERED_S if written_ms else LIMIT_S):
                written_ms.append((time.perf_counter() - began) * 1000)
            assert written_ms, f"{key!r} changes nothing"
            first_ms.append(written_ms[0])
            whole_ms.append(written_ms[-1])
        cpu_ms = (terminal.cpu_ms - cpu_before_ms) / presses
        terminal.settle()
        idle = 0
        until = time.perf_counter() + QUIET_S
        while (left := until - time.perf_counter()) > 0:
            idle += len(terminal.read(left))
    return Answers(_almost_all(first_ms), _almost_all(whole_ms), cpu_ms, idle)


def _almost_all(taken_ms: Sequence[float]) -> float:
    return statistics.quantiles(taken_ms, n=20)[-1]


def main() -> int:
    """Run the benchmarks; the status is 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screen", description=__doc__)
    parser.add_argument("-o", "--output", choices=["json"], help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--keys", type=int, default=KEYS)
    options = parser.parse_args()
    few, many = answers(*FEW, options.keys), answers(*MANY, options.keys)
    report = Report(starts(options.rounds), few, many)
    if options.output == "json":
        print(json.dumps({**asdict(report), "ok": report.ok}, indent=2))
    else:
        print(_text(report))
    return 0 if report.ok else 1


def _text(report: Report) -> str:
    rows = [
        [start.name, f"{start.taken.wall_ms:.0f} ms, CPU {start.taken.cpu_ms:.0f} ms",
         f"CPU {start.bare_cpu_ms:.0f} ms", f"{start.ratio:.1f}", f"<= {start.most_ratio:.0f}"]
        for start in report.starts
    ]  # fmt: skip
    few, many = report.few, report.many
    rows += [
        _growth("key to paint, 95 %, 10,000 VMs", few.first_ms, many.first_ms, MOST_GROWTH),
        _growth("key to all of its paint, 95 %", few.whole_ms, many.whole_ms),
        _growth("CPU for a key", few.cpu_ms, many.cpu_ms),
        ["written in 5 s without a change", f"{many.idle_bytes} bytes", "", "", "0"],
    ]
    return "\n".join(table(["", "median", "bare Python", "ratio", "required"], rows))


def _growth(name: str, few_ms: float, many_ms: float, most: float | None = None) -> list[str]:
    required = f"<= {most:.0f}" if most is not None else ""
    growth = f"{many_ms / few_ms:.1f}"
    return [name, f"{many_ms:.0f} ms", f"{few_ms:.0f} ms with 10", growth, required]


if __name__ == "__main__":
    sys.exit(main())
