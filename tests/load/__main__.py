"""Clients of a gateway that never stop, and count everything: python -m load SETTINGS, with JSON on standard input.

SETTINGS is a JSON object of the fields of `Settings`. Each line on standard input is an object with fields to change,
`{}` for none, and is answered by a line with the counts so far. The end of the input ends the load: what is open is
waited for, and the last line has all counts.

A request is lost unless it gets the answer that is due, whatever the reason: a connection that cannot be made, or that
is closed before or within the answer, another status, a stream without its end. No request is sent twice but those that
HTTP/2's GOAWAY says were not processed; they are counted (`sent_again`).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from load.http1 import Answer, Http1, LostError, chat
from load.http2 import Http2, UnsentError

PATH = "/v1/chat/completions"
#: Seconds for a connection, and for an answer.
_CONNECT = 10.0
_ANSWER = 60.0
#: How many failures, and reasons, are told at length.
_TOLD = 40


@dataclass(frozen=True)
class Settings:
    """`rate` is in requests a second, over all kinds; `stream_seconds` is how long a stream takes.

    `models` are there all the time. `passing` come and go: 404 with `model_not_found` is right for them, and for the
    keys in `passing_keys` 401, or 403 with `no_access` while they come or go. `port` 0 leaves plain HTTP out,
    `tls_port` 0 TLS and HTTP/2. `clients` is how many there are of each kind.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls_port: int = 0
    ca: str = ""
    server_name: str = "localhost"
    key: str = ""
    models: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    passing_keys: tuple[str, ...] = ()
    rate: float = 1000.0
    stream_model: str = ""
    stream_seconds: float = 12.0
    streams: int = 4
    clients: int = 8


@dataclass
class Counts:
    """What happened, by kind of client."""

    sent: collections.Counter[str] = field(default_factory=collections.Counter)
    lost: collections.Counter[str] = field(default_factory=collections.Counter)
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    connections: collections.Counter[str] = field(default_factory=collections.Counter)
    first: list[str] = field(default_factory=list)
    streams: int = 0
    sent_again: int = 0
    slowest: float = 0.0
    began: float = field(default_factory=time.time)

    def lose(self, kind: str, model: str, why: str) -> None:
        self.lost[kind] += 1
        self.reasons[why] += 1
        if len(self.first) < _TOLD:
            self.first.append(f"{time.strftime('%H:%M:%S')} {kind} {model}: {why}")

    def document(self) -> dict[str, Any]:
        return {
            "requests": self.sent.total(),
            "lost": self.lost.total(),
            "sent_again": self.sent_again,
            "streams": self.streams,
            "slowest": round(self.slowest, 3),
            "seconds": round(time.time() - self.began, 2),
            "kinds": dict(self.sent),
            "lost_of": dict(self.lost),
            "connections": dict(self.connections),
            "reasons": dict(self.reasons.most_common(_TOLD)),
            "first": self.first,
        }


class Load:
    """All clients."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counts = Counts()
        self._over = False
        self._tls = {}
        if settings.tls_port:
            for protocol in ("http/1.1", "h2"):
                self._tls[protocol] = ssl.create_default_context(cafile=settings.ca)
                self._tls[protocol].set_alpn_protocols([protocol])

    async def run(self) -> None:
        clients: list[Coroutine[Any, Any, None]] = []
        count, rate, has_tls = self.settings.clients, self.settings.rate, bool(self.settings.tls_port)
        shares: list[tuple[str, Callable[[str, float, int], Coroutine[Any, Any, None]], int]] = []
        if self.settings.port:
            shares += [("kept", self._kept, 5), ("new", self._new, 2), ("idle", self._idle, 0)]
        if has_tls:
            shares += [("kept tls", self._kept, 2), ("new tls", self._new, 1), ("http2", self._http2, 4)]
        whole = sum(share for _kind, _client, share in shares)
        for kind, client, share in shares:
            clients += [client(kind, count * whole / (rate * share) if share else 3.0, turn) for turn in range(count)]
        kinds = (["stream"] if self.settings.port else []) + (["stream tls", "stream http2"] if has_tls else [])
        clients += [self._stream(kind, turn) for kind in kinds for turn in range(self.settings.streams)]
        await asyncio.gather(*clients)

    def end(self) -> None:
        self._over = True

    async def _pauses(self, period: float, turn: int) -> Any:
        """Yield every `period` seconds; when the machine is too slow for that, as often as it can."""
        clock = asyncio.get_running_loop().time
        due = clock() + period * turn / self.settings.clients
        while not self._over:
            now = clock()
            if now < due:
                await asyncio.sleep(min(due - now, 1.0))
                if clock() < due:
                    continue
            due = max(due + period, clock() - 0.05)
            yield

    async def _connect(self, kind: str, protocol: Callable[[], Any]) -> Any:
        tls = kind.endswith(("tls", "http2"))
        context = self._tls["h2" if kind.endswith("http2") else "http/1.1"] if tls else None
        port = self.settings.tls_port if tls else self.settings.port
        name = self.settings.server_name if tls else None
        loop = asyncio.get_running_loop()
        self.counts.connections[kind] += 1
        made = loop.create_connection(protocol, self.settings.host, port, ssl=context, server_hostname=name)
        try:
            return (await asyncio.wait_for(made, _CONNECT))[1]
        except OSError as error:
            raise LostError(f"no connection: {type(error).__name__} {error}") from None

    def _choose(self, turn: int) -> tuple[str, str]:
        """The model and the key of a client's next request; every tenth is one that comes and goes."""
        now = self.settings
        if turn % 10 == 9 and now.passing:
            return now.passing[turn // 10 % len(now.passing)], now.key
        if turn % 10 == 4 and now.passing_keys:
            return now.models[turn % len(now.models)], now.passing_keys[turn // 10 % len(now.passing_keys)]
        return now.models[turn % len(now.models)], now.key

    def _judge(self, kind: str, model: str, key: str, answer: Answer) -> None:
        if answer.status == "200":
            return
        now = self.settings
        if model in now.passing and answer.status == "404" and b"model_not_found" in answer.body:
            return
        if key in now.passing_keys and (b"invalid_api_key" in answer.body or b"no_access" in answer.body):
            return
        self.counts.lose(kind, model, f"{answer.status} {answer.body[:200].decode('latin-1')}")

    async def _ask(
        self, kind: str, turn: int, send: Callable[[str, str], Coroutine[Any, Any, Answer]], model: str = ""
    ) -> Answer | None:
        """One request, counted; None when it got no answer."""
        chosen, key = self._choose(turn)
        model = model or chosen
        self.counts.sent[kind] += 1
        began = time.monotonic()
        try:
            answer = await asyncio.wait_for(send(model, key), _ANSWER)
        except (TimeoutError, LostError, OSError) as error:
            self.counts.lose(kind, model, str(error) or type(error).__name__)
            return None
        if not kind.startswith("stream"):
            self.counts.slowest = max(self.counts.slowest, time.monotonic() - began)
        self._judge(kind, model, key, answer)
        return answer

    async def _kept(self, kind: str, period: float, client: int) -> None:
        connection: Http1 | None = None

        async def send(model: str, key: str) -> Answer:
            nonlocal connection
            if connection is None or not connection.open:
                connection = await self._connect(kind, Http1)
            return await connection.request(PATH, key, chat(model), close=False)

        turn = client
        async for _pause in self._pauses(period, client):
            turn += 1
            if await self._ask(kind, turn, send) is None and connection:
                connection.close()
        if connection:
            connection.close()

    async def _idle(self, kind: str, period: float, client: int) -> None:
        """As `_kept`, but seldom: the connection is idle when something changes."""
        await self._kept(kind, period, client)

    async def _new(self, kind: str, period: float, client: int) -> None:
        async def send(model: str, key: str) -> Answer:
            connection: Http1 = await self._connect(kind, Http1)
            try:
                return await connection.request(PATH, key, chat(model), close=True)
            finally:
                connection.close()

        turn = client
        async for _pause in self._pauses(period, client):
            turn += 1
            await self._ask(kind, turn, send)

    async def _http2(self, kind: str, period: float, client: int) -> None:
        """Two requests at a time on one connection."""
        connection: Http2 | None = None

        async def send(model: str, key: str) -> Answer:
            nonlocal connection
            while True:
                if connection is None or not connection.open:
                    connection = await self._connect(kind, Http2)
                try:
                    return await connection.request(PATH, key, chat(model))
                except UnsentError:
                    self.counts.sent_again += 1

        turn = client
        connection = await self._connect(kind, Http2)
        async for _pause in self._pauses(2 * period, client):
            turn += 2
            await asyncio.gather(self._ask(kind, turn, send), self._ask(kind, turn + 1, send))
        if connection:
            connection.close()

    async def _stream(self, kind: str, client: int) -> None:
        """Streams one after the other, a connection each, from beginning to `[DONE]`."""
        pieces = max(2, int(self.settings.stream_seconds / 0.25))

        async def send(model: str, key: str) -> Answer:
            body = chat(model, stream=True, x_chunks=pieces, x_delay=0.25)
            if not kind.endswith("http2"):
                plain: Http1 = await self._connect(kind, Http1)
                return await plain.request(PATH, key, body, close=True)
            connection: Http2 = await self._connect(kind, Http2)
            try:
                return await connection.request(PATH, key, body)
            finally:
                connection.close()  # idle, it would be told nothing when the gateway drains, which then waits for it

        # Some begin and some end at any time.
        await asyncio.sleep(self.settings.stream_seconds * client / max(1, self.settings.streams))
        while not self._over:
            answer = await self._ask(kind, 0, send, self.settings.stream_model)
            if answer is None or answer.status != "200":
                await asyncio.sleep(0.2)
            elif b"data: [DONE]" in answer.body:
                self.counts.streams += 1
            else:
                self.counts.lose(kind, self.settings.stream_model, "the stream has no end")


async def main(settings: Settings) -> None:
    load = Load(settings)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = asyncio.create_task(load.run())
    while line := await reader.readline():
        load.settings = replace(load.settings, **_plain(json.loads(line)))
        print(json.dumps(load.counts.document()), flush=True)
    load.end()
    await running
    print(json.dumps(load.counts.document()), flush=True)


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Settings(**_plain(json.loads(sys.argv[1])))))
