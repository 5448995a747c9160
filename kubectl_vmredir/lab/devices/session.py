"""The two sockets of a usb-host around a virtual device (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.lab.devices.host import UsbHost

if TYPE_CHECKING:
    import socket

    from kubectl_vmredir.lab.devices.function import Function
    from kubectl_vmredir.model import JsonValue

logger = logging.getLogger(__name__)

READ_BYTES: Final = 256 << 10
OUTPUT_BYTES: Final = 1 << 20
"""With so much unsent, the device rests and nothing more is read."""
REQUEST_BYTES: Final = 4096
"""Longest line that is taken on the control socket."""


class Session:
    """Serves one claimed device until the other side has enough.

    End of file on the control socket means that the device is free again.

    Args:
        function: The device, acquired; released when the session is closed.
        data: Our end of the data socket; owned.
        control: Our end of the control socket; owned.
        latency_s: See :class:`UsbHost`.
    """

    def __init__(
        self,
        function: Function,
        data: socket.socket,
        control: socket.socket,
        *,
        latency_s: float = 0.0,
    ) -> None:
        self._function: Function | None = function
        self._data = data
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._output_ready = asyncio.Event()
        self._output_has_room = asyncio.Event()
        self._output_has_room.set()
        self._host = UsbHost(function, self._queue, clock=self._loop, latency_s=latency_s)

        self._tell({"event": "claimed", "drivers": []})
        self._host.start()

    async def run(self) -> None:
        """Serve until end of file or a stop request, or until the guest breaks the protocol."""
        if error := await self._serve():
            logger.warning("a virtual device's session ends: %s", error)
            self._tell({"event": "error", "message": str(error)})

    def unplug(self, reason: str) -> None:
        """The device is gone; the session lives on and fails all requests, until it is ended."""
        self._host.unplug()
        self._release()
        self._tell({"event": "lost", "reason": reason})

    def close(self) -> None:
        """Give the device back, then close the sockets; to be called when :meth:`run` is over."""
        self._host.close()
        self._release()
        self._data.close()
        self._control.close()

    def _release(self) -> None:
        # Once only: after an unplug the device may have been plugged in and claimed again.
        if self._function is not None:
            self._function.release()
            self._function = None

    async def _serve(self) -> RemoteProtocolError | None:
        """Return why the guest was at fault, or None after an orderly end."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._read_data(), name="usb-host-read"),
                group.create_task(self._write_data(), name="usb-host-write"),
                group.create_task(self._read_control(), name="usb-host-control"),
            ]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        return next((error for task in done if (error := task.result())), None)

    async def _read_data(self) -> RemoteProtocolError | None:
        with contextlib.suppress(ConnectionError):
            while data := await self._loop.sock_recv(self._data, READ_BYTES):
                try:
                    self._host.receive(data)
                except RemoteProtocolError as error:
                    return error
                await self._output_has_room.wait()
        return None

    async def _write_data(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await self._output_ready.wait()
                self._output_ready.clear()
                while self._output:
                    chunk = b"".join(self._output)
                    self._output.clear()
                    await self._loop.sock_sendall(self._data, chunk)
                    self._output_bytes -= len(chunk)
                if not self._output_has_room.is_set():
                    self._output_has_room.set()
                    self._host.resume()

    async def _read_control(self) -> None:
        line = b""
        with contextlib.suppress(ConnectionError):
            while data := await self._loop.sock_recv(self._control, REQUEST_BYTES):
                *lines, line = (line + data).split(b"\n")
                if len(line) > REQUEST_BYTES or any(map(_is_stop, lines)):
                    return

    def _queue(self, data: bytes) -> None:
        self._output.append(data)
        self._output_bytes += len(data)
        self._output_ready.set()
        if self._output_bytes >= OUTPUT_BYTES:
            self._output_has_room.clear()
            self._host.pause()

    def _tell(self, event: dict[str, JsonValue]) -> None:
        # A session has two or three events to tell, which fit in the socket's buffer.
        with contextlib.suppress(OSError):
            self._control.send(json.dumps(event).encode() + b"\n")


def _is_stop(line: bytes) -> bool:
    try:
        request = json.loads(line)
    except ValueError:
        return False
    return isinstance(request, dict) and request.get("request") == "stop"
