# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is expected of a gateway, what a check found, and how a question is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Answer, Client

#: A name that no spec has.
UNKNOWN_MODEL = "gatewayops-verify-no-such-model"
NO_CHAT = "the key may use no model for chat"
NO_EMBEDDINGS = "no model that the key may use looks like one for embeddings"
NO_RESPONSES = "no model that the key may use is served only by providers that surely have the Responses API"
EVERY_MODEL = "the key may use every model"
CHAT_PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Answer with the word: ready"}]
#: So many names are told in a message, and so many characters of an upstream's own words.
_NAMES_SHOWN = 5
_WORDS_SHOWN = 200


@dataclass(frozen=True)
class Expectation:
    """What the spec says about one consumer.

    `models` is exactly what the key may use. Where one of the others is None, its check is skipped.
    `responses_model` is one whose providers have the Responses API, and `max_request_size` is in bytes.
    """

    models: tuple[str, ...]
    chat_model: str | None
    embedding_model: str | None
    forbidden_model: str | None
    responses_model: str | None = None
    max_request_size: int | None = None

    @property
    def asked(self) -> int:
        """How many of the models that every profile needs there are to ask for: what is None is skipped."""
        return sum(name is not None for name in (self.chat_model, self.embedding_model, self.forbidden_model))


@dataclass(frozen=True)
class Check:
    """The outcome of one check. A skipped one is ok; `reason` says why it was skipped or why it failed.

    `paid` is for those whose requests reach a provider, which may want money for them.
    """

    name: str
    ok: bool
    skipped: bool
    seconds: float
    reason: str
    paid: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task's result."""
        return asdict(self)


@dataclass(frozen=True)
class Asking:
    """One run of checks. `answers` are those that later checks look at again, by the check that asked for them."""

    client: Client
    expected: Expectation
    answers: dict[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A check to be made.

    `ask` returns why there was nothing to ask, or None, and raises VerifyError for a wrong answer.
    """

    name: str
    ask: Callable[[Asking], str | None]
    paid: bool = False


def expect_status(answer: Answer, status: int) -> None:
    """Raise VerifyError where the answer has another status, with what it says about itself."""
    if answer.status != status:
        words = _words(answer.body)
        raise VerifyError("status %d, expected %d%s" % (answer.status, status, ": " + words if words else ""))


def names_of(names: Iterable[str]) -> str:
    """Write names for a message, the first few of many."""
    names = list(names)
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (" and %d more" % more if more > 0 else "")


def _words(body: Any) -> str:
    """What an error in OpenAI's shape says."""
    error = body.get("error") if isinstance(body, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else None
    text = " ".join(message.split()) if isinstance(message, str) else ""
    return text if len(text) <= _WORDS_SHOWN else text[:_WORDS_SHOWN] + "…"
