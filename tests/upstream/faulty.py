"""A provider that fails in every way that one can, for tests. Standard library only.

    python3 faulty.py --port 0 --name eu --api-key sk-eu

It is upstream.py, with the same options and the same answers, but for a request that asks for a fault: by the model
`fault-NAME`, by the header `x-fault: NAME`, or because of `POST /_control {"fault": "NAME"}`. The faults are the
functions at the end of this file. Where a fault is within an answer, it is so with JSON as with streams. Their knobs
are fields of the body:
    x_delay     seconds between the pieces of `drip`
    x_size      bytes of what is `huge`
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # In place of this folder, where `upstream` would be the module.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from upstream import upstream

HUGE = 32 * 1024 * 1024
DRIP_SECONDS = 0.02
# Longer than any test waits.
FOREVER = 600.0


@dataclass(frozen=True)
class Reply:
    """The good answer, as a fault finds it."""

    writer: asyncio.StreamWriter
    request: upstream.Request
    headers: dict[str, str]
    pieces: list[bytes]
    stream: bool

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def head(self, status: int = 200, **headers: str) -> None:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        upstream.send_head(self.writer, status, {**self.headers, **given})

    def begin(self) -> None:
        """The head of a good answer: a stream comes in chunks, JSON says how long it is."""
        if self.stream:
            self.head(transfer_encoding="chunked")
        else:
            self.head(content_length=str(len(self.body)))

    async def send(self, data: bytes) -> None:
        """A piece of the body after `begin`."""
        if self.stream:
            await upstream.send_chunk(self.writer, data)
        else:
            await self.write(data)

    async def end(self) -> None:
        if self.stream:
            await self.write(b"0\r\n\r\n")

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def first_half(self) -> None:
        self.begin()
        for piece in self.pieces[: len(self.pieces) // 2]:
            await self.send(piece)
        # A reset takes with it what was not read yet.
        await asyncio.sleep(0.1)


Fault = Callable[[Reply], Awaitable[None]]


class Faulty(upstream.Upstream):
    """An upstream that can fail."""

    def reset(self) -> None:
        super().reset()
        self.behaviour["fault"] = None

    async def _complete(self, shape: upstream.Shape, request: upstream.Request, writer: asyncio.StreamWriter) -> None:
        model = request.model or ""
        asked = model[6:] if model.startswith("fault-") else request.headers.get("x-fault") or self.behaviour["fault"]
        if asked is None:
            await super()._complete(shape, request, writer)
            return
        stream = bool(request.body.get("stream")) and shape.streams
        if stream:
            pieces = [shape.opening(), *map(shape.event, shape.pieces), shape.closing()]
        else:
            text = json.dumps(shape.whole()).encode()
            pieces = [text[at : at + 16] for at in range(0, len(text), 16)]
        kind = "text/event-stream" if stream else "application/json"
        await FAULTS[asked](Reply(writer, request, {"content-type": kind, **self._headers()}, pieces, stream))


# ---- refusals


async def rate_limited(reply: Reply) -> None:
    """429 with Retry-After and OpenAI's headers."""
    error = {"message": "Rate limit reached.", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}
    limits = {"retry-after": "7", "x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-requests": "0"}
    upstream.send_json(reply.writer, 429, {"error": error}, limits)


async def quoted_key(reply: Reply) -> None:
    """401 that repeats the key."""
    message = f"Incorrect API key provided: {reply.request.key()}."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    upstream.send_json(reply.writer, 401, {"error": error}, {"www-authenticate": f"Bearer {reply.request.key()}"})


async def html_error(reply: Reply) -> None:
    """502 of some proxy on the way: no JSON."""
    body = b"<html><body>Bad gateway</body></html>"
    upstream.send_head(reply.writer, 502, {"content-type": "text/html", "content-length": str(len(body))})
    await reply.write(body)


# ---- silences and ends


async def reset(reply: Reply) -> None:
    """The connection is reset before the answer."""
    raise upstream.ResetWantedError


async def close(reply: Reply) -> None:
    """The connection is closed before the answer."""
    raise upstream.CloseWantedError


async def reset_inside(reply: Reply) -> None:
    """The connection is reset within the answer."""
    await reply.first_half()
    raise upstream.ResetWantedError


async def close_inside(reply: Reply) -> None:
    """The connection is closed within the answer: less than its length says, or no last chunk."""
    await reply.first_half()
    raise upstream.CloseWantedError


async def hang(reply: Reply) -> None:
    """Nothing comes at all."""
    await asyncio.sleep(FOREVER)


async def hang_inside(reply: Reply) -> None:
    """Nothing comes any more."""
    await reply.first_half()
    await asyncio.sleep(FOREVER)


async def drip(reply: Reply) -> None:
    """The answer comes in small pieces."""
    delay = reply.request.knob("x_delay")
    reply.begin()
    for piece in reply.pieces:
        await reply.send(piece)
        await asyncio.sleep(DRIP_SECONDS if delay is None else delay)
    await reply.end()


# ---- sizes


async def huge(reply: Reply) -> None:
    """Tens of megabytes: one JSON text, or as many events as it takes."""
    size = int(reply.request.knob("x_size") or HUGE)
    if reply.stream:
        reply.begin()
        for piece in reply.pieces[:-1]:
            await reply.send(piece)
        block = upstream.sse({"choices": [{"index": 0, "delta": {"content": "x" * 1000}}]}) * 64
        for _turn in range(size // len(block)):
            await reply.send(block)
        await reply.send(reply.pieces[-1])
        await reply.end()
        return
    start, end = b'{"choices":[{"message":{"content":"', b'"}}],%s' % reply.body[1:]
    reply.head(content_length=str(len(start) + size + len(end)))
    await reply.write(start)
    for at in range(0, size, 65536):
        await reply.write(b"x" * min(65536, size - at))
    await reply.write(end)


async def huge_line(reply: Reply) -> None:
    """Tens of megabytes in one line."""
    size = int(reply.request.knob("x_size") or HUGE)
    reply.head(transfer_encoding="chunked")
    await upstream.send_chunk(reply.writer, b'data: {"usage":{"x":"')
    for at in range(0, size, 65536):
        await upstream.send_chunk(reply.writer, b"x" * min(65536, size - at))
    await upstream.send_chunk(reply.writer, b'"}}\n\n' if reply.stream else b'"}}')
    await reply.write(b"0\r\n\r\n")


async def huge_headers(reply: Reply) -> None:
    """A header of more than Envoy takes."""
    reply.head(content_length=str(len(reply.body)), x_huge="x" * 100000)
    await reply.write(reply.body)


# ---- HTTP that says something else than it is


async def wrong_type(reply: Reply) -> None:
    """The answer says that it is a web page."""
    reply.head(content_type="text/html", content_length=str(len(reply.body)))
    await reply.write(reply.body)


async def no_length(reply: Reply) -> None:
    """Neither a length nor chunks: the answer ends with the connection."""
    reply.head()
    await reply.write(reply.body)
    raise upstream.CloseWantedError


async def short_length(reply: Reply) -> None:
    """After what the length says comes another answer, which nobody has asked for."""
    reply.head(content_length=str(len(reply.body)))
    await reply.write(reply.body + b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled")


async def two_lengths(reply: Reply) -> None:
    """Two lengths."""
    length = str(len(reply.body)).encode()
    await reply.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: %s\r\n\r\n%s" % (length, reply.body))


async def length_and_chunks(reply: Reply) -> None:
    """A length and chunks."""
    reply.head(content_length="3", transfer_encoding="chunked")
    await upstream.send_chunk(reply.writer, reply.body)
    await reply.write(b"0\r\n\r\n")


async def bad_chunks(reply: Reply) -> None:
    """Within the answer comes a chunk whose size is no number."""
    reply.head(transfer_encoding="chunked")
    await upstream.send_chunk(reply.writer, reply.pieces[0])
    await asyncio.sleep(0.1)
    await reply.write(b"zz\r\nxx\r\n0\r\n\r\n")


async def no_http(reply: Reply) -> None:
    """Another protocol."""
    await reply.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")


async def bad_status(reply: Reply) -> None:
    """A status that is none."""
    await reply.write(b"HTTP/1.1 2OO OK\r\ncontent-length: 0\r\n\r\n")


async def informational(reply: Reply) -> None:
    """Answers of the class 1xx come before the answer."""
    await reply.write(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n")
    reply.begin()
    for piece in reply.pieces:
        await reply.send(piece)
    await reply.end()


async def switching(reply: Reply) -> None:
    """101, which nobody has asked for."""
    await reply.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx")


async def trailers(reply: Reply) -> None:
    """After the last chunk come trailers."""
    reply.head(transfer_encoding="chunked", trailer="x-checksum")
    for piece in reply.pieces:
        await upstream.send_chunk(reply.writer, piece)
    await reply.write(b"0\r\nx-checksum: abc\r\n\r\n")


# ---- bodies that say something else than they are


async def broken_json(reply: Reply) -> None:
    """200 with half an answer, all of it sent."""
    half = reply.body[: len(reply.body) // 2]
    reply.head(content_length=str(len(half)))
    await reply.write(half)


async def absurd_usage(reply: Reply) -> None:
    """Numbers of tokens that are none."""
    usage: dict[str, Any] = {"prompt_tokens": 10**30, "completion_tokens": -5, "total_tokens": 1e300}
    answer = {"choices": [], "model": "m" * 100000, "usage": usage}
    text = upstream.sse(answer) if reply.stream else json.dumps(answer).encode()
    reply.head(content_length=str(len(text)))
    await reply.write(text)


async def compressed(reply: Reply) -> None:
    """The answer is compressed, though nobody said that it may be."""
    text = gzip.compress(reply.body)
    reply.head(content_encoding="gzip", content_length=str(len(text)))
    await reply.write(text)


FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        rate_limited,
        quoted_key,
        html_error,
        reset,
        close,
        reset_inside,
        close_inside,
        hang,
        hang_inside,
        drip,
        huge,
        huge_line,
        huge_headers,
        wrong_type,
        no_length,
        short_length,
        two_lengths,
        length_and_chunks,
        bad_chunks,
        no_http,
        bad_status,
        informational,
        switching,
        trailers,
        broken_json,
        absurd_usage,
        compressed,
    )
}


if __name__ == "__main__":
    upstream.main(Faulty)
