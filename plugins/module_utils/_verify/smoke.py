# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a gateway serves what its spec says: that every part answers at all."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import (
    CHAT_PATH,
    EVERY_MODEL,
    MESSAGES,
    NO_CHAT,
    NO_EMBEDDINGS,
    UNKNOWN_MODEL,
    Asking,
    Question,
    expect_status,
    names_of,
)


def health(asking: Asking) -> str | None:
    """Whether it says that it works."""
    expect_status(asking.client.get("/healthz"), 200)
    return None


def models(asking: Asking) -> str | None:
    """Whether the key sees exactly what it may use."""
    answer = asking.client.get("/v1/models")
    expect_status(answer, 200)
    entries = answer.body.get("data") if isinstance(answer.body, Mapping) else None
    if not isinstance(entries, list):
        raise VerifyError("the answer is not a list of models")
    seen = {str(entry.get("id")) for entry in entries if isinstance(entry, Mapping)}
    missing = sorted(set(asking.expected.models) - seen)
    unexpected = sorted(seen - set(asking.expected.models))
    problems = ["missing: " + names_of(missing)] if missing else []
    problems += ["not expected: " + names_of(unexpected)] if unexpected else []
    if problems:
        raise VerifyError("the key sees other models than its spec says ({})".format("; ".join(problems)))
    return None


def _chat(asking: Asking) -> str | None:
    if asking.expected.chat_model is None:
        return NO_CHAT
    answer = asking.client.post(CHAT_PATH, {"model": asking.expected.chat_model, "messages": MESSAGES})
    expect_status(answer, 200)
    if not isinstance(answer.body, Mapping) or not answer.body.get("choices"):
        raise VerifyError("the answer is no chat completion")
    return None


def _stream(asking: Asking) -> str | None:
    if asking.expected.chat_model is None:
        return NO_CHAT
    payload = {"model": asking.expected.chat_model, "messages": MESSAGES, "stream": True}
    answer, lines = asking.client.stream(CHAT_PATH, payload)
    expect_status(answer, 200)
    events = [line[len("data:") :].strip() for line in lines if line.startswith("data:")]
    if not events:
        raise VerifyError(f"the answer is not a stream (content type {answer.content_type!r})")
    if events[-1] != "[DONE]":
        raise VerifyError("the stream ended after %d events without [DONE]" % len(events))
    if len(events) == 1:
        raise VerifyError("the stream was empty")
    return None


def _embeddings(asking: Asking) -> str | None:
    if asking.expected.embedding_model is None:
        return NO_EMBEDDINGS
    answer = asking.client.post("/v1/embeddings", {"model": asking.expected.embedding_model, "input": "ready"})
    expect_status(answer, 200)
    entries = answer.body.get("data") if isinstance(answer.body, Mapping) else None
    if not entries or not isinstance(entries[0], Mapping) or not entries[0].get("embedding"):
        raise VerifyError("the answer holds no embedding")
    return None


def _wrong_key(asking: Asking) -> str | None:
    expect_status(asking.client.get("/v1/models", key="wrong-" + secrets.token_hex(16)), 401)
    return None


def _forbidden_model(asking: Asking) -> str | None:
    if asking.expected.forbidden_model is None:
        return EVERY_MODEL
    payload = {"model": asking.expected.forbidden_model, "messages": MESSAGES}
    expect_status(asking.client.post(CHAT_PATH, payload), 403)
    return None


def _unknown_model(asking: Asking) -> str | None:
    payload = {"model": UNKNOWN_MODEL, "messages": MESSAGES}
    expect_status(asking.client.post(CHAT_PATH, payload), 404)
    return None


#: In the order in which they are asked and reported.
SMOKE = (
    Question("healthy", health),
    Question("models", models),
    Question("chat completion", _chat, paid=True),
    Question("stream", _stream, paid=True),
    Question("embeddings", _embeddings, paid=True),
    Question("wrong key", _wrong_key),
    Question("forbidden model", _forbidden_model),
    Question("unknown model", _unknown_model),
)
