"""What a client of the agent that is broken, or means harm, may send; seeded."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubectl_vmredir.agent.control import AgentControl
from kubectl_vmredir.agent.messages import MAX_REQUEST_BYTES, PROTOCOL
from kubectl_vmredir.agent.methods import methods_of
from kubectl_vmredir.service.interface import RedirectionService

HELLO: Final = json.dumps({"protocol": PROTOCOL, "version": "0", "pid": 1}).encode() + b"\n"

_METHODS: Final = sorted({*methods_of(RedirectionService), *methods_of(AgentControl)})
_NOBODY: Final = {"namespace": "nowhere", "name": "nobody"}
_REQUEST: Final = {"device": {"serial": "no such device"}, "vmi": _NOBODY}
_ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "bind": {"request": _REQUEST},
    "plan": {"request": {**_REQUEST, "slot": "usb0", "force": True}},
    "confirm": {"redirection_id": "r999"},
    "unbind": {"redirection_id": "r999"},
    "pause": {"redirection_id": "r999"},
    "resume": {"redirection_id": ""},
    "reconnect": {"redirection_id": "../r1"},
    "forget": {"service": "s999", "redirection_id": "r999"},
    "subscribe": {"numbers": True},
    "watch_devices": {},
    "watch_overview": {},
    "overview": {},
    "snapshot": {},
    "status": {},
}
"""Arguments that are right, or nearly; methods that ask the cluster are seldom asked rightly."""

_ALPHABETS: Final = ("abc", "\0\x1b\n\r", "é\u202e\U0001f512", "\ud800", '"{}[]')
_NESTED: Final = 20_000
_LONG_ONE_IN: Final = 3000
"""A line that is too long is a megabyte to send."""


class Gibberish:
    """Makes conversations.

    Args:
        seed: The same gives the same.
        access: Argument of ``open`` that is right.
    """

    def __init__(self, seed: int, access: object) -> None:
        self._random = random.Random(seed)
        self._access = access

    def conversation(self, most: int) -> list[bytes]:
        """Return what a client sends, one entry for each message, at most so many."""
        chance = self._random.random()
        lines: list[bytes] = []
        if chance < 0.85:
            lines.append(HELLO)
        elif chance < 0.95:
            lines.append(self._broken(HELLO))
        if chance < 0.5:
            opening = self._call("open", {"access": self._access})
            lines.append(json.dumps(opening).encode() + b"\n")
        lines += self._messages()
        if self._random.random() < 0.3:  # gone in the middle of a line
            lines[-1] = lines[-1][: self._random.randrange(len(lines[-1]) + 1)]
        return lines[:most]

    def _messages(self) -> Iterator[bytes]:
        for _ in range(self._random.randint(1, 24)):
            message = self._message()
            if isinstance(message, dict) and message.get("method") == "stop":
                message["arguments"] = {"force": self._text()}  # rightly asked it would end
            line = json.dumps(message).encode() + b"\n"
            yield self._broken(line) if self._random.random() < 0.05 else line

    def _message(self) -> object:
        match self._random.randrange(12):
            case 0:
                return self._value(3)
            case 1 | 2:
                kind = self._random.choice(["Next", "Cancel", "Done", "Hello", "call"])
                return {"type": kind, "id": self._id()}
            case 3 | 4:
                return self._mutated(self._call())
            case _:
                return self._call()

    def _call(self, method: str | None = None, arguments: object = None) -> dict[str, object]:
        name = method or self._random.choice(_METHODS)
        if arguments is None:
            arguments = _ARGUMENTS.get(name, {"request": self._value(2), "vmi": self._value(2)})
            if self._random.random() < 0.5:
                arguments = self._mutated(arguments)
        return {"type": "Call", "id": self._id(), "method": name, "arguments": arguments}

    def _id(self) -> int:
        return self._random.choice([self._random.randrange(1 << 20)] * 20 + [1, -1, 1 << 70])

    def _mutated(self, value: object) -> object:
        """Return a value of which something is other than it was."""
        if self._random.random() < 0.3 or not isinstance(value, dict) or not value:
            return self._value(2)
        changed = dict(value)
        key = self._random.choice(sorted(changed))
        match self._random.randrange(4):
            case 0:
                del changed[key]
            case 1:
                changed[self._text()] = self._value(1)
            case _:
                changed[key] = self._mutated(changed[key])
        return changed

    def _value(self, depth: int) -> object:
        match self._random.randrange(10 if depth else 8):
            case 0:
                return None
            case 1:
                return self._random.random() < 0.5
            case 2:
                return self._random.randrange(-(1 << 70), 1 << 70)
            case 3:
                return self._random.choice([0, -0.0, 1e308, 5e-324])
            case 8:
                return [self._value(depth - 1) for _ in range(self._random.randrange(5))]
            case 9:
                size = self._random.randrange(5)
                return {self._text(): self._value(depth - 1) for _ in range(size)}
            case _:
                return self._text()

    def _text(self) -> str:
        alphabet = self._random.choice(
            ["abc", "\0\x1b\n\r", "é\u202e\U0001f512", "\ud800", '"{}[]']
        )
        return "".join(self._random.choices(alphabet, k=self._random.randrange(12)))

    def _broken(self, line: bytes) -> bytes:
        """Return a line that is none any more, or no longer the same."""
        if self._random.randrange(_LONG_ONE_IN) == 0:
            return b"x" * (MAX_REQUEST_BYTES + 10)
        match self._random.randrange(6):
            case 0:
                return self._random.randbytes(self._random.randrange(1, 200)) + b"\n"
            case 1:
                return self._random.choice([b"[", b'{"a":']) * _NESTED + b"\n"
            case 2:
                return b"\n" * self._random.randrange(1, 5)
            case 3:
                return b'{"type":"Next","id":NaN}\n'
            case _:
                at = self._random.randrange(len(line))
                return line[:at] + self._random.randbytes(1) + line[at + 1 :]
