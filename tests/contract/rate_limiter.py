"""A rate limit service that plays envoyproxy/ratelimit: it reads its configuration, and counts in fixed windows.

gRPC over HTTP/2 with as much of both as Envoy needs: every request is ShouldRateLimit, and headers are not looked at.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SECONDS = {"minute": 60, "day": 86400}
UNITS = {"minute": 2, "day": 4}
DATA, HEADERS, SETTINGS, PING, WINDOW = 0, 1, 4, 6, 8

Entries = tuple[tuple[str, str], ...]


@dataclass
class Limiter:
    """What is counted. `calls` are the descriptors that were asked for, with what they took."""

    config: Mapping[str, Any]
    calls: list[tuple[Entries, int]] = field(default_factory=list)
    silent: bool = False
    #: How far its clock is ahead, in seconds.
    ahead: float = 0
    used: Counter[tuple[Entries, int]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def used_of(self, *entries: tuple[str, str]) -> int:
        """What was taken in all windows so far."""
        with self.lock:
            return sum(used for (key, _window), used in self.used.items() if key == entries)

    def answer(self, request: bytes) -> bytes:
        domain = b"".join(value for number, value in fields(request) if number == 1).decode()
        found = [descriptor(value) for number, value in fields(request) if number == 2]
        with self.lock:
            statuses = [self._status(domain, entries, hits) for entries, hits in found]
        over = any(code == 2 for code, _message in statuses)
        return number_field(1, 2 if over else 1) + b"".join(bytes_field(2, message) for _code, message in statuses)

    def _status(self, domain: str, entries: Entries, hits: int) -> tuple[int, bytes]:
        self.calls.append((entries, hits))
        limit = self._limit(entries) if domain == self.config["domain"] else None
        if limit is None:
            return 1, number_field(1, 1)
        most, unit = limit["requests_per_unit"], limit["unit"]
        now = time.time() + self.ahead
        window = int(now // SECONDS[unit])
        self.used[entries, window] += hits
        used = self.used[entries, window]
        code = 2 if used > most else 1
        reset = int((window + 1) * SECONDS[unit] - now)
        message = number_field(1, code) + bytes_field(2, number_field(1, most) + number_field(2, UNITS[unit]))
        message += number_field(3, max(0, most - used)) + bytes_field(4, number_field(1, reset))
        return code, message

    def _limit(self, entries: Entries) -> Mapping[str, Any] | None:
        level: Any = self.config
        for key, value in entries:
            inner = [each for each in level.get("descriptors", ()) if (each["key"], each["value"]) == (key, value)]
            if not inner:
                return None
            (level,) = inner
        found: Mapping[str, Any] | None = level.get("rate_limit")
        return found


@contextmanager
def rate_limiter(config: Mapping[str, Any], tls: ssl.SSLContext | None = None) -> Iterator[tuple[Limiter, int]]:
    """A service and its port."""
    limiter = Limiter(config)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server, limiter, tls), daemon=True).start()
        yield limiter, server.getsockname()[1]
        # What is blocked in accept() would keep the port.
        server.shutdown(socket.SHUT_RDWR)


def accept(server: socket.socket, limiter: Limiter, tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            connection, _peer = server.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(connection, limiter, tls), daemon=True).start()


def serve(connection: socket.socket, limiter: Limiter, tls: ssl.SSLContext | None) -> None:
    try:
        with tls.wrap_socket(connection, server_side=True) if tls else connection as wrapped:
            speak(wrapped, limiter)
    except OSError:
        pass


def speak(connection: socket.socket, limiter: Limiter) -> None:
    stream = connection.makefile("rb")
    stream.read(24)
    connection.sendall(frame(SETTINGS, 0, 0, b""))
    bodies: dict[int, bytes] = {}
    while len(head := stream.read(9)) == 9:
        kind, flags, number = head[3], head[4], int.from_bytes(head[5:], "big")
        payload = stream.read(int.from_bytes(head[:3], "big"))
        if kind in (SETTINGS, PING) and not flags & 1:
            connection.sendall(frame(kind, 1, 0, payload if kind == PING else b""))
        if kind != DATA:
            continue
        bodies[number] = bodies.get(number, b"") + payload
        if payload:
            connection.sendall(frame(WINDOW, 0, 0, struct.pack(">I", len(payload))))
        if flags & 1:
            body = bodies.pop(number)
            if not limiter.silent:
                connection.sendall(reply(number, limiter.answer(body[5:])))


def reply(stream: int, message: bytes) -> bytes:
    head = b"\x88" + literal("content-type", "application/grpc")
    data = b"\0" + struct.pack(">I", len(message)) + message
    return (
        frame(HEADERS, 4, stream, head)
        + frame(DATA, 0, stream, data)
        + frame(HEADERS, 5, stream, literal("grpc-status", "0"))
    )


def literal(name: str, value: str) -> bytes:
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# ---- protobuf


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key & 7 == 2:
            yield key >> 3, data[at : at + value]
            at += value
        else:
            yield key >> 3, value


def descriptor(data: bytes) -> tuple[Entries, int]:
    entries, hits = [], 1
    for number, value in fields(data):
        if number == 1:
            entry = dict(fields(value))
            entries.append((entry.get(1, b"").decode(), entry.get(2, b"").decode()))
        elif number == 3:
            # A wrapped number, of which none is zero.
            hits = dict(fields(value)).get(1, 0)
    return tuple(entries), hits
