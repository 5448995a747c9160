"""The client's side of a conversation with the agent."""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.messages import (
    ANSWER,
    HELLO,
    PROTOCOL,
    QUESTION,
    Call,
    Cancel,
    Done,
    Failed,
    Hello,
    Next,
    Part,
)
from kubectl_vmredir.agent.methods import method_of
from kubectl_vmredir.agent.parts import MAX_PARTS, joined
from kubectl_vmredir.agent.peer import is_ours, pid_of_peer
from kubectl_vmredir.agent.wire import MAX_LINE_BYTES, dump_line, error_of, load, load_line
from kubectl_vmredir.errors import AgentError, AgentGone, MessageMalformed
from kubectl_vmredir.service.interface import Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from kubectl_vmredir.agent.messages import Answer, Question
    from kubectl_vmredir.agent.methods import Method
    from kubectl_vmredir.agent.wire import Codec

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 30.0
"""An agent that has just begun loads what its services need, and answers nobody meanwhile."""

CLOSE_TIMEOUT_S: Final = 1.0

_GONE: Final = Failed(None, Trouble.of(AgentGone("the agent has gone away")))


class _Open:
    """A question that is open: a call, or a stream.

    Args:
        codec: Of the values that answer it.
    """

    def __init__(self, codec: Codec[Any]) -> None:
        self._codec = codec
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] = self._loop.create_future()
        self._last: Answer | None = None
        self._parts: list[Any] = []

    def hear(self, answer: Answer) -> None:
        """Take an answer; after anything but a value there is no more.

        Raises:
            MessageMalformed: If it is a part of none.
        """
        if isinstance(answer, Part):
            if len(self._parts) == MAX_PARTS:
                raise MessageMalformed(f"a value of more than {MAX_PARTS} parts")
            # Each as it comes: what else this program does need not wait for all of them.
            self._parts.append(load(self._codec, answer.value))
            return
        if not isinstance(answer, Done):
            self._last = answer
        if not self._answer.done():
            self._answer.set_result(answer)

    async def done(self) -> Done | None:
        """Return when the question is answered; None at the end of a stream.

        Nothing is lost if this is cancelled: it can be asked for again.

        Raises:
            VmRedirError: If that is the answer.
        """
        await asyncio.wait([self._answer])
        answer = self._answer.result()
        if isinstance(answer, Failed):
            raise error_of(answer.trouble)
        return answer if isinstance(answer, Done) else None

    def value_of(self, done: Done) -> Any:  # noqa: ANN401 - of the type that the codec is of
        """Return the value of an answer, with the parts of it that came before.

        Raises:
            MessageMalformed: If it is none.
        """
        parts, self._parts = self._parts, []
        return joined([*parts, load(self._codec, done.value)])

    def begin_next(self) -> bool:
        """Expect another value from now on; return whether there may be one."""
        self._answer = self._loop.create_future()
        if self._last is not None:
            self._answer.set_result(self._last)
        return self._last is None


class Line(asyncio.Protocol):
    """Calls methods of the agent. Questions are short: nobody waits until they are written.

    When the agent goes, all that is open and all that is asked later fails with what it said at
    last, or with :class:`AgentGone`.

    Attributes:
        agent_pid: Process id of the agent, as the kernel knows it; set when connected.
    """

    agent_pid: int

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[Hello | None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._open: dict[int, _Open] = {}
        self._ids = itertools.count(1)
        self._buffer = bytearray()
        self._over: Failed | None = None
        self._transport: asyncio.Transport

    async def hello(self) -> Hello:
        """Return how the agent introduces itself.

        Raises:
            AgentError: If it does not.
        """
        await asyncio.wait([self._greeted])
        if (hello := self._greeted.result()) is None:
            assert self._over is not None, "it neither spoke nor went"
            raise error_of(self._over.trouble)
        return hello

    async def call(
        self,
        method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call a method of an interface; who is cancelled gives the call up.

        Raises:
            VmRedirError: As the method.
        """
        called = method_of(method)
        question_id, question = self._ask(called, *args, **kwargs)
        try:
            done = await question.done()
        except asyncio.CancelledError:
            self._send(Cancel(question_id))
            raise
        finally:
            del self._open[question_id]
        if done is None:
            raise MessageMalformed("the agent answers a call as if it were a stream")
        value: T = question.value_of(done)
        return value

    @asynccontextmanager
    async def stream(
        self,
        method: Callable[Concatenate[Any, P], AbstractAsyncContextManager[AsyncIterator[T]]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncIterator[AsyncIterator[T]]:
        """Open the stream of a method of an interface.

        Raises:
            VmRedirError: As the method, on entering or while iterating.
        """
        called = method_of(method)
        question_id, question = self._ask(called, *args, **kwargs)
        stream: _Stream[T] = _Stream(question, lambda: self._send(Next(question_id)))
        try:
            await question.done()
            yield stream
        finally:
            stream.over = True
            self._send(Cancel(question_id))
            del self._open[question_id]

    async def close(self) -> None:
        """End the conversation."""
        self._transport.close()
        await asyncio.wait([self._closed], timeout=CLOSE_TIMEOUT_S)

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves, if it is our own agent."""
        assert isinstance(transport, asyncio.Transport), "a unix socket"
        self._transport = transport
        connected = transport.get_extra_info("socket")
        self.agent_pid = pid_of_peer(connected)
        if is_ours(connected):
            transport.write(dump_line(HELLO, Hello(PROTOCOL, __version__, os.getpid())))
        else:
            self._end(Failed(None, Trouble.of(AgentError("the agent is somebody else's"))))

    def data_received(self, data: bytes) -> None:
        """Hear whole lines, and keep what is left."""
        searched = len(self._buffer)
        self._buffer += data
        begin = 0
        while (end := self._buffer.find(b"\n", max(begin, searched))) >= 0:
            self._hear(bytes(self._buffer[begin:end]))
            begin = end + 1
        del self._buffer[:begin]
        if len(self._buffer) > MAX_LINE_BYTES:
            self._malformed(MessageMalformed(f"a line is longer than {MAX_LINE_BYTES} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all that is open."""
        self._end(_GONE)
        self._closed.set_result(None)

    # -- inside -----------------------------------------------------------------------------

    def _ask(self, method: Method, *args: object, **kwargs: object) -> tuple[int, _Open]:
        question_id, question = next(self._ids), _Open(method.value)
        self._open[question_id] = question
        if self._over is not None:
            question.hear(self._over)
        arguments = method.encode_arguments(*args, **kwargs)
        self._send(Call(question_id, method.name, arguments))
        return question_id, question

    def _send(self, question: Question) -> None:
        if self._over is None:
            self._transport.write(dump_line(QUESTION, question))

    def _hear(self, line: bytes) -> None:
        if self._over is not None:
            return
        try:
            if not self._greeted.done():
                self._greeted.set_result(load_line(HELLO, line))
                return
            answer = load_line(ANSWER, line)
            if answer.id is None:
                self._end(answer)
            elif (question := self._open.get(answer.id)) is not None:
                question.hear(answer)
        except MessageMalformed as error:
            self._malformed(error)

    def _malformed(self, error: MessageMalformed) -> None:
        self._end(Failed(None, Trouble.of(error)))

    def _end(self, last: Failed) -> None:
        if self._over is not None:
            return
        self._over = last
        self._buffer.clear()
        if not self._greeted.done():
            self._greeted.set_result(None)
        for question in self._open.values():
            question.hear(last)
        self._transport.abort()


class _Stream(Generic[T]):
    """Items of a stream. Each is asked for when it is wanted: what is not waits in the agent.

    Attributes:
        over: Whether there is no more of it.

    Args:
        question: The stream, open.
        ask: Asks for the next item.
    """

    def __init__(self, question: _Open, ask: Callable[[], None]) -> None:
        self._question = question
        self._ask = ask
        self._asked = False
        self.over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._asked and not self.over:
            if self._question.begin_next():
                self._ask()
            self._asked = True
        # If this is cancelled, what was asked for is for whoever asks next.
        done = None if self.over else await self._question.done()
        self._asked = False
        if done is None:
            self.over = True
            raise StopAsyncIteration
        value: T = self._question.value_of(done)
        return value


@asynccontextmanager
async def connect(path: Path) -> AsyncIterator[tuple[Line, Hello]]:
    """Begin a conversation with the agent at a socket, whatever its version.

    Raises:
        AgentGone: If there is none, or it does not answer.
        AgentError: If it cannot be talked to.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, line = await asyncio.get_running_loop().create_unix_connection(Line, str(path))
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise AgentGone("no agent is running") from exc
    except TimeoutError as exc:
        raise AgentGone("the agent does not answer") from exc
    except OSError as exc:
        raise AgentError(f"cannot talk to the agent at {path}: {exc.strerror}") from exc
    try:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                hello = await line.hello()
        except TimeoutError as exc:
            raise AgentGone("the agent does not answer") from exc
        yield line, hello
    finally:
        await line.close()
