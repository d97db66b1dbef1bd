# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How OpenAI's API streams: server-sent events, one JSON object each, and how they begin and end.

https://html.spec.whatwg.org/multipage/server-sent-events.html, and the schemas that `shapes` names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Answer
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.shapes import (
    CHUNK,
    RESPONSE,
    RESPONSE_EVENT,
    USAGE,
    expect_shape,
)

DONE = "[DONE]"
_ENDS_OF_RESPONSE = ("response.completed", "response.incomplete")


@dataclass(frozen=True)
class Event:
    """One event of a stream. `name` is empty where it has none."""

    name: str
    data: str


def check_chat(answer: Answer, lines: Sequence[str], *, usage: bool) -> None:
    """Raise VerifyError where it is no stream of a chat completion. `usage` says whether that was asked for."""
    events = _events(answer, lines)
    if events[-1].data != DONE:
        raise VerifyError(f"the stream ended after {len(events)} events: expected {DONE} at the end")
    chunks = [_parsed(event) for event in events[:-1]]
    if not chunks:
        raise VerifyError("the stream was empty: expected chunks")
    for chunk in chunks:
        expect_shape(chunk, CHUNK)
    ids = {chunk["id"] for chunk in chunks if chunk["id"]}
    if len(ids) != 1:
        raise VerifyError(f"id: expected the same in all chunks, got {len(ids)} different ones")
    if not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]):
        raise VerifyError("choices[].finish_reason: expected one in the last chunk with a choice, got none")
    telling = [index for index, chunk in enumerate(chunks) if chunk.get("usage") is not None]
    if not usage:
        if telling:
            raise VerifyError("usage: expected none, since it was not asked for, got it in %d chunks" % len(telling))
        return
    if telling != [len(chunks) - 1]:
        raise VerifyError("usage: expected it in the last chunk only, got it in %d of %d" % (len(telling), len(chunks)))
    expect_shape(chunks[-1], USAGE)
    if chunks[-1]["choices"]:
        raise VerifyError("choices: expected none in the chunk with the usage, got some")


def check_response(answer: Answer, lines: Sequence[str]) -> None:
    """Raise VerifyError where it is no stream of a response."""
    events = _events(answer, lines)
    bodies = [_parsed(event) for event in events if event.data != DONE]
    for event, body in zip(events, bodies):
        expect_shape(body, RESPONSE_EVENT)
        if event.name != body["type"]:
            raise VerifyError("event: expected {!r}, the type, got {!r}".format(body["type"], event.name))
    numbers = [body["sequence_number"] for body in bodies]
    if numbers != sorted(set(numbers)):
        raise VerifyError("sequence_number: expected growing numbers, got others")
    first, last = bodies[0], bodies[-1]
    if first["type"] != "response.created":
        raise VerifyError("the first event: expected 'response.created', got {!r}".format(first["type"]))
    if last["type"] not in _ENDS_OF_RESPONSE:
        raise VerifyError("the last event: expected 'response.completed', got {!r}".format(last["type"]))
    expect_shape(last, {"response": "object"}, {f"response.{path}": kind for path, kind in RESPONSE.items()})


def _events(answer: Answer, lines: Sequence[str]) -> list[Event]:
    """The events of a stream, at least one. Raises VerifyError for lines that are none of a stream's."""
    if answer.content_type.partition(";")[0].strip().lower() != "text/event-stream":
        raise VerifyError(f"content type: expected 'text/event-stream', got {answer.content_type!r}")
    events: list[Event] = []
    fields: dict[str, str] = {}
    # What ends a stream may lack its blank line here: nothing is read beyond [DONE].
    for line in [*lines, ""]:
        if not line:
            if "data" in fields:
                events.append(Event(fields.get("event", ""), fields["data"]))
            fields = {}
            continue
        name, separator, value = line.partition(":")
        if separator and not name:
            continue
        if name not in ("data", "event", "id", "retry") or not separator:
            raise VerifyError(f"a line of the stream: expected 'data: ...', got {line[:40]!r}")
        if name in fields:
            raise VerifyError(f"an event of the stream: expected one line of {name!r}, got several")
        fields[name] = value[1:] if value.startswith(" ") else value
    if not events:
        raise VerifyError("the stream was empty: expected events")
    return events


def _parsed(event: Event) -> Mapping[str, Any]:
    try:
        body = json.loads(event.data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise VerifyError(f"an event of the stream: expected an object in JSON, got {event.data[:40]!r}")
    if "error" in body and "choices" not in body and "type" not in body:
        raise VerifyError(f"an event of the stream: expected no error, got {event.data[:200]!r}")
    return body
