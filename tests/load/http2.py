"""A connection that speaks HTTP/2 (RFC 9113), many requests at a time, as little of it as a gateway's answers need."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field

from load.http1 import Answer, LostError

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
#: The answer's headers may use no table of their own (HEADER_TABLE_SIZE 0), and streams are read without updates.
_OURS = struct.pack("!HLHL", 1, 0, 4, 2**31 - 1)
#: RFC 7541, appendix A: the statuses that have an index; others are shown as they came.
_STATUS = {0x88: "200", 0x8C: "400", 0x8D: "404", 0x8E: "500"}
_KEPT = 4096


class UnsentError(Exception):
    """The server said, with GOAWAY, that it did nothing with the request: any client sends it again."""


@dataclass
class _Stream:
    answer: asyncio.Future[Answer]
    status: str = ""
    body: bytes = field(default=b"")


class Http2(asyncio.Protocol):
    """One connection. `open` is False once the server has asked for another one."""

    def __init__(self) -> None:
        self.open = False
        self._received = b""
        self._next = 1
        self._streams: dict[int, _Stream] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.open = True
        update = _frame(_WINDOW, 0, 0, struct.pack("!L", 2**31 - 1 - 65535))
        transport.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, _OURS) + update)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        for stream in self._streams.values():
            where = "within" if stream.status else "before"
            _fail(stream, LostError(f"HTTP/2 connection closed {where} the answer ({type(exc).__name__})"))
        self._streams.clear()

    def request(self, path: str, key: str, body: bytes) -> asyncio.Future[Answer]:
        """Send a request. The answer raises LostError, or UnsentError."""
        number, self._next = self._next, self._next + 2
        stream = _Stream(asyncio.get_running_loop().create_future())
        self._streams[number] = stream
        # :method POST, :scheme https
        block = b"\x83\x87" + _literal(b"\x04", path) + _literal(b"\x01", "gateway")
        block += _named("authorization", f"Bearer {key}") + _named("content-type", "application/json")
        headers = _frame(_HEADERS, _END_HEADERS, number, block)
        self._transport.write(headers + _frame(_DATA, _END_STREAM, number, body))
        return stream.answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + length:
                return
            kind, flags = self._received[3], self._received[4]
            number = int.from_bytes(self._received[5:9], "big")
            content, self._received = self._received[9 : 9 + length], self._received[9 + length :]
            self._take(kind, flags, number, content)

    def _take(self, kind: int, flags: int, number: int, content: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, content))
        elif kind == _GOAWAY:
            self.open = False
            last = int.from_bytes(content[:4], "big")
            for later in [each for each in self._streams if each > last]:
                _fail(self._streams.pop(later), UnsentError())
            self._leave()
        elif number in self._streams:
            self._of_stream(kind, flags, number, content)

    def _leave(self) -> None:
        """Close a connection that the server has asked to leave, when nothing is open on it."""
        if not self.open and not self._streams:
            self._transport.close()

    def _of_stream(self, kind: int, flags: int, number: int, content: bytes) -> None:
        stream = self._streams[number]
        if kind == _RESET:
            _fail(self._streams.pop(number), LostError(f"reset with error {int.from_bytes(content, 'big')}"))
            return
        if kind == _HEADERS and not stream.status:
            block = content.lstrip(bytes(range(0x20, 0x40)))  # without changes of the table's size
            stream.status = _STATUS.get(block[0], f"status {block[:6].hex()}")
        elif kind == _DATA:
            stream.body = (stream.body + content)[-_KEPT:]
        if flags & _END_STREAM and kind in (_HEADERS, _DATA):
            del self._streams[number]
            if not stream.answer.done():
                stream.answer.set_result(Answer(stream.status, stream.body))
            self._leave()

    def close(self) -> None:
        self.open = False
        self._transport.close()


def _fail(stream: _Stream, error: Exception) -> None:
    if not stream.answer.done():
        stream.answer.set_exception(error)


def _frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + content


def _text(text: str) -> bytes:
    """A string of RFC 7541, 5.2, without Huffman coding."""
    content = text.encode()
    assert len(content) < 127, "one byte for the length"
    return bytes([len(content)]) + content


def _literal(name: bytes, value: str) -> bytes:
    """A header that the table does not remember, `name` being an index."""
    return name + _text(value)


def _named(name: str, value: str) -> bytes:
    return b"\x00" + _text(name) + _text(value)
