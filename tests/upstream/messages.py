"""A server that speaks Anthropic's Messages API, for tests: as strict with requests as the real one, as documented.

    python3 messages.py --port 0 --name claude --api-key sk-claude

It is run and looked at as upstream.py, whose HTTP and controls (/_control, /_seen, /_reset) it has:

    POST .../messages      JSON, or server-sent events with "stream": true

A request is steered by lines of its last message:
    error TYPE      answer with this error (overloaded_error, rate_limit_error, ...) and its status
    midstream TYPE  send this error as an event in the midst of a stream
    cut             end a stream without its end
    stop REASON     the reason why the answer ends
    text TEXT       the answer; a JSON string
    body TEXT       the whole answer, whatever it is; a JSON string
    split N         the answer in pieces of so many bytes
    crlf, cr        lines of a stream end so
    kind TYPE       the content type of the answer
    repeat N        how often the text comes
    thinking        thoughts before the text
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

# In place of this folder, where `upstream` would be the module.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from upstream import upstream  # noqa: E402

# https://docs.claude.com/en/api/errors
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# What a request may have; the names of the types are Python's.
PARAMETERS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "messages": (list,),
    "max_tokens": (int,),
    "system": (str, list),
    "metadata": (dict,),
    "stop_sequences": (list,),
    "stream": (bool,),
    "temperature": (int, float),
    "top_p": (int, float),
}


class MessageError(Exception):
    """An answer in Anthropic's error shape."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = STATUSES[kind]
        self.body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CSHoEeqs5"}


def invalid(message: str) -> MessageError:
    return MessageError("invalid_request_error", message)


def check(body: dict[str, Any]) -> None:
    """Raise what the API answers to a request that it does not take."""
    for name in ("model", "messages", "max_tokens"):
        if name not in body:
            raise invalid(f"{name}: Field required")
    for name, value in body.items():
        if name not in PARAMETERS:
            raise invalid(f"{name}: Extra inputs are not permitted")
        if not isinstance(value, PARAMETERS[name]) or (isinstance(value, bool) and name != "stream"):
            raise invalid(f"{name}: Input should be a valid {PARAMETERS[name][0].__name__}")
    if body["max_tokens"] < 1:
        raise invalid("max_tokens: must be greater than or equal to 1")
    for name in ("temperature", "top_p"):
        if not 0 <= body.get(name, 0) <= 1:
            raise invalid(f"{name}: range: 0..1")
    if any(not isinstance(stop, str) or not stop.strip() for stop in body.get("stop_sequences", [])):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    if not isinstance(body.get("metadata", {}).get("user_id", ""), str) or set(body.get("metadata", {})) - {"user_id"}:
        raise invalid("metadata: Extra inputs are not permitted")
    check_blocks("system", body.get("system", "-"))
    if not body["messages"]:
        raise invalid("messages: at least one message is required")
    for index, message in enumerate(body["messages"]):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise invalid(f"messages.{index}: Extra inputs are not permitted")
        if message["role"] not in ("user", "assistant"):
            raise invalid(f'messages: Unexpected role "{message["role"]}"')
        check_blocks(f"messages.{index}.content", message["content"])
    if body["messages"][0]["role"] != "user":
        raise invalid('messages: first message must use the "user" role')
    if body["messages"][-1]["role"] != "user":
        raise invalid("This model does not support assistant message prefill.")


def check_blocks(place: str, content: Any) -> None:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise invalid(f"{place}: Input should be a valid list")
    for block in content:
        if not isinstance(block, dict) or set(block) != {"type", "text"} or block["type"] != "text":
            raise invalid(f"{place}: Input tag does not match any of the expected tags: 'text'")
        if not isinstance(block["text"], str) or not block["text"]:
            raise invalid(f"{place}: text content blocks must be non-empty")


def texts(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


class Answer:
    """One answer, as a whole and as events."""

    def __init__(self, name: str, body: dict[str, Any], steering: dict[str, str]) -> None:
        self.steering = steering
        text = json.loads(steering["text"]) if "text" in steering else f"This is {name} answering for {body['model']}."
        self.text = text * int(steering.get("repeat", "1"))
        self.stop = steering.get("stop", "end_turn")
        self.model = body["model"]
        self.usage = {
            "input_tokens": sum(len(texts(message["content"]).split()) for message in body["messages"]),
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 5,
            "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0},
            "output_tokens": len(self.text.split(" ")),
            "service_tier": "standard",
        }

    def message(self, **fields: Any) -> dict[str, Any]:
        whole = {
            "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [{"type": "text", "text": self.text}],
            "stop_reason": self.stop,
            "stop_sequence": "x" if self.stop == "stop_sequence" else None,
            "usage": self.usage,
        }
        if "thinking" in self.steering:
            whole["content"] = [{"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}, *whole["content"]]
        return {**whole, **fields}

    def events(self) -> list[dict[str, Any]]:
        started = {**self.usage, "output_tokens": 1}
        block: dict[str, Any] = {"type": "content_block_delta", "index": 0}
        found: list[dict[str, Any]] = [
            {
                "type": "message_start",
                "message": self.message(content=[], stop_reason=None, stop_sequence=None, usage=started),
            }
        ]
        if "thinking" in self.steering:
            found += [
                {
                    "type": "content_block_start",
                    "index": 0,
                    "content_block": {"type": "thinking", "thinking": "", "signature": ""},
                },
                {**block, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
                {**block, "delta": {"type": "signature_delta", "signature": "EqQB"}},
                {"type": "content_block_stop", "index": 0},
            ]
        found += [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
        ]
        pieces = [piece for piece in self.text.split(" ") if piece] or [""]
        for index, piece in enumerate(pieces):
            if index * 2 >= len(pieces) and "midstream" in self.steering:
                kind = self.steering["midstream"]
                return [*found, {"type": "error", "error": {"type": kind, "message": "Told to fail"}}]
            if index * 2 >= len(pieces) and "cut" in self.steering:
                return found
            found.append({**block, "delta": {"type": "text_delta", "text": f" {piece}" if index else piece}})
        return [
            *found,
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": self.stop, "stop_sequence": None},
                "usage": {"output_tokens": self.usage["output_tokens"]},
            },
            {"type": "message_stop"},
        ]

    def whole(self, *, stream: bool) -> bytes:
        if "body" in self.steering:
            return str(json.loads(self.steering["body"])).encode()
        if not stream:
            return json.dumps(self.message(), ensure_ascii=False).encode()
        text = "".join(
            f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in self.events()
        )
        end = "\r\n" if "crlf" in self.steering else "\r" if "cr" in self.steering else "\n"
        return text.replace("\n", end).encode()


class Messages(upstream.Upstream):
    """Anthropic's behaviour, in the place of OpenAI's."""

    async def _dispatch(self, request: upstream.Request, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(request, writer)
        except MessageError as error:
            extra = {"retry-after": "7"} if error.status in (429, 529) else {}
            upstream.send_json(writer, error.status, error.body, {**self._headers(), **extra})

    def _headers(self) -> dict[str, str]:
        own = {"request-id": "req_011CSHoEeqs5", "anthropic-organization-id": "org-1"}
        return {**super()._headers(), **own, "anthropic-ratelimit-requests-remaining": "49"}

    async def _serve(self, request: upstream.Request, writer: asyncio.StreamWriter) -> None:
        if self.keys and request.headers.get("x-api-key") not in self.keys:
            raise MessageError("authentication_error", "invalid x-api-key")
        if request.headers.get("anthropic-version") != "2023-06-01":
            raise invalid("anthropic-version: header is required")
        if request.method != "POST" or not request.path.endswith("/messages") or request.query:
            raise MessageError("not_found_error", "Not Found")
        if request.headers.get("content-type") != "application/json":
            raise invalid("content-type must be application/json")
        try:
            body = json.loads(request.raw)
        except ValueError:
            raise invalid("The request body is not valid JSON") from None
        check(body)
        if self.behaviour["status"]:
            kind = next((kind for kind, status in STATUSES.items() if status == self.behaviour["status"]), "api_error")
            raise MessageError(kind, "This upstream was told to fail.")
        lines = (line.partition(" ") for line in texts(body["messages"][-1]["content"]).split("\n"))
        steering = {name: value for name, _separator, value in lines}
        if "error" in steering:
            raise MessageError(steering["error"], "Told to fail")
        await self._send(Answer(self.name, body, steering), bool(body.get("stream")), writer)

    async def _send(self, answer: Answer, stream: bool, writer: asyncio.StreamWriter) -> None:
        kind = answer.steering.get("kind") or ("text/event-stream; charset=utf-8" if stream else "application/json")
        content = answer.whole(stream=stream)
        upstream.send_head(writer, 200, {**self._headers(), "content-type": kind, "transfer-encoding": "chunked"})
        size = int(answer.steering.get("split", "0")) or (97 if stream else len(content)) or 1
        for start in range(0, len(content), size):
            await upstream.send_chunk(writer, content[start : start + size])
            # Pieces that go out together would arrive as one.
            if size < 20:
                await asyncio.sleep(0.0005)
        writer.write(b"0\r\n\r\n")


if __name__ == "__main__":
    upstream.main(Messages)
