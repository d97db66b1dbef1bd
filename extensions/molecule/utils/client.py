"""A client of the gateways and of the providers under test, and a light load that counts what goes wrong."""

from __future__ import annotations

import http.client
import json
import select
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import scenario

CHAT = "/v1/chat/completions"
SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """`body` is the parsed JSON, or the text where it is none; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: Any


def chat(model: str, **knobs: Any) -> dict[str, Any]:
    """The body of a chat completion; `knobs` are those of the upstream server."""
    return {"model": model, "messages": [{"role": "user", "content": "Say something."}], **knobs}


class Connection:
    """One connection to the TLS listener of a gateway, as a careful client keeps it."""

    def __init__(self, host: str) -> None:
        context = ssl.create_default_context(cafile=str(scenario.CA_FILE))
        address = scenario.addresses()[host]
        self._http = http.client.HTTPSConnection(address, 443, timeout=SECONDS, context=context)

    def exchange(self, method: str, path: str, key: str | None, body: Any = None) -> Answer:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._http.request(method, path, data, headers)
        response = self._http.getresponse()
        text = response.read().decode(errors="replace")
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, _parsed(text))

    def closed_by_peer(self) -> bool:
        """Whether the other side has said goodbye, which a client may see before it sends the next request."""
        return self._http.sock is not None and bool(select.select([self._http.sock], [], [], 0)[0])

    def close(self) -> None:
        self._http.close()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def ask(host: str, key: str | None, body: Any, *, path: str = CHAT) -> Answer:
    """One POST to the gateway on `host`, on a connection of its own."""
    connection = Connection(host)
    try:
        return connection.exchange("POST", path, key, body)
    finally:
        connection.close()


def get(host: str, key: str | None, path: str) -> Answer:
    connection = Connection(host)
    try:
        return connection.exchange("GET", path, key)
    finally:
        connection.close()


class Upstream:
    """One of the two providers: `a` over TLS and `b`."""

    def __init__(self, name: str) -> None:
        address = scenario.addresses()["upstream1"]
        self._base = {"a": f"https://{address}:9443", "b": f"http://{address}:9080"}[name]
        self._context = ssl.create_default_context(cafile=str(scenario.CA_FILE)) if name == "a" else None

    def _call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data=data)
        with urllib.request.urlopen(request, timeout=SECONDS, context=self._context) as response:
            return _parsed(response.read().decode())

    def reset(self) -> None:
        self._call("/_reset", {})

    def answer_with(self, status: int | None) -> None:
        self._call("/_control", {"status": status})

    def seen(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("/_seen")
        return found


@dataclass
class Load:
    """Requests in the background while the block runs: kept connections, new ones, and streams of some seconds.

    About `rate` requests a second in all. `failures` holds whatever was not the answer that is due.
    """

    host: str
    key: str
    models: Sequence[str]
    rate: float = 40
    kept: int = 3
    new: int = 2
    streams: int = 2
    answered: int = 0
    streamed: int = 0
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        jobs: list[Callable[[], None]] = [
            *[self._kept] * self.kept,
            *[self._new] * self.new,
            *[self._stream] * self.streams,
        ]
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(0.5)
        self._stop.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def _pause(self) -> bool:
        return self._stop.wait((self.kept + self.new) / self.rate)

    def _kept(self) -> None:
        connection = Connection(self.host)
        turn = 0
        while not self._pause():
            if connection.closed_by_peer():
                connection.close()
            self._one(connection, "kept", turn)
            turn += 1
        connection.close()

    def _new(self) -> None:
        turn = 0
        while not self._pause():
            connection = Connection(self.host)
            self._one(connection, "new", turn)
            connection.close()
            turn += 1

    def _one(self, connection: Connection, kind: str, turn: int) -> None:
        model = self.models[turn % len(self.models)]
        try:
            answer = connection.exchange("POST", CHAT, self.key, chat(model))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._fail(f"{kind} {model}: {type(error).__name__} {error}")
            return
        if answer.status == 200:
            with self._lock:
                self.answered += 1
        else:
            self._fail(f"{kind} {model}: {answer.status} {answer.body}")

    def _stream(self) -> None:
        model = self.models[0]
        while not self._stop.is_set():
            connection = Connection(self.host)
            try:
                answer = connection.exchange("POST", CHAT, self.key, chat(model, stream=True, x_chunks=20, x_delay=0.1))
            except (OSError, http.client.HTTPException) as error:
                self._fail(f"stream {model}: {type(error).__name__} {error}")
            else:
                if answer.status == 200 and str(answer.body).rstrip().endswith("data: [DONE]"):
                    with self._lock:
                        self.streamed += 1
                else:
                    self._fail(f"stream {model}: {answer.status} {str(answer.body)[-200:]}")
            connection.close()

    def _fail(self, what: str) -> None:
        with self._lock:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {what}")
