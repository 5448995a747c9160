"""Scripts of the simulated kernel, which can be moved to another process in the middle.

A script is a generator: it yields what it wants done and is sent the answer. It does nothing
else, so what it was told so far is all its state: told the same again, it comes to the same
place.
"""

from __future__ import annotations

import base64
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from kubectl_vmredir.lab.guests.transfers import Bulk, Outcome, Setup

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ResetPort:
    """Reset the device on the port."""


@dataclass(frozen=True, slots=True)
class Poll:
    """Poll an interrupt endpoint from now on."""

    endpoint: int


@dataclass(frozen=True, slots=True)
class Print:
    """Write a line to the kernel's log."""

    text: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait, in seconds of the guest."""

    duration_s: float


Step = Setup | Bulk | ResetPort | Poll | Print | Sleep


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a step; steps that are not transfers always succeed."""

    outcome: Outcome = Outcome.SUCCESS
    data: bytes = b""

    @property
    def good(self) -> bool:
        """Whether the step did what it should."""
        return self.outcome is Outcome.SUCCESS


DONE: Final = Answer()

Script = Generator[Step, Answer, _Result]


class Procedure:
    """A script under way.

    Args:
        name: Of the script, and its arguments, as JSON: for whoever makes it anew.
        script: The script, not begun yet.
    """

    def __init__(self, name: str, arguments: list[Any], script: Script[Any]) -> None:
        self._name = name
        self._arguments = arguments
        self._script = script
        self._told: list[Answer] = []
        self.step: Step | None = next(script)
        """What it wants now; None when it is over."""
        self.result: Any = None

    @property
    def name(self) -> str:
        """Name of the script."""
        return self._name

    def tell(self, answer: Answer) -> None:
        """Give the answer to :attr:`step`, and go on to the next one."""
        self._told.append(answer)
        try:
            self.step = self._script.send(answer)
        except StopIteration as stop:
            self.step, self.result = None, stop.value

    def save(self) -> dict[str, Any]:
        """Return where it is, as JSON."""
        return {
            "name": self._name,
            "arguments": self._arguments,
            "told": [
                [answer.outcome.value, base64.b64encode(answer.data).decode()]
                for answer in self._told
            ],
        }

    def replay(self, told: list[list[str]]) -> None:
        """Go on to where :meth:`save` was, as a procedure that is new."""
        for outcome, data in told:
            self.tell(Answer(Outcome(outcome), base64.b64decode(data)))
