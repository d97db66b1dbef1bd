"""A collector of OpenTelemetry for tests: takes OTLP over HTTP (binary protobuf) and says what came.

The few messages that the gateway sends are written down here by the numbers of their fields, see
https://github.com/open-telemetry/opentelemetry-proto.
"""

from __future__ import annotations

import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WAIT_SECONDS = 15.0

Message = dict[int, list[Any]]


def parsed(data: bytes) -> Message:
    """The fields of a message, by their numbers; nested messages stay bytes."""
    found: Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        value: Any
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 1:
            value, at = data[at : at + 8], at + 8
        elif kind == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            assert kind == 5, kind
            value, at = data[at : at + 4], at + 4
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _value(data: bytes) -> Any:
    fields = parsed(data)
    if 1 in fields:
        return fields[1][0].decode()
    if 2 in fields:
        return bool(fields[2][0])
    if 3 in fields:
        return fields[3][0]
    return struct.unpack("<d", fields[4][0])[0] if 4 in fields else None


def _attributes(items: list[bytes]) -> dict[str, Any]:
    pairs = [parsed(item) for item in items]
    return {pair[1][0].decode(): _value(pair[2][0]) if 2 in pair else None for pair in pairs}


def _time(fields: Message, number: int) -> int:
    return int(struct.unpack("<Q", fields[number][0])[0])


def spans_of(data: bytes) -> Iterator[dict[str, Any]]:
    """The spans of an ExportTraceServiceRequest."""
    for resource, span in _records(data):
        yield {
            "resource": resource,
            "trace_id": span[1][0].hex(),
            "parent": span.get(4, [b""])[0].hex(),
            "name": span[5][0].decode(),
            "kind": {2: "server", 3: "client"}.get(span[6][0], span[6][0]),
            "seconds": (_time(span, 8) - _time(span, 7)) / 1e9,
            "attributes": _attributes(span.get(9, [])),
            "status": parsed(span[15][0]).get(3, [0])[0] if 15 in span else 0,
        }


def logs_of(data: bytes) -> Iterator[dict[str, Any]]:
    """The records of an ExportLogsServiceRequest."""
    for resource, record in _records(data):
        yield {
            "resource": resource,
            "time": _time(record, 1),
            "body": _value(record[5][0]) if 5 in record else None,
            "attributes": _attributes(record.get(6, [])),
            "trace_id": record.get(9, [b""])[0].hex(),
        }


def _records(data: bytes) -> Iterator[tuple[dict[str, Any], Message]]:
    """Spans and records are at the same place of their requests: resource, scope, record."""
    for resource_part in map(parsed, parsed(data).get(1, [])):
        resource = _attributes(parsed(resource_part[1][0]).get(1, [])) if 1 in resource_part else {}
        for scope_part in map(parsed, resource_part.get(2, [])):
            for record in scope_part.get(2, []):
                yield resource, parsed(record)


class Collector:
    """What came: the requests as (path, headers), the spans and the records of logs."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.spans: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.bytes = b""
        #: Seconds that each answer takes.
        self.delay = 0.0
        self.status = 200

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.requests.append((path, headers))
        self.bytes += body
        if path.endswith("/v1/traces"):
            self.spans += spans_of(body)
        else:
            self.logs += logs_of(body)

    def reset(self) -> None:
        self.requests.clear()
        self.spans.clear()
        self.logs.clear()
        self.bytes = b""

    def span(self, request_id: str | None) -> dict[str, Any]:
        """The span of a request, which comes some seconds after it."""
        return self._of("spans", lambda span: span["attributes"].get("request_id") == request_id)

    def log(self, request_id: str | None) -> dict[str, Any]:
        """The record about a request."""
        return self._of("logs", lambda record: record["attributes"].get("request_id") == request_id)

    def _of(self, what: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            found: list[dict[str, Any]] = [each for each in getattr(self, what) if fits(each)]
            if found:
                (one,) = found
                return one
            time.sleep(0.1)
        raise AssertionError(f"nothing came; {what}: {getattr(self, what)}, {self.requests}")


@contextmanager
def collector(certificate: tuple[Path, Path] | None = None, port: int = 0) -> Iterator[Collector]:
    """A collector on a free port of loopback, over TLS with `certificate` and its key."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = b"".join(iter(self._chunk, b""))
            headers = {name.lower(): value for name, value in self.headers.items()}
            running.take(self.path, headers, body)
            time.sleep(running.delay)
            self.send_response(running.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def _chunk(self) -> bytes:
            data = self.rfile.read(int(self.rfile.readline(), 16))
            self.rfile.readline()
            return data

        def log_message(self, *_args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    running = Collector(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
