"""What client and agent say to each other: one JSON object a line, each way.

Both begin with :class:`Hello`, which never changes, and neither waits for the other's. Then the
client asks, and the agent answers each question once, by its id, in any order. A stream is opened
as any call is answered, and then gives one item for each :class:`Next`: so what a slow client has
not heard yet waits in the agent, in the bounded queue of a subscriber, and never in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.agent.wire import codec_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubectl_vmredir.agent.wire import Codec, Raw
    from kubectl_vmredir.service.interface import Trouble

PROTOCOL: Final = 1
"""Raised whenever an older side would misunderstand a newer one."""

MAX_REQUEST_BYTES: Final = 1 << 20
"""Longest line of a client: an environment is the longest thing that it has to say."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first line, each way.

    Attributes:
        protocol: What the sender speaks; :data:`PROTOCOL`.
        version: Version of the sender's program, for people.
        pid: Its process id, for people.
    """

    protocol: int
    version: str
    pid: int


@dataclass(frozen=True, slots=True)
class Call:
    """Call a method, or open a stream of it.

    Attributes:
        id: Chosen by the client; not that of another question which is open.
        method: Its name in the interface.
        arguments: By name; those with defaults may be missing.
    """

    id: int
    method: str
    arguments: Mapping[str, Raw] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Next:
    """Give the next item of an open stream."""

    id: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up a call, or close a stream; is not answered."""

    id: int


@dataclass(frozen=True, slots=True)
class Done:
    """A call returned, a stream is open, or here is its next item."""

    id: int
    value: Raw = field(repr=False)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a long value; the :class:`Done` with the last one follows. See ``parts.py``."""

    id: int
    value: Raw = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """A call or a stream raised an error.

    Attributes:
        id: Of the question; None if the whole conversation is over.
        trouble: The error.
    """

    id: int | None
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream has no more items."""

    id: int


Question = Call | Next | Cancel
Answer = Done | Part | Failed | Ended

HELLO: Final[Codec[Hello]] = codec_of(Hello)
QUESTION: Final[Codec[Question]] = codec_of(Question)
ANSWER: Final[Codec[Answer]] = codec_of(Answer)
