"""A client of HTTP/3 for tests, with a connection that stays open for many requests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

Result = TypeVar("Result")

SECONDS = 20


@dataclass
class Answer:
    """An answer. `pieces` are its parts as they arrived."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> str:
        return b"".join(self.pieces).decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class _Protocol(QuicConnectionProtocol):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http = H3Connection(self._quic)
        self._open: dict[int, tuple[Answer, asyncio.Future[Answer]]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            for stream in list(self._open):
                self._fail(stream, f"the connection has ended: {event.reason_phrase or event.error_code}")
        elif isinstance(event, StreamReset):
            self._fail(event.stream_id, "the stream was reset")
        else:
            for each in self._http.handle_event(event):
                self._received(each)

    def _fail(self, stream: int, why: str) -> None:
        _answer, future = self._open.pop(stream, (None, None))
        if future is not None and not future.done():
            future.set_exception(ConnectionError(why))

    def _received(self, event: H3Event) -> None:
        if not isinstance(event, (HeadersReceived, DataReceived)) or event.stream_id not in self._open:
            return
        answer, future = self._open[event.stream_id]
        if isinstance(event, HeadersReceived):
            answer.headers.update({name.decode(): value.decode() for name, value in event.headers})
            answer.status = int(answer.headers[":status"])
        else:
            answer.pieces.append(event.data)
        if event.stream_ended:
            del self._open[event.stream_id]
            if not future.done():
                future.set_result(answer)

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        stream = self._quic.get_next_available_stream_id()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[stream] = Answer(), future
        first = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path, **headers}
        encoded = [(name.encode(), value.encode()) for name, value in first.items()]
        self._http.send_headers(stream, encoded, end_stream=not body)
        if body:
            self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(future, SECONDS)


class Client:
    """A connection to a port of this host. Raises OSError when it is refused, or when a request fails."""

    def __init__(self, port: int, authority: Path, pair: tuple[Path, Path] | None = None) -> None:
        self._configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="localhost")
        self._configuration.load_verify_locations(str(authority))
        if pair is not None:
            self._configuration.load_cert_chain(*map(str, pair))
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._context: Any = None
        self._protocol: Any = None

    def __enter__(self) -> Client:
        try:
            self._context = connect(
                "127.0.0.1", self._port, configuration=self._configuration, create_protocol=_Protocol
            )
            self._protocol = self._run(self._context.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self._run(self._context.__aexit__(None, None, None))
        finally:
            self._end()

    def ask(
        self, path: str = "/healthz", body: object = None, key: str | None = None, method: str | None = None
    ) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if content else {}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        answer: Answer = self._run(self._protocol.ask(method or ("POST" if content else "GET"), path, headers, content))
        return answer

    @property
    def certificate(self) -> Any:
        """The server's certificate of this connection."""
        return self._protocol._quic.tls._peer_certificate

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        async def limited() -> Result:
            return await asyncio.wait_for(work, SECONDS)

        return asyncio.run_coroutine_threadsafe(limited(), self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def once(port: int, authority: Path, pair: tuple[Path, Path] | None = None) -> Callable[..., Answer]:
    """Ask on a connection of its own each time."""

    def ask(*arguments: Any, **options: Any) -> Answer:
        with Client(port, authority, pair) as client:
            return client.ask(*arguments, **options)

    return ask
