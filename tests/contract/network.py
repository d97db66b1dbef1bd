"""What stands between a gateway and its providers, for tests: a server's TLS, and a forward proxy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Relay(ABC):
    """A server on loopback, in a thread of its own, that passes bytes on. Use it as a context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Any:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @abstractmethod
    async def target(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
        """Return the local port that a connection is passed on to; None ends it."""

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            port = await self.target(reader, writer)
            if port is None:
                return
            there, back = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(back):
                ways = [asyncio.ensure_future(_pump(reader, back)), asyncio.ensure_future(_pump(there, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@dataclass(frozen=True)
class Handshake:
    """What a client said of itself: the name that it asked for, and the common name of its certificate."""

    server_name: str | None
    client: str | None


class TlsFront(Relay):
    """TLS before the plain server at `port`; with `client_ca` clients need a certificate. `seen` are the handshakes."""

    def __init__(self, server: int, certificate: tuple[Path, Path], client_ca: Path | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        context.sni_callback = self._named
        super().__init__(context)
        self._to = server
        self._names: dict[ssl.SSLObject | ssl.SSLSocket, str | None] = {}
        self.seen: list[Handshake] = []

    def _named(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self._names[connection] = name

    async def target(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        subject = dict(part[0] for part in (writer.get_extra_info("peercert") or {}).get("subject", ()))
        name = self._names.get(writer.get_extra_info("ssl_object"))
        self.seen.append(Handshake(name, subject.get("commonName")))
        return self._to


class ForwardProxy(Relay):
    """A proxy that knows CONNECT, and finds each of `places` ("host:port") at a local port. `seen` are its requests."""

    def __init__(self, places: dict[str, int], *, refuse: bool = False) -> None:
        super().__init__()
        self._places = places
        self.refuse = refuse
        self.seen: list[str] = []

    async def target(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.seen.append(head)
        method, place, _version = head.split("\r\n")[0].split(" ")
        port = self._places.get(place) if method == "CONNECT" and not self.refuse else None
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if port else b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        return port
