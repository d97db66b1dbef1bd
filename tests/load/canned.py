"""A provider that has one answer, for those who bring one of its keys: python canned.py --api-key KEY...

It speaks HTTP/1.1 as Envoy does, and is cheap enough for thousands of requests a second. Prints `PORT n` first.
"""

from __future__ import annotations

import argparse
import asyncio

_BODY = (
    b'{"id": "chatcmpl-1", "object": "chat.completion", "created": 1735689600, "model": "canned", "choices":'
    b' [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],'
    b' "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}'
)
_REFUSAL = b'{"error": {"message": "wrong key", "type": "invalid_request_error", "param": null, "code": "wrong_key"}}'


def answer(status: bytes, body: bytes) -> bytes:
    """An answer in full."""
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    return head + body


class Canned(asyncio.Protocol):
    """One connection."""

    good = answer(b"200 OK", _BODY)
    bad = answer(b"401 Unauthorized", _REFUSAL)
    keys: frozenset[bytes] = frozenset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(body) >= length:
            self._received = body[length:]
            key = head.partition(b"\r\nauthorization: Bearer ")[2].partition(b"\r\n")[0]
            self._transport.write(self.good if key in self.keys else self.bad)


async def main(port: int, keys: list[str]) -> None:
    Canned.keys = frozenset(key.encode() for key in keys)
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
    print("PORT", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name")
    parser.add_argument("--api-key", action="append", default=[])
    given = parser.parse_args()
    asyncio.run(main(given.port, given.api_key))
