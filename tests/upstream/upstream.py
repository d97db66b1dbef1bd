"""An OpenAI-like server for tests and the demo. Standard library only, Python 3.9 or newer.

    python3 upstream.py --port 0 --name eu --api-key sk-test

prints `PORT n` as its first line once it listens, and serves until SIGTERM or SIGINT.

Endpoints (any path prefix before them, so /v1/... and /team/v1/... are alike):
    POST .../chat/completions, .../completions, .../responses      JSON, or server-sent events with "stream": true
    POST .../embeddings
    POST .../audio/transcriptions, .../audio/translations, .../images/edits, .../images/variations      forms
    POST .../images/generations, .../audio/speech
    GET  .../models
    POST, GET .../files, GET, DELETE .../files/<id>, GET .../files/<id>/content      kept until the server ends
    POST, GET .../batches, GET .../batches/<id>, POST .../batches/<id>/cancel
    the same under /openai/deployments/<deployment>/...?api-version=..., where the deployment is the model; but for
    responses, which Azure does not have there

A chat completion calls the first of its `tools` with "tool_choice": "required", and is {"answer": TEXT} in JSON where
the `response_format` is a JSON schema.

Every answer has the header `x-upstream-name: NAME`; its `model` is the model that was asked for, and its
`system_fingerprint` is NAME. With --api-key a request needs one of the keys, as `Authorization: Bearer` or `api-key`.

One request is steered by fields of its body (or by headers: x-delay for x_delay):
    x_chunks            pieces of the answer; the text is then "0 1 2 ...", and each piece counts as one token
    x_delay             seconds before each piece after the first (a plain JSON answer waits for their sum)
    x_first_byte_delay  seconds before the status line
    x_status            answer with this status and an OpenAI-shaped error
    x_content_type      the content type of the answer
    x_raw               the answer itself, whatever it is; x_delay is then between its pieces
    x_split             bytes of a piece of the answer: each is sent by itself, x_delay after the one before
or by the name of the model:
    fail-<status>       answer with that status (fail-429, fail-500, ...)
    fail-reset          reset the connection instead of answering
    fail-midstream      reset the connection after half of the pieces of a stream
    slow-first-byte     an x_first_byte_delay of 5 seconds where none is given

All requests are steered, and looked at, by these, which need no key:
    POST /_control {"status": 429 | null, "delay": 0.1, "first_byte_delay": 2}   keys left out stay as they are;
                    "retry_after": "2" is the header of failures, "times": 1 how many requests the status is for
    GET  /_seen     the last 1000 requests, oldest first:
                    [{method, path, headers, model, body, time, status, complete}]; names of headers in lower case,
                    body null beyond 64 KiB, time in seconds since the epoch, status null and complete false while
                    the answer is not finished, or when it was cut off
    POST /_reset    forgets requests and behaviour
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import re
import signal
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MAX_BODY = 64 * 1024 * 1024
SEEN_BODY = 64 * 1024
KNOWN_MODELS = ("gpt-5", "gpt-5-mini", "text-embedding-3-small")
SLOW_FIRST_BYTE = 5.0
CREATED = 1735689600


class ResetWantedError(Exception):
    """The request asked for its connection to be reset."""


class CloseWantedError(Exception):
    """The request asked for its connection to be closed, whatever was said before."""


class BadRequestError(Exception):
    """What was read is not an HTTP/1.1 request that this server understands."""


class FailureError(Exception):
    """An answer in OpenAI's error shape."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "upstream_error", "param": None, "code": code}}


class Request:
    """One parsed request, and what it says about how it wants to be answered."""

    def __init__(self, method: str, target: str, headers: dict[str, str], raw: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.raw = raw
        parts = urlsplit(target)
        self.path = parts.path
        self.query = parse_qs(parts.query)
        self.body = self._json()
        self.form = self._form()
        self.deployment = self._deployment()
        named = self.form.get("model", (None, b""))[1].decode() or self._text("model")
        self.model: str | None = self.deployment or named

    def _json(self) -> dict[str, Any]:
        try:
            body = json.loads(self.raw) if self.raw else {}
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    def _form(self) -> dict[str, tuple[str | None, bytes]]:
        """The parts of a form by their names: the name of the file, if it is one, and the content."""
        kind, _separator, boundary = self.headers.get("content-type", "").partition("; boundary=")
        if kind != "multipart/form-data":
            return {}
        parts = {}
        for part in (b"\r\n" + self.raw).split(b"\r\n--" + boundary.strip('"').encode())[1:-1]:
            head, _blank, content = part.partition(b"\r\n\r\n")
            named = dict(re.findall(r'; (name|filename)="([^"]*)"', head.decode("utf-8", "replace")))
            parts[named.get("name", "")] = (named.get("filename"), content)
        return parts

    def _text(self, name: str) -> str | None:
        value = self.body.get(name)
        return value if isinstance(value, str) else None

    def _deployment(self) -> str | None:
        _separator, found, after = self.path.partition("/openai/deployments/")
        return unquote(after.split("/", 1)[0]) if found else None

    def text(self, name: str) -> str | None:
        """The text that the field of this name holds, if any."""
        return self._text(name)

    def knob(self, name: str) -> float | None:
        """The number that the field or header of this name holds, if any."""
        value = self.body.get(name, self.headers.get(name.replace("_", "-")))
        try:
            return None if value is None or isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            return None

    def key(self) -> str:
        scheme, _separator, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else self.headers.get("api-key", "")


class Upstream:
    """The behaviour of one server, shared by its connections."""

    def __init__(self, name: str, keys: Iterable[str]) -> None:
        self.name = name
        self.keys = frozenset(keys)
        self.seen: deque[dict[str, Any]] = deque(maxlen=1000)
        self.answered = 0
        self.store = Store()
        self.reset()

    def reset(self) -> None:
        self.seen.clear()
        self.behaviour: dict[str, Any] = {
            "status": None,
            "delay": 0.0,
            "first_byte_delay": 0.0,
            "retry_after": None,
            "times": None,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until either side has enough."""
        try:
            while True:
                request = await read_request(reader, writer)
                if request is None:
                    break
                await self._answer(request, writer)
                if request.headers.get("connection", "").lower() == "close":
                    break
        except BadRequestError as error:
            with contextlib.suppress(OSError):
                send_json(writer, 400, {"error": {"message": str(error)}}, {"connection": "close"})
                await writer.drain()
        except ResetWantedError:
            linger_off(writer)
            writer.transport.abort()
        except CloseWantedError:
            pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # The client left.
        except asyncio.CancelledError:
            pass  # The server stops; raised on, asyncio would report it as a failure of this connection.
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if self._control(request, writer):
            await writer.drain()
            return
        record = {
            "method": request.method,
            "path": request.target,
            "headers": request.headers,
            "model": request.model,
            "body": request.raw.decode("utf-8", "replace") if len(request.raw) <= SEEN_BODY else None,
            "time": time.time(),
            "status": None,
            "complete": False,
        }
        self.seen.append(record)
        self.answered += 1
        status = 200
        try:
            await self._dispatch(request, writer)
        except FailureError as failure:
            status = failure.status
            extra = {"retry-after": "1"} if status == 429 else {}
            if self.behaviour["retry_after"] is not None:
                extra = {"retry-after": str(self.behaviour["retry_after"]), "retry-after-ms": "1234"}
            send_json(writer, status, failure.body, {**self._headers(), **extra})
        await writer.drain()
        record["status"] = status
        record["complete"] = not writer.transport.is_closing()

    def _control(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer /_control, /_seen and /_reset; False for everything else."""
        wanted = (request.method, request.path)
        if wanted == ("GET", "/_seen"):
            send_json(writer, 200, list(self.seen))
        elif wanted == ("POST", "/_reset"):
            self.reset()
            send_json(writer, 200, self.behaviour)
        elif wanted == ("POST", "/_control"):
            self.behaviour.update((k, v) for k, v in request.body.items() if k in self.behaviour)
            send_json(writer, 200, self.behaviour)
        else:
            return False
        return True

    def _ordered(self) -> int | None:
        """The status that /_control wants, as many times as it wants it."""
        left = self.behaviour["times"]
        if left is not None:
            self.behaviour["times"] = max(0, left - 1)
        wanted: int | None = self.behaviour["status"] if left != 0 else None
        return wanted

    def _headers(self) -> dict[str, str]:
        return {"x-upstream-name": self.name, "x-request-id": f"req-{self.name}-{self.answered}"}

    async def _dispatch(self, request: Request, writer: asyncio.StreamWriter) -> None:
        ordered = self._ordered()
        model = request.model or ""
        slow = SLOW_FIRST_BYTE if model == "slow-first-byte" else self.behaviour["first_byte_delay"] or 0.0
        wait = request.knob("x_first_byte_delay")
        await asyncio.sleep(slow if wait is None else wait)
        if self.keys and request.key() not in self.keys:
            raise FailureError(401, "Incorrect API key provided.", "invalid_api_key")
        status = ordered or request.knob("x_status")
        if model.startswith("fail-") and model[5:].isdigit():
            status = int(model[5:])
        if status:
            raise FailureError(int(status), f"This upstream was told to answer {int(status)}.", "told_to_fail")
        if model == "fail-reset":
            raise ResetWantedError
        if request.deployment is not None and "api-version" not in request.query:
            raise FailureError(404, "Resource not found: the api-version query parameter is required.", "404")
        if request.method == "GET" and request.path.rstrip("/").endswith("/models"):
            listed = [{"id": m, "object": "model", "created": CREATED, "owned_by": self.name} for m in KNOWN_MODELS]
            send_json(writer, 200, {"object": "list", "data": listed}, self._headers())
            return
        stored = self.store.answer(request)
        if stored is not None:
            body, content_type = stored
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            fixed = {"content-type": content_type, "content-length": str(len(content))}
            send_head(writer, 200, {**fixed, **self._headers()})
            writer.write(content)
            return
        kind = next((k for k in SHAPES if request.path.endswith("/" + k)), None)
        if kind is None or request.method != "POST":
            raise FailureError(404, f"Unknown request: {request.method} {request.path}", "unknown_url")
        if kind == "responses" and request.deployment is not None:
            raise FailureError(404, "Resource not found", "404")
        if not request.model:
            raise FailureError(400, "you must provide a model parameter", "model_not_given")
        if kind == "audio/speech":
            sound = f"Sound of {request.text('input')} by {request.model}".encode()
            fixed = {"content-type": "audio/mpeg", "content-length": str(len(sound))}
            send_head(writer, 200, {**fixed, **self._headers()})
            writer.write(sound)
            return
        await self._complete(SHAPES[kind](self.name, request), request, writer)

    async def _complete(self, shape: Shape, request: Request, writer: asyncio.StreamWriter) -> None:
        delay = request.knob("x_delay")
        pause = (self.behaviour["delay"] or 0.0) if delay is None else delay
        split = int(request.knob("x_split") or 0)
        stream = bool(request.body.get("stream")) and shape.streams
        kind = request.text("x_content_type") or ("text/event-stream" if stream else "application/json")
        headers = {"content-type": kind, **self._headers()}
        raw = request.text("x_raw")
        if raw is None and not stream and not split:
            await asyncio.sleep(pause * max(0, len(shape.pieces) - 1))
            send_json(writer, 200, shape.whole(), headers)
            return
        send_head(writer, 200, {**headers, "transfer-encoding": "chunked"})
        if raw is not None or split:
            text = raw.encode() if raw is not None else shape.everything(stream=stream)
            size = split or len(text) or 1
            for start in range(0, len(text), size):
                if start:
                    await asyncio.sleep(pause)
                await send_chunk(writer, text[start : start + size])
        else:
            await send_chunk(writer, shape.opening())
            for index, piece in enumerate(shape.pieces):
                if index:
                    await asyncio.sleep(pause)
                if request.model == "fail-midstream" and index * 2 >= len(shape.pieces):
                    raise ResetWantedError
                await send_chunk(writer, shape.event(piece))
            await send_chunk(writer, shape.closing())
        writer.write(b"0\r\n\r\n")


class Shape:
    """One kind of answer, as a whole and as events. This one is a chat completion; the others differ from it."""

    streams = True
    object_name = "chat.completion"
    id_prefix = "chatcmpl"
    nothing: Mapping[str, Any] = {"delta": {}}

    def __init__(self, name: str, request: Request) -> None:
        self.name = name
        self.request = request
        chunks = request.knob("x_chunks")
        text = f"This is {name} answering for {request.model}."
        wanted = request.body.get("response_format")
        if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
            text = json.dumps({"answer": text})
        words = text.split(" ")
        self.pieces = words if chunks is None else [str(n) for n in range(int(chunks))]
        self.pieces = [piece if n == 0 else " " + piece for n, piece in enumerate(self.pieces)]

    def prompt_tokens(self) -> int:
        """Words of the prompt: enough like tokens for a test to add up."""
        body = self.request.body
        prompt = body.get("messages", body.get("input", body.get("prompt", "")))
        return len(json.dumps(prompt, ensure_ascii=False).split())

    def usage(self) -> dict[str, Any]:
        prompt, completion = self.prompt_tokens(), len(self.pieces)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": prompt // 2, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": completion // 2, "audio_tokens": 0},
        }

    def frame(self, **fields: Any) -> dict[str, Any]:
        return {
            "id": f"{self.id_prefix}-{self.name}",
            "object": self.object_name,
            "created": CREATED,
            "model": self.request.model,
            "system_fingerprint": self.name,
            **fields,
        }

    def choice(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}

    def delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}}

    def whole(self) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **self.choice("".join(self.pieces))}
        if self.request.body.get("tool_choice") == "required":
            function = {"name": self.request.body["tools"][0]["function"]["name"], "arguments": "{}"}
            call = {"id": "call_1", "type": "function", "function": function}
            choice["finish_reason"] = "tool_calls"
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
        return self.frame(choices=[choice], usage=self.usage())

    def everything(self, *, stream: bool) -> bytes:
        """The whole answer as it goes over the wire."""
        if not stream:
            return json.dumps(self.whole()).encode()
        return b"".join([self.opening(), *map(self.event, self.pieces), self.closing()])

    def _wants_usage(self) -> bool:
        options = self.request.body.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    def _chunk(self, choice: Mapping[str, Any], finish: str | None = None) -> bytes:
        frame = self.frame(choices=[{"index": 0, "finish_reason": finish, "logprobs": None, **choice}])
        if self.object_name == "chat.completion":
            frame["object"] = "chat.completion.chunk"
        if self._wants_usage():
            frame["usage"] = None
        return sse(frame)

    def opening(self) -> bytes:
        return self._chunk({"delta": {"role": "assistant", "content": ""}})

    def event(self, piece: str) -> bytes:
        return self._chunk(self.delta(piece))

    def closing(self) -> bytes:
        last = self._chunk(self.nothing, "stop")
        usage = b""
        if self._wants_usage():
            usage = sse(self.frame(object="chat.completion.chunk", choices=[], usage=self.usage()))
        return last + usage + b"data: [DONE]\n\n"


class Completion(Shape):
    object_name = "text_completion"
    id_prefix = "cmpl"
    nothing: Mapping[str, Any] = {"text": ""}

    def choice(self, text: str) -> dict[str, Any]:
        return {"text": text}

    delta = choice

    def opening(self) -> bytes:
        return b": the answer begins\n\n"


class Embedding(Shape):
    streams = False

    def whole(self) -> dict[str, Any]:
        given = self.request.body.get("input", "")
        inputs = given if isinstance(given, list) else [given]
        data: list[dict[str, Any]] = []
        for index, text in enumerate(inputs):
            vector: Any = [1.0, 0.5, float(index), float(len(str(text)))]
            if self.request.body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack("<4f", *vector)).decode("ascii")
            data.append({"object": "embedding", "index": index, "embedding": vector})
        prompt = self.prompt_tokens()
        return self.frame(object="list", data=data, usage={"prompt_tokens": prompt, "total_tokens": prompt})


class Responses(Shape):
    object_name = "response"
    id_prefix = "resp"

    def usage(self) -> dict[str, Any]:
        counted = super().usage()
        return {
            "input_tokens": counted["prompt_tokens"],
            "input_tokens_details": counted["prompt_tokens_details"],
            "output_tokens": counted["completion_tokens"],
            "output_tokens_details": counted["completion_tokens_details"],
            "total_tokens": counted["total_tokens"],
        }

    def _response(self, *, status: str, text: str | None, usage: dict[str, Any] | None) -> dict[str, Any]:
        output: list[dict[str, Any]] = []
        if text is not None:
            content = [{"type": "output_text", "text": text, "annotations": []}]
            output = [{"type": "message", "id": "msg-1", "status": status, "role": "assistant", "content": content}]
        fixed: dict[str, Any] = {"created_at": CREATED, "error": None, "parallel_tool_calls": True, "tools": []}
        return self.frame(status=status, output=output, usage=usage, **fixed)

    def whole(self) -> dict[str, Any]:
        return self._response(status="completed", text="".join(self.pieces), usage=self.usage())

    def opening(self) -> bytes:
        self.number = 0
        response = self._response(status="in_progress", text=None, usage=None)
        return sse({"type": "response.created", "sequence_number": 0, "response": response}, "response.created")

    def event(self, piece: str) -> bytes:
        kind = "response.output_text.delta"
        self.number += 1
        place = {"item_id": "msg-1", "output_index": 0, "content_index": 0, "logprobs": []}
        return sse({"type": kind, "sequence_number": self.number, "delta": piece, **place}, kind)

    def closing(self) -> bytes:
        done = {"type": "response.completed", "sequence_number": self.number + 1, "response": self.whole()}
        return sse(done, "response.completed")


class Transcription(Shape):
    streams = False

    def whole(self) -> dict[str, Any]:
        name, content = self.request.form.get("file", (None, b""))
        usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 5, "total_tokens": 19}
        return {"text": f"{name} of {len(content)} bytes for {self.request.model}", "usage": usage}


class Picture(Shape):
    streams = False

    def whole(self) -> dict[str, Any]:
        name, content = self.request.form.get("image", (None, b""))
        picture = base64.b64encode(f"{name} of {len(content)} bytes for {self.request.model}".encode()).decode()
        return {"created": CREATED, "data": [{"b64_json": picture}]}


class Store:
    """Files and batches of one account."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.batches: dict[str, dict[str, Any]] = {}

    def answer(self, request: Request) -> tuple[Any, str] | None:
        """The answer, as JSON or as bytes, and its content type; None when the request is for something else."""
        match = re.search(r"/(?:v1|openai)/(files|batches)(?:/([^/]+))?(?:/(content|cancel))?$", request.path)
        if match is None:
            return None
        kind, found, verb = match.groups()
        known: dict[str, Any] = self.files if kind == "files" else self.batches
        if found is not None and found not in known:
            raise FailureError(404, f"No such {kind} object: {found}", "not_found")
        if found is None and request.method == "GET":
            things = [each[0] if kind == "files" else each for each in known.values()]
            return {"object": "list", "data": things, "has_more": False}, "application/json"
        if found is None:
            return self._add_file(request) if kind == "files" else self._add_batch(request), "application/json"
        if verb == "content":
            return self.files[found][1], "application/octet-stream"
        if verb == "cancel":
            self.batches[found]["status"] = "cancelling"
        if request.method == "DELETE":
            del known[found]
            return {"id": found, "object": "file", "deleted": True}, "application/json"
        return self.files[found][0] if kind == "files" else self.batches[found], "application/json"

    def _add_file(self, request: Request) -> dict[str, Any]:
        if "file" not in request.form:
            raise FailureError(400, "'file' is a required property", "invalid_request")
        name, content = request.form["file"]
        file: dict[str, Any] = {
            "id": f"file-{len(self.files) + 1}",
            "object": "file",
            "bytes": len(content),
            "created_at": CREATED,
            "filename": name,
            "purpose": request.form["purpose"][1].decode(),
            "status": "processed",
        }
        self.files[file["id"]] = (file, content)
        return file

    def _add_batch(self, request: Request) -> dict[str, Any]:
        batch = {**request.body, "id": f"batch_{len(self.batches) + 1}", "object": "batch", "status": "validating"}
        self.batches[batch["id"]] = {**batch, "created_at": CREATED}
        return self.batches[batch["id"]]


# Looked up by the end of the path, so the longer name goes first.
SHAPES: dict[str, type[Shape]] = {
    "chat/completions": Shape,
    "completions": Completion,
    "embeddings": Embedding,
    "responses": Responses,
    "audio/transcriptions": Transcription,
    "audio/translations": Transcription,
    "audio/speech": Shape,
    "images/generations": Picture,
    "images/edits": Picture,
    "images/variations": Picture,
}


def sse(data: dict[str, Any], event: str | None = None) -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request of a connection; None once the client has closed it. Raises BadRequestError."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequestError("the connection ended within the headers") from None
        return None
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, _other = lines[0].split(" ")
    except ValueError:
        raise BadRequestError("not a request line") from None
    headers = {}
    for line in lines[1:]:
        if line:
            name, _separator, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        raw = await read_chunked(reader)
    else:
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            raise BadRequestError("a content-length that is no number, or too large")
        raw = await reader.readexactly(int(length))
    return Request(method, target, headers, raw)


async def read_chunked(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        try:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        except ValueError:
            raise BadRequestError("not a chunk size") from None
        if size < 0 or len(body) + size > MAX_BODY:
            raise BadRequestError("a body that is too large")
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass  # Trailers.
            return bytes(body)
        body += await reader.readexactly(size)
        await reader.readexactly(2)


def send_head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Status"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


def send_json(writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
    content = json.dumps(body).encode()
    fixed = {"content-type": "application/json", "content-length": str(len(content))}
    send_head(writer, status, {**fixed, **(headers or {})})
    writer.write(content)


async def send_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


def linger_off(writer: asyncio.StreamWriter) -> None:
    """Make the coming close a TCP reset."""
    found: socket.socket | None = writer.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def run(options: argparse.Namespace, kind: type[Upstream]) -> None:
    tls = None
    if options.tls_cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls_cert, options.tls_key)
    upstream = kind(options.name, options.api_key)
    server = await asyncio.start_server(
        upstream.serve, options.address, options.port, ssl=tls, backlog=1024, limit=256 * 1024
    )
    bound: tuple[Any, ...] = server.sockets[0].getsockname()
    print(f"PORT {bound[1]}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    # The connections go with the process: waiting for them would wait for keep-alive.
    server.close()


def main(kind: type[Upstream] = Upstream) -> None:
    """Run a server of this kind by the arguments of the command line."""
    summary, _separator, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True, help="0 for a free one")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--name", default="upstream", help="how this server names itself in its answers")
    parser.add_argument("--api-key", action="append", default=[], help="a key to admit; can be given again")
    parser.add_argument("--api-key-file", action="append", default=[], type=Path, help="a file whose first line is one")
    parser.add_argument("--tls-cert", help="serve HTTPS with this certificate chain (PEM)")
    parser.add_argument("--tls-key", help="its private key, if it is not in the same file")
    options = parser.parse_args()
    for path in options.api_key_file:
        options.api_key.append(path.read_text().splitlines()[0].strip())
    asyncio.run(run(options, kind))


if __name__ == "__main__":
    main()
