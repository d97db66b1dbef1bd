# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a gateway serves what its spec says, asked the way a client would ask.

Every check runs, whatever became of the others. Nothing here is retried: a gateway that answers now and then is not
right.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Answer, Client, Endpoint

#: A name that no spec has.
UNKNOWN_MODEL = "gatewayops-verify-no-such-model"
#: So many names are told in a message, and so many characters of an upstream's own words.
_NAMES_SHOWN = 5
_WORDS_SHOWN = 200
_NO_CHAT = "the key may use no model for chat"
_MESSAGES = [{"role": "user", "content": "Answer with the word: ready"}]


@dataclass(frozen=True)
class Expectation:
    """What the spec says about one consumer.

    `models` is exactly what the key may use. Where one of the others is None, its check is skipped.
    """

    models: tuple[str, ...]
    chat_model: str | None
    embedding_model: str | None
    forbidden_model: str | None

    @property
    def asked(self) -> int:
        """How many of the models there are to ask for: what is None is skipped."""
        return sum(name is not None for name in (self.chat_model, self.embedding_model, self.forbidden_model))


@dataclass(frozen=True)
class Check:
    """The outcome of one check. A skipped one is ok; `reason` says why it was skipped or why it failed."""

    name: str
    ok: bool
    skipped: bool
    seconds: float
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task's result."""
        return asdict(self)


#: Asks one thing. Returns why there was nothing to ask, or None; raises VerifyError for a wrong answer.
_Question = Callable[[Client, Expectation], Optional[str]]


def run_checks(endpoint: Endpoint, key: str, expected: Expectation) -> tuple[Check, ...]:
    """Ask the gateway everything, in a fixed order. Raises VerifyError only for a URL that is none.

    No outcome holds the key, not even where an answer repeats it.
    """
    client = Client(endpoint, key)
    return tuple(_run(name, check, client, key, expected) for name, check in CHECKS)


def report(checks: Sequence[Check], where: str) -> dict[str, Any]:
    """The result of a task; a failure has a message that names every failed check, those of one reason together."""
    result = {"changed": False, "url": where, "checks": [check.as_dict() for check in checks]}
    failed = [check for check in checks if not check.ok]
    if failed:
        head = f"{len(failed)} of {len(checks)} checks of {where} failed:"
        names: dict[str, list[str]] = {}
        for check in failed:
            names.setdefault(check.reason, []).append(check.name)
        lines = ["  {}: {}".format(", ".join(names[reason]), reason) for reason in names]
        result.update(failed=True, msg="\n".join([head, *lines]))
    return result


def _run(name: str, check: _Question, client: Client, key: str, expected: Expectation) -> Check:
    began = time.monotonic()
    ok, skipped = True, None
    try:
        skipped = check(client, expected)
    except VerifyError as error:
        ok, reason = False, str(error).replace(key, "***")
    else:
        reason = skipped or ""
    return Check(name, ok, skipped is not None, round(time.monotonic() - began, 3), reason)


def _health(client: Client, expected: Expectation) -> str | None:
    _expect_status(client.get("/healthz"), 200)
    return None


def _models(client: Client, expected: Expectation) -> str | None:
    answer = client.get("/v1/models")
    _expect_status(answer, 200)
    entries = answer.body.get("data") if isinstance(answer.body, Mapping) else None
    if not isinstance(entries, list):
        raise VerifyError("the answer is not a list of models")
    seen = {str(entry.get("id")) for entry in entries if isinstance(entry, Mapping)}
    missing = sorted(set(expected.models) - seen)
    unexpected = sorted(seen - set(expected.models))
    problems = ["missing: " + _names(missing)] if missing else []
    problems += ["not expected: " + _names(unexpected)] if unexpected else []
    if problems:
        raise VerifyError("the key sees other models than its spec says ({})".format("; ".join(problems)))
    return None


def _chat(client: Client, expected: Expectation) -> str | None:
    if expected.chat_model is None:
        return _NO_CHAT
    answer = client.post("/v1/chat/completions", {"model": expected.chat_model, "messages": _MESSAGES})
    _expect_status(answer, 200)
    if not isinstance(answer.body, Mapping) or not answer.body.get("choices"):
        raise VerifyError("the answer is no chat completion")
    return None


def _stream(client: Client, expected: Expectation) -> str | None:
    if expected.chat_model is None:
        return _NO_CHAT
    payload = {"model": expected.chat_model, "messages": _MESSAGES, "stream": True}
    answer, events = client.stream("/v1/chat/completions", payload)
    _expect_status(answer, 200)
    if not events:
        raise VerifyError(f"the answer is not a stream (content type {answer.content_type!r})")
    if events[-1] != "[DONE]":
        raise VerifyError("the stream ended after %d events without [DONE]" % len(events))
    if len(events) == 1:
        raise VerifyError("the stream was empty")
    return None


def _embeddings(client: Client, expected: Expectation) -> str | None:
    if expected.embedding_model is None:
        return "no model that the key may use looks like one for embeddings"
    answer = client.post("/v1/embeddings", {"model": expected.embedding_model, "input": "ready"})
    _expect_status(answer, 200)
    entries = answer.body.get("data") if isinstance(answer.body, Mapping) else None
    if not entries or not isinstance(entries[0], Mapping) or not entries[0].get("embedding"):
        raise VerifyError("the answer holds no embedding")
    return None


def _wrong_key(client: Client, expected: Expectation) -> str | None:
    _expect_status(client.get("/v1/models", key="wrong-" + secrets.token_hex(16)), 401)
    return None


def _forbidden_model(client: Client, expected: Expectation) -> str | None:
    if expected.forbidden_model is None:
        return "the key may use every model"
    payload = {"model": expected.forbidden_model, "messages": _MESSAGES}
    _expect_status(client.post("/v1/chat/completions", payload), 403)
    return None


def _unknown_model(client: Client, expected: Expectation) -> str | None:
    payload = {"model": UNKNOWN_MODEL, "messages": _MESSAGES}
    _expect_status(client.post("/v1/chat/completions", payload), 404)
    return None


#: In the order in which they are asked and reported.
CHECKS: tuple[tuple[str, _Question], ...] = (
    ("healthy", _health),
    ("models", _models),
    ("chat completion", _chat),
    ("stream", _stream),
    ("embeddings", _embeddings),
    ("wrong key", _wrong_key),
    ("forbidden model", _forbidden_model),
    ("unknown model", _unknown_model),
)


def _expect_status(answer: Answer, status: int) -> None:
    if answer.status != status:
        words = _words(answer.body)
        raise VerifyError("status %d, expected %d%s" % (answer.status, status, ": " + words if words else ""))


def _words(body: Any) -> str:
    """What an error in OpenAI's shape says."""
    error = body.get("error") if isinstance(body, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else None
    text = " ".join(message.split()) if isinstance(message, str) else ""
    return text if len(text) <= _WORDS_SHOWN else text[:_WORDS_SHOWN] + "…"


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (" and %d more" % more if more > 0 else "")
