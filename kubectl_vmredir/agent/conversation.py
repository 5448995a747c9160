"""The agent's side of the conversation with one client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, assert_never

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.control import AgentControl
from kubectl_vmredir.agent.messages import (
    ANSWER,
    HELLO,
    MAX_REQUEST_BYTES,
    PROTOCOL,
    QUESTION,
    Call,
    Cancel,
    Done,
    Ended,
    Failed,
    Hello,
    Next,
    Part,
)
from kubectl_vmredir.agent.methods import methods_of
from kubectl_vmredir.agent.parts import in_parts
from kubectl_vmredir.agent.wire import Raw, dump_line, load_line, trouble_of
from kubectl_vmredir.errors import AgentError, AgentGone, MessageMalformed, OtherVersion
from kubectl_vmredir.service.bulkhead import contained, unexpected
from kubectl_vmredir.service.interface import RedirectionService, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.agent.access import Access
    from kubectl_vmredir.agent.control import AgentStatus, Overview, ServiceId
    from kubectl_vmredir.agent.messages import Answer
    from kubectl_vmredir.agent.methods import Method
    from kubectl_vmredir.agent.server import AgentServer
    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import ExitRisk

logger = logging.getLogger(__name__)

HELLO_TIMEOUT_S: Final = 10.0

MAX_QUESTIONS: Final = 256
"""Open questions of one client; one that asks more at once does not wait for answers."""

FAREWELL_S: Final = 1.0
"""How long a client has to read what it was sent last."""


@dataclass(slots=True)
class _Question:
    """A question that is open.

    Attributes:
        task: Answers it.
        streams: Whether a stream is what answers it.
        wanted: Set when the next item of the stream is.
        answered: Whether there is nothing more to say.
    """

    task: asyncio.Task[None]
    streams: bool
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    answered: bool = False


class Conversation:
    """Answers the questions of one client, each in a task of its own.

    All tasks end with the conversation: who is gone waits for nothing any more. What was asked of
    the service is not undone.

    Args:
        reader: Of the client's lines, limited to :data:`MAX_REQUEST_BYTES`.
        writer: To the client; closed at the end.
        server: Owns the services, and answers for the agent.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: AgentServer
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._server = server
        self._stack = AsyncExitStack()
        self._service: RedirectionService | None = None
        self._access: Access | None = None
        self._opening = False
        self._questions: dict[int, _Question] = {}
        self._lost = asyncio.Event()

    async def run(self) -> None:
        """Converse until the client goes, or is sent away for what it says."""
        try:
            async with self._stack, asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen(group), name="listen")
                losing = group.create_task(self._lost.wait(), name="service-lost")
                await asyncio.wait([listening, losing], return_when=asyncio.FIRST_COMPLETED)
                for task in (listening, losing, *(each.task for each in self._questions.values())):
                    task.cancel()
        finally:
            await self._hang_up()

    async def end_streams(self) -> None:
        """Tell the client that there is no more to hear, and let it have the answers it waits for.

        Whoever calls it ends the conversation then.
        """
        for question_id, question in list(self._questions.items()):
            if question.streams:
                await self._send(Ended(question_id))
        if answers := [each.task for each in self._questions.values() if not each.streams]:
            await asyncio.wait(answers, timeout=FAREWELL_S)

    # -- what is asked of the agent itself ----------------------------------------------------

    async def open(self, access: Access) -> str:
        """See ``AgentControl.open``."""
        if self._opening or self._service is not None:
            raise AgentError("a service has been chosen already")
        self._opening = True
        try:
            connection = await self._stack.enter_async_context(
                self._server.services.use(access, self._lost.set)
            )
            self._service, self._access = connection.service, access
        finally:
            self._opening = False
        return access.options.namespace or connection.namespace

    async def adopt(self, service: ServiceId) -> None:
        """See ``AgentControl.adopt``."""
        await self.open(self._server.services.access_to(service))

    async def overview(self) -> Overview:
        """See ``AgentControl.overview``."""
        return await self._server.services.overview()

    @asynccontextmanager
    async def watch_overview(self) -> AsyncIterator[AsyncIterator[Overview]]:
        """See ``AgentControl.watch_overview``."""
        async with aclosing(self._server.services.overviews()) as overviews:
            yield overviews

    async def forget(self, service: ServiceId, redirection_id: RedirectionId) -> None:
        """See ``AgentControl.forget``."""
        await self._server.services.forget(service, redirection_id)

    async def status(self) -> AgentStatus:
        """See ``AgentControl.status``."""
        return await self._server.status()

    async def stop(self, *, force: bool = False) -> tuple[ExitRisk, ...]:
        """See ``AgentControl.stop``."""
        return await self._server.stop(force=force)

    # -- listening ----------------------------------------------------------------------------

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        try:
            self._writer.write(dump_line(HELLO, Hello(PROTOCOL, __version__, os.getpid())))
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                if not (line := await self._line()):
                    return
            _check(load_line(HELLO, line))
            while line := await self._line():
                self._hear(load_line(QUESTION, line), group)
        except AgentError as error:
            logger.warning("a client is sent away: %s", error)
            await self._send(Failed(None, Trouble.of(error)))
        except TimeoutError:
            logger.warning("a client is sent away: it does not say hello")
        except ConnectionError:
            logger.debug("a client broke off")

    async def _line(self) -> bytes:
        """Return the next line; nothing at the end."""
        try:
            line = await self._reader.readline()
        except ValueError as exc:
            raise MessageMalformed(f"a line is longer than {MAX_REQUEST_BYTES} bytes") from exc
        return line if line.endswith(b"\n") else b""

    def _hear(self, question: Call | Next | Cancel, group: asyncio.TaskGroup) -> None:
        match question:
            case Call():
                if question.id in self._questions:
                    raise MessageMalformed(f"question {question.id} is open already")
                if len(self._questions) >= MAX_QUESTIONS:
                    raise MessageMalformed(f"more than {MAX_QUESTIONS} questions at once")
                method = _METHODS.get(question.method)
                self._questions[question.id] = _Question(
                    group.create_task(self._answer(question, method), name="answer"),
                    streams=method is not None and method.streams,
                )
            case Next():
                if (found := self._questions.get(question.id)) is not None:
                    found.wanted.set()
            case Cancel():
                if (found := self._questions.get(question.id)) is not None:
                    found.task.cancel()
            case _:
                assert_never(question)

    # -- answering ----------------------------------------------------------------------------

    async def _answer(self, call: Call, method: Method | None) -> None:
        try:
            raised = await contained(self._work(call, method), name=f"answer-{call.id}")
            if raised is not None:
                if (bug := unexpected(raised)) is not None:
                    logger.error("a question cannot be answered", exc_info=bug)
                await self._send(Failed(call.id, trouble_of(raised)))
            elif not self._questions[call.id].answered:
                # The service cancels who waits for it when it ends.
                await self._send(Failed(call.id, Trouble.of(AgentGone("the service has ended"))))
        finally:
            del self._questions[call.id]

    async def _work(self, call: Call, method: Method | None) -> None:
        if method is None:
            raise AgentError(f"the agent knows no {call.method[:40]!r}")
        target: Any = self if method.name in methods_of(AgentControl) else self._service
        if target is None:
            raise AgentError("no service has been chosen yet")
        if method.name == "bind" and self._access is not None:
            self._server.services.binds(self._access)
        called = getattr(target, method.name)(**method.decode_arguments(call.arguments))
        if method.streams:
            await self._stream(call.id, method, called)
        else:
            await self._return(call.id, method, called)
        self._questions[call.id].answered = True

    async def _return(self, question_id: int, method: Method, called: Awaitable[object]) -> None:
        value = await called
        if self._access is not None:
            # Who is told that it is wanted may rely on it.
            await self._server.services.settle(self._access.key)
        await self._give(question_id, method, value)

    async def _stream(
        self, question_id: int, method: Method, opened: AbstractAsyncContextManager[Any]
    ) -> None:
        wanted = self._questions[question_id].wanted
        async with opened as items:
            await self._send(Done(question_id, Raw(None)))
            while True:
                await wanted.wait()
                wanted.clear()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    await self._send(Ended(question_id))
                    return
                await self._give(question_id, method, item)

    async def _give(self, question_id: int, method: Method, value: object) -> None:
        """Send a value; packets do not wait until all of a long one is encoded."""
        *parts, last = in_parts(value)
        for part in parts:
            await self._send(Part(question_id, Raw(method.value.encode(part))))
            await asyncio.sleep(0)
        await self._send(Done(question_id, Raw(method.value.encode(last))))

    async def _send(self, answer: Answer) -> None:
        """Send an answer; waits while the client does not read."""
        self._writer.write(dump_line(ANSWER, answer))
        with contextlib.suppress(ConnectionError):  # the listener sees it too
            await self._writer.drain()

    async def _hang_up(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            self._writer.transport.abort()


_METHODS: Final = {**methods_of(RedirectionService), **methods_of(AgentControl)}


def _check(hello: Hello) -> None:
    if hello.protocol != PROTOCOL:
        raise OtherVersion(
            f"the agent is of version {__version__}, its client of {hello.version[:40]!r}",
            hint=f"Use the same version, or end the agent first: kill {os.getpid()}",
        )
