"""Runs commands in pods, as ``kubectl exec`` does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import ExecFailed, Forbidden
from kubectl_vmredir.k8s.objects import printable
from kubectl_vmredir.k8s.status import refusal
from kubectl_vmredir.kubevirt import paths, websocket
from kubectl_vmredir.kubevirt.dial import dial_as_user
from kubectl_vmredir.kubevirt.exec_stream import (
    SUBPROTOCOLS,
    ExecEars,
    ExecStream,
    MessageWebsocket,
)
from kubectl_vmredir.kubevirt.handshake import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.transport import Access
    from kubectl_vmredir.kubevirt.exec_stream import ExecListener, ExecStatus
    from kubectl_vmredir.kubevirt.stream import Websocket

CONTAINER: Final = "compute"
"""Where QEMU runs in a launcher pod."""
RUN_TIMEOUT_S: Final = 15.0
MAX_OUTPUT_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True, order=True)
class PodRef:
    """Names a pod of one cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class PodExec:
    """Runs commands in the launcher pods of one cluster.

    Args:
        client: The cluster, and who we are to it.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def open(
        self, pod: PodRef, command: Sequence[str], listener: ExecListener, ask: Callable[[], None]
    ) -> ExecStream:
        """Start a command; the caller owns it.

        Cancellation and time limits are as in :func:`~kubectl_vmredir.kubevirt.websocket.dial`.

        Args:
            pod: Where.
            command: Program and arguments; there is no shell unless it is one.
            listener: May be called before this returns.
            ask: Called before each try; what it raises ends the dial.

        Raises:
            Forbidden: If the user may not do it.
            ClusterError: If it cannot be started; ``retryable`` says whether to try again.
        """
        ears = ExecEars(listener)
        path = paths.pod_exec(pod.namespace, pod.name, CONTAINER, command)

        async def dial(access: Access) -> Websocket | Refusal:
            return await websocket.dial(
                f"{access.server}{path}",
                access,
                ears,
                subprotocols=SUBPROTOCOLS,
                new_websocket=MessageWebsocket,
            )

        answer = await dial_as_user(self._client, ask, dial)
        if isinstance(answer, Refusal):
            raise _refused(answer, pod)
        return ExecStream(answer)

    async def run(
        self, pod: PodRef, script: str, *arguments: str, last_word: str, stdin: bytes = b""
    ) -> str:
        """Run a shell script to its end, and return what it said before its last word.

        Args:
            pod: Where.
            script: For ``sh -c``; a text of ours, with nothing of the cluster in it.
            *arguments: What it finds as ``$1`` and on.
            last_word: The line that it ends with if all went well: no exit status can be trusted.
            stdin: What it reads, all of it: with the rest unsent its answer can be lost. It must
                not wait for the end of it, which not every API server can tell.

        Raises:
            ExecFailed: If it did not come to its last word, or not in time.
            ClusterError: As :meth:`open`.
        """
        collector = _Collector()
        command = ("sh", "-c", script, "vmredir", *arguments)
        stream = await self.open(pod, command, collector, lambda: None)
        try:
            stream.send(stdin)
            async with asyncio.timeout(RUN_TIMEOUT_S):
                await collector.ended.wait()
        except TimeoutError as exc:
            raise ExecFailed(f"pod {pod}: a command did not end in {RUN_TIMEOUT_S:g} s") from exc
        finally:
            await stream.close()
        output = collector.output.decode(errors="replace")
        said, found, rest = output.rpartition(f"{last_word}\n")
        if not found or rest or (said and not said.endswith("\n")):
            raise ExecFailed(f"pod {pod}: a command failed: {collector.reason()}")
        return said


def _refused(answer: Refusal, pod: PodRef) -> VmRedirError:
    error = refusal(answer.status, answer.body)
    if isinstance(error, Forbidden):
        return Forbidden(
            str(error),
            hint=(
                f"Ask for the ClusterRole edit in namespace {pod.namespace}, or a Role with get "
                "and create on pods/exec."
            ),
        )
    if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
        return ExecFailed(f"pod {pod}: no command can be run there: {error}")
    return error


class _Collector:
    """Keeps what a command says, up to a limit."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.ended = asyncio.Event()
        self._complaint = ""
        self._cause: VmRedirError | None = None
        self._status: ExecStatus | None = None

    def exec_output(self, data: memoryview) -> None:
        self.output += data[: MAX_OUTPUT_BYTES - len(self.output)]

    def exec_complained(self, complaint: str) -> None:
        self._complaint = complaint

    def exec_writable(self, writable: bool) -> None:
        """Nothing to do: what is sent fits into the buffers."""

    def exec_pong(self, round_trip_s: float) -> None:
        """Nothing to do."""

    def exec_ended(self, cause: VmRedirError, status: ExecStatus | None) -> None:
        self._cause, self._status = cause, status
        self.ended.set()

    def reason(self) -> str:
        """Return why it has not come to its last word, as far as somebody says."""
        complaint = printable(self._complaint)
        if self._status is not None and self._status.message:
            return f"{complaint} ({self._status.message})" if complaint else self._status.message
        return complaint or str(self._cause)
