"""uvicorn's protocol with bounds on the head of a request: its size, and the time until it is complete.

An answer to such a head is plain text: there is no request yet that problem details could be an answer to.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 65_536


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Between requests uvicorn's own timer for idle connections runs."""

    head_s = 10.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head, self._head_bytes = False, 0
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.head_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(b"431 Request Header Fields Too Large")
                return
        super().data_received(data)
        if self._in_head and self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self._too_slow)

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES_MAX:  # it arrived in one piece
            self._is_refused = True
            self._refuse(b"431 Request Header Fields Too Large")
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            super().on_message_complete()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._in_head:
            self._refuse(b"408 Request Timeout")
        else:  # it never sent anything
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        self._stop_timer()
        self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-type: text/plain\r\n"
                             b"content-length: " + str(len(status)).encode() + b"\r\n\r\n" + status)
        self.transport.close()


def bounded(head_s: float) -> type[BoundedProtocol]:
    """Return the protocol for requests whose head has to be complete within `head_s` seconds."""
    return type("BoundedProtocol", (BoundedProtocol,), {"head_s": head_s})
