"""The answer to a websocket handshake, read to its end.

A refusal carries the reason in its body, and kube-apiserver writes it in pieces: status line,
headers and body come one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import h11

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY_BYTES: Final = 64 << 10
_SWITCHING_PROTOCOLS: Final = 101
# h11 follows both sides; picows sends the request that is meant here.
_REQUEST: Final = h11.Request(
    method="GET",
    target="/",
    headers=[("Host", "unused"), ("Connection", "Upgrade"), ("Upgrade", "websocket")],
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no websocket; headers and body are untrusted.

    Attributes:
        status: HTTP status; 0 if the answer was not HTTP.
        headers: By name, in lower case.
        body: The beginning of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Answer:
    """Reads the answer as it comes in.

    Attributes:
        accepted: Whether the server speaks websocket from here on.
        refusal: The answer, when it is complete and is none.
        subprotocol: The one that the server chose; empty if it said nothing of it.
    """

    def __init__(self) -> None:
        self.accepted = False
        self.refusal: Refusal | None = None
        self.subprotocol = ""
        self._http = h11.Connection(h11.CLIENT)
        self._http.send(_REQUEST)
        self._http.send(h11.EndOfMessage())
        self._begun = False
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in what came; no bytes for the end of the stream."""
        if self.accepted or self.refusal is not None:
            return
        if not data and not self._begun:  # closed unanswered
            return
        self._begun = True
        try:
            self._http.receive_data(data)
            self._read_events()
        except h11.RemoteProtocolError:
            self._refuse()

    def _read_events(self) -> None:
        while True:
            match self._http.next_event():
                case h11.InformationalResponse(status_code=code, headers=headers) if (
                    code == _SWITCHING_PROTOCOLS
                ):
                    self.accepted = True
                    chosen = dict(headers).get(b"sec-websocket-protocol", b"")
                    self.subprotocol = chosen.decode("latin-1")
                    return
                case h11.Response() as response:
                    self._status = response.status_code
                    self._headers = {
                        name.decode("ascii"): value.decode("latin-1")
                        for name, value in response.headers
                    }
                case h11.Data() as part:
                    self._body += part.data
                    if len(self._body) >= MAX_BODY_BYTES:
                        self._refuse()
                        return
                case h11.EndOfMessage() | h11.ConnectionClosed():
                    self._refuse()
                    return
                case h11.InformationalResponse():
                    continue
                case _:  # NEED_DATA
                    return

    def _refuse(self) -> None:
        self.refusal = Refusal(self._status, self._headers, bytes(self._body[:MAX_BODY_BYTES]))
