"""Checks of the translation to Anthropic's API and back with random texts, against the model of it in Python.

Each check returns what is wrong, or None.
"""

from __future__ import annotations

import json
import random
from typing import Any

from unit.module_utils._envoy import test_anthropic_lua as model

LETTERS = 'ab"\\\n\u00e9\u2028\U0001f680}: \x7f\x01\U00010000'
LAYOUTS: tuple[tuple[Any, tuple[str, str]], ...] = ((None, (",", ":")), (None, (", ", ": ")), (1, (" ,", " : ")))
ROLES = ("system", "developer", "user", "assistant", "tool", "function", None, 1)
CONTENTS: tuple[Any, ...] = ("", None, 1, {}, [], ["x"], [{"type": "text"}], [{"type": "text", "text": 1}])
IMAGE = {"type": "image_url", "image_url": {"url": "x"}}
TAMPERING = (
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"1",
        b"0",
        b"-",
        b".",
        b"e",
        b"\n",
        b"\0",
        b"\xff",
        b"nul",
        b"",
    ),
    *(b"", b'"stop":"x",', b'"model":"b",', b"\\u0041", b"\\u00e", b"\\ud800", b"NaN"),
)
DELTAS = (
    {"type": "thinking_delta", "thinking": "x"},
    {"type": "signature_delta", "signature": "x"},
    {"type": "something_new"},
)


class AnthropicFuzz:
    """The script, and the dice that the texts come from."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.script = model.Script()
        self.accepted = 0

    def one(self) -> str | None:
        """Check one request, one answer or one stream."""
        turn = self.dice.random()
        if turn < 0.7:
            return self.request()
        return self.message() if turn < 0.85 else self.stream()

    # ---- requests

    def request(self) -> str | None:
        """Check that a request is translated as a parser reads it, or refused for what is wrong in it."""
        dice = self.dice
        text = model.texted(self.body(), dice.choice(LAYOUTS), ascii_only=dice.random() < 0.5)
        tampered = dice.random() < 0.5
        if tampered:
            text = self.tampered(text)
        found, why, param = self.script.call("request", text)
        if (found is None) != bool(why):
            return f"neither translated nor refused: {text!r}"
        if param is not None and not (len(param) <= 140 and param.isascii() and param.decode().isprintable()):
            return f"names {param!r}: {text!r}"
        try:
            read = model.strict(text)
        except UnicodeDecodeError:
            # Passed on as it came.
            return None
        except (ValueError, RecursionError):
            return None if found is None else f"translated, and no JSON: {text!r}"
        self.accepted += found is not None
        try:
            wanted = model.request_of(read)
        except model.RefusedError as refused:
            if found is not None:
                return f"translated in spite of {refused.params}: {text!r}"
            named = param is None or param.decode() in refused.params or (tampered and may_be_refused(text, read))
            return None if named else f"names {param!r} instead of {refused.params}: {text!r}"
        except (AttributeError, KeyError, TypeError):
            # What the model knows no rule for: no object, or a message that is none.
            return None if found is None else f"translated, and no request: {text!r}"
        if found is None:
            return None if tampered and may_be_refused(text, read) else f"refused because {why!r}: {text!r}"
        same = json.loads(found[b"body"]) == wanted[0] and found[b"usage"] is wanted[1]
        return None if same else f"{found[b'body']!r} instead of {wanted}: {text!r}"

    def body(self) -> dict[str, Any]:
        dice = self.dice
        body: dict[str, Any] = {"model": self.text(), "messages": self.messages()}
        values = model.PLAIN_VALUES if dice.random() < 0.6 else model.ANY_VALUES
        for name in dice.sample(sorted(values), dice.randint(0, 3)):
            body[name] = dice.choice(values[name])
        items = list(body.items())
        dice.shuffle(items)
        return dict(items)

    def messages(self) -> Any:
        dice = self.dice
        if dice.random() < 0.02:
            return dice.choice((None, "x", [], {}))
        said = [{"role": dice.choice(("system", "developer")), "content": self.content()} for _turn in self.times(2)]
        turns = [{"role": dice.choice(("user", "assistant")), "content": self.content()} for _turn in self.times(3)]
        user = {"role": "user", "content": self.content()}
        messages: list[Any] = [*said, user, *turns, *([user] if turns else [])]
        if dice.random() < 0.2:
            odd: dict[str, Any] = {"role": dice.choice(ROLES), "content": dice.choice((*CONTENTS, [IMAGE]))}
            odd.update(dice.choice(({}, {"name": "x"}, {"name": None}, {"tool_calls": []}, {"refusal": None})))
            messages.insert(dice.randint(0, len(messages)), odd)
        return messages

    def content(self) -> Any:
        dice = self.dice
        if dice.random() < 0.5:
            return self.text() or "x"
        return [{"type": "text", "text": self.text() or "x"} for _turn in range(dice.randint(1, 3))]

    def times(self, most: int) -> range:
        return range(self.dice.randint(0, most))

    def text(self) -> str:
        return "".join(self.dice.choices(LETTERS, k=self.dice.randint(0, 8)))

    def tampered(self, text: bytes) -> bytes:
        dice, found = self.dice, bytearray(text)
        for _turn in range(dice.randint(1, 3)):
            at = dice.randint(0, len(found))
            found[at : at + dice.randint(0, 2)] = dice.choice(TAMPERING)
        return bytes(found)

    # ---- answers

    def usage(self) -> dict[str, Any]:
        dice = self.dice
        counts = (0, 1, 10**9, dice.randint(0, 10**6))
        usage: dict[str, Any] = {"input_tokens": dice.choice(counts), "output_tokens": dice.choice(counts)}
        for name in ("cache_creation_input_tokens", "cache_read_input_tokens"):
            if dice.random() < 0.4:
                usage[name] = dice.choice((*counts, None))
        return usage

    def message(self) -> str | None:
        """Check an answer in one piece."""
        dice = self.dice
        blocks = [dice.choice((model.THOUGHT, {"type": "text", "text": self.text()})) for _turn in self.times(4)]
        reason, usage = dice.choice((*model.REASONS, None)), self.usage()
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": blocks,
        }
        message.update(stop_reason=reason, stop_sequence=None, usage=usage)
        text = model.texted(message, dice.choice(LAYOUTS), ascii_only=dice.random() < 0.5)
        found = self.script.call("message", text)[0]
        if found is None:
            return f"not translated: {text!r}"
        self.accepted += 1
        body = json.loads(found)
        (choice,) = body["choices"]
        got = (choice["message"]["content"], choice["finish_reason"], body["usage"])
        said = "".join(block.get("text", "") for block in blocks)
        wanted = (said, model.REASONS[reason or "end_turn"], model.usage_of(usage))
        return None if got == wanted else f"{got} instead of {wanted}: {text!r}"

    def stream(self) -> str | None:
        """Check a stream, whose pieces end anywhere."""
        dice = self.dice
        deltas = [dice.choice((*DELTAS, *[{"type": "text_delta", "text": self.text()}] * 4)) for _turn in self.times(6)]
        reason, usage, with_usage = dice.choice(sorted(model.REASONS)), self.usage(), dice.random() < 0.5
        end = dice.choice(("\n", "\r\n", "\r"))
        comment = dice.choice(("", ": keep alive\n\n", "id: 1\nretry: 10\n", "\n\n"))
        events = model.events_of(deltas, reason, usage)
        content = model.wire(events, end, ascii_only=dice.random() < 0.5, comment=comment)
        cuts = sorted(dice.randint(0, len(content)) for _turn in self.times(12))
        pieces = [content[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(content)])]
        found = self.script.stream(pieces, with_usage=with_usage)
        self.accepted += 1
        wanted = model.chunks_of(deltas, reason, usage, with_usage=with_usage)
        return None if model.parsed(found) == wanted else f"{found!r} instead of {wanted}: {pieces}"


def may_be_refused(text: bytes, body: dict[str, Any]) -> bool:
    """Whether something is wrong that the model of the translation does not look at: escapes in keys, unknown keys."""
    known, roles = {"model", "messages", *model.ANY_VALUES}, {"role", "content", "name", "tool_calls", "refusal"}
    said = body.get("messages")
    messages = [message for message in (said if isinstance(said, list) else ()) if isinstance(message, dict)]
    contents = [content for message in messages if isinstance(content := message.get("content"), list)]
    parts = [part for content in contents for part in content if isinstance(part, dict)]
    odd = not set(body) <= known or not all(set(message) <= roles for message in messages)
    return b"\\" in text or odd or not all(set(part) <= {"type", "text"} for part in parts)
