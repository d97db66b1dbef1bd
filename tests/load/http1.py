"""A connection that speaks HTTP/1.1, as little of it as a gateway needs, and cheap enough for thousands a second."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

#: How a chunked answer ends. Server-sent events and JSON have no CR, so it is nowhere else.
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_KEPT = 4096


class LostError(Exception):
    """No answer came, or not all of it; the reason."""


@dataclass(frozen=True)
class Answer:
    """`body` is the end of it where it is long."""

    status: str
    body: bytes


class Http1(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.open = False
        self.served = 0
        self._answer: asyncio.Future[Answer] | None = None
        self._head = b""
        self._body = b""
        self._length = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._answer and not self._answer.done():
            where = "before the answer" if not self._head else "within the answer"
            age = "new" if not self.served else "kept"
            self._answer.set_exception(LostError(f"{age} connection closed {where} ({type(exc).__name__})"))

    def eof_received(self) -> bool:
        return False

    def request(self, path: str, key: str, body: bytes, *, close: bool) -> asyncio.Future[Answer]:
        """Send a request. The answer raises LostError."""
        self._answer = asyncio.get_running_loop().create_future()
        self._head = self._body = b""
        self._transport.write(
            b"POST %s HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %s\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n%s\r\n%s"
            % (path.encode(), key.encode(), len(body), b"connection: close\r\n" if close else b"", body)
        )
        return self._answer

    def data_received(self, data: bytes) -> None:
        if not self._head:
            self._body += data
            head, found, rest = self._body.partition(b"\r\n\r\n")
            if not found:
                return
            self._head, self._body = head.lower(), rest
            _before, sized, length = self._head.partition(b"\r\ncontent-length: ")
            self._length = int(length.partition(b"\r\n")[0]) if sized else -1
        else:
            self._body += data
        if self._length < 0:
            done = self._body.endswith(_LAST_CHUNK) or self._body == _LAST_CHUNK[2:]
            self._body = self._body[-_KEPT:]
        else:
            done = len(self._body) >= self._length
        if done and self._answer and not self._answer.done():
            self.served += 1
            if b"\r\nconnection: close" in self._head:
                self.close()
            self._answer.set_result(Answer(self._head[9:12].decode("latin-1"), self._body))

    def close(self) -> None:
        self.open = False
        self._transport.close()


def chat(model: str, **more: object) -> bytes:
    """The body of a request."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **more}).encode()
