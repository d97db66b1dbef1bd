# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a gateway keeps what clients know from OpenAI's API: errors, shapes of answers, streams, headers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify import headers, streams
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Answer
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import (
    CHAT_PATH,
    EVERY_MODEL,
    MESSAGES,
    NO_CHAT,
    NO_EMBEDDINGS,
    NO_RESPONSES,
    UNKNOWN_MODEL,
    Asking,
    Question,
    expect_status,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.shapes import (
    CHAT,
    EMBEDDINGS,
    ERROR,
    MODEL,
    MODELS,
    RESPONSE,
    RESPONSE_USAGE,
    USAGE,
    expect_shape,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.smoke import health, models

MODELS_PATH = "/v1/models"
#: A larger body is not made and sent for the sake of a check; in bytes.
LARGEST_SENT = 32 * 1024**2
#: The longest answer that is paid for, in tokens. Models that think fail with less than they think.
_LONGEST_ANSWER = 512
_INVALID = "invalid_request_error"


def _models_shape(asking: Asking) -> str | None:
    answer = asking.client.get(MODELS_PATH)
    expect_status(answer, 200)
    _expect_json(answer)
    expect_shape(answer.body, MODELS)
    return None


def _one_model(asking: Asking) -> str | None:
    if not asking.expected.models:
        return "the key may use no model"
    name = asking.expected.models[0]
    answer = asking.client.get(f"{MODELS_PATH}/{quote(name, safe='')}")
    expect_status(answer, 200)
    _expect_json(answer)
    expect_shape(answer.body, MODEL, {"id": f"={name}"})
    return None


def _no_such_model(asking: Asking) -> str | None:
    answer = asking.client.get(f"{MODELS_PATH}/{UNKNOWN_MODEL}")
    _expect_error(answer, 404, "model_not_found", param="model")
    return None


def _no_key(asking: Asking) -> str | None:
    _expect_error(asking.client.send("GET", MODELS_PATH, headers={"authorization": ""}), 401, "invalid_api_key")
    return None


def _wrong_key(asking: Asking) -> str | None:
    key = "wrong-" + secrets.token_hex(16)
    _expect_error(asking.client.get(MODELS_PATH, key=key), 401, "invalid_api_key")
    return None


def _forbidden_model(asking: Asking) -> str | None:
    if asking.expected.forbidden_model is None:
        return EVERY_MODEL
    answer = asking.client.post(CHAT_PATH, {"model": asking.expected.forbidden_model, "messages": MESSAGES})
    _expect_error(answer, 403, "model_not_allowed", param="model")
    return None


def _unknown_model(asking: Asking) -> str | None:
    answer = asking.client.post(CHAT_PATH, {"model": UNKNOWN_MODEL, "messages": MESSAGES})
    _expect_error(answer, 404, "model_not_found", param="model")
    return None


def _unknown_url(asking: Asking) -> str | None:
    _expect_error(asking.client.get("/v1/gatewayops-verify/no-such-url"), 404, "unknown_url")
    return None


def _wrong_method(asking: Asking) -> str | None:
    answer = asking.client.get(CHAT_PATH)
    _expect_error(answer, 405, "method_not_allowed")
    allowed = answer.headers.get("allow")
    if allowed != "POST":
        raise VerifyError(f"header allow: expected 'POST', got {allowed!r}")
    return None


def _malformed(asking: Asking) -> str | None:
    body = json.dumps({"model": UNKNOWN_MODEL, "messages": MESSAGES})[:-1].encode("utf-8")
    _expect_error(asking.client.send("POST", CHAT_PATH, body), 400, "invalid_request")
    return None


def _no_model(asking: Asking) -> str | None:
    _expect_error(asking.client.post(CHAT_PATH, {"messages": MESSAGES}), 400, "invalid_request")
    return None


def _too_large(asking: Asking) -> str | None:
    largest = asking.expected.max_request_size
    if largest is None:
        return "the largest size of a request is not known"
    if largest > LARGEST_SENT:
        return "gateway_max_request_size is above %d MiB, which is not sent for a check" % (LARGEST_SENT // 1024**2)
    # The model is unknown: a gateway that takes all of it asks no provider.
    body = json.dumps({"model": UNKNOWN_MODEL, "messages": MESSAGES, "user": "x" * largest}).encode("utf-8")
    _expect_error(asking.client.send("POST", CHAT_PATH, body), 413, "request_too_large")
    return None


def _chat(asking: Asking) -> str | None:
    if asking.expected.chat_model is None:
        return NO_CHAT
    answer = asking.answers["chat completion"] = asking.client.post(CHAT_PATH, _chat_request(asking))
    expect_status(answer, 200)
    _expect_json(answer)
    # A server need not tell the usage; what it tells has its shape.
    has_usage = isinstance(answer.body, Mapping) and answer.body.get("usage") is not None
    expect_shape(answer.body, CHAT, USAGE if has_usage else {})
    return None


def _stream(asking: Asking) -> str | None:
    if asking.expected.chat_model is None:
        return NO_CHAT
    answer, lines = asking.client.stream(CHAT_PATH, _chat_request(asking, stream=True))
    expect_status(answer, 200)
    streams.check_chat(answer, lines, usage=False)
    return None


def _stream_usage(asking: Asking) -> str | None:
    if asking.expected.chat_model is None:
        return NO_CHAT
    payload = _chat_request(asking, stream=True, stream_options={"include_usage": True})
    answer, lines = asking.client.stream(CHAT_PATH, payload)
    expect_status(answer, 200)
    streams.check_chat(answer, lines, usage=True)
    return None


def _response(asking: Asking) -> str | None:
    if asking.expected.responses_model is None:
        return NO_RESPONSES
    answer = asking.client.post("/v1/responses", _response_request(asking))
    expect_status(answer, 200)
    _expect_json(answer)
    expect_shape(answer.body, RESPONSE, RESPONSE_USAGE)
    return None


def _response_stream(asking: Asking) -> str | None:
    if asking.expected.responses_model is None:
        return NO_RESPONSES
    answer, lines = asking.client.stream("/v1/responses", _response_request(asking, stream=True))
    expect_status(answer, 200)
    streams.check_response(answer, lines)
    return None


def _embeddings(asking: Asking) -> str | None:
    model = asking.expected.embedding_model
    if model is None:
        return NO_EMBEDDINGS
    # Without the format, some servers and clients choose base64.
    payload = {"model": model, "input": "ready", "encoding_format": "float"}
    answer = asking.client.post("/v1/embeddings", payload)
    expect_status(answer, 200)
    _expect_json(answer)
    expect_shape(answer.body, EMBEDDINGS)
    return None


def _request_ids(asking: Asking) -> str | None:
    given = "gatewayops-verify-" + secrets.token_hex(8)
    answers = [asking.client.send("GET", MODELS_PATH, headers={"x-request-id": given}) for _turn in range(2)]
    headers.check_request_ids(answers, given)
    return None


def _response_headers(asking: Asking) -> str | None:
    own = asking.client.get(MODELS_PATH)
    headers.check_headers(own)
    provided = asking.answers.get("chat completion")
    if provided is not None:
        headers.check_headers(provided)
        headers.check_server(own, provided)
    return None


def _rate_limits(asking: Asking) -> str | None:
    answer = asking.answers.get("chat completion") or asking.client.get(MODELS_PATH)
    return headers.check_rate_limits(answer)


#: In the order in which they are asked and reported.
CONTRACT = (
    Question("healthy", health),
    Question("models", models),
    Question("shape of models", _models_shape),
    Question("one model", _one_model),
    Question("no such model", _no_such_model),
    Question("no key", _no_key),
    Question("wrong key", _wrong_key),
    Question("forbidden model", _forbidden_model),
    Question("unknown model", _unknown_model),
    Question("unknown URL", _unknown_url),
    Question("wrong method", _wrong_method),
    Question("malformed JSON", _malformed),
    Question("no model", _no_model),
    Question("too large", _too_large),
    Question("chat completion", _chat, paid=True),
    Question("stream", _stream, paid=True),
    Question("stream with usage", _stream_usage, paid=True),
    Question("response", _response, paid=True),
    Question("stream of a response", _response_stream, paid=True),
    Question("embeddings", _embeddings, paid=True),
    Question("request ids", _request_ids),
    Question("headers", _response_headers),
    Question("rate limit headers", _rate_limits),
)


def _chat_request(asking: Asking, **extra: Any) -> dict[str, Any]:
    request = {"model": asking.expected.chat_model, "messages": MESSAGES, "max_completion_tokens": _LONGEST_ANSWER}
    return {**request, **extra}


def _response_request(asking: Asking, **extra: Any) -> dict[str, Any]:
    request = {
        "model": asking.expected.responses_model,
        "input": MESSAGES[0]["content"],
        "max_output_tokens": _LONGEST_ANSWER,
        "store": False,
    }
    return {**request, **extra}


def _expect_json(answer: Answer) -> None:
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise VerifyError(f"content type: expected 'application/json', got {answer.content_type!r}")


def _expect_error(answer: Answer, status: int, code: str, *, param: str | None = None) -> None:
    """Raise VerifyError where it is not this error, in OpenAI's shape."""
    expect_status(answer, status)
    _expect_json(answer)
    expect_shape(answer.body, ERROR, {"error.type": f"={_INVALID}", "error.code": f"={code}"})
    if answer.body["error"]["param"] != param:
        raise VerifyError("error.param: expected {!r}, got {!r}".format(param, answer.body["error"]["param"]))
