"""Checks of the Lua scripts with random bodies: what the gateway decides about is what a provider's parser reads.

Each check returns what is wrong, or None. LuaJIT is lupa's, which has the version that Envoy has.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

from json_bodies import Number, Pairs, leniently, random_body, strictly, values_of
from unit.module_utils._envoy.test_lua import Script, luajit
from unit.module_utils._envoy.test_usage import STREAM, Answers, is_usage_only, model_in, usage_of

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
NAMES = (None, None, "upstream/name-1.5", "x")
PLAIN_KEY = re.compile(r"[ -\[\]-~]*")
# json.lua gives a value back as text.
WRITER = """
local function write(value)
  if type(value) == "string" then return value end
  local parts = {}
  if value.fields then
    for key, item in pairs(value.fields) do parts[#parts + 1] = '"' .. key .. '":' .. write(item) end
    return "{" .. table.concat(parts, ",") .. "}"
  end
  for index = 1, value.count do parts[index] = write(value[index]) end
  return "[" .. table.concat(parts, ",") .. "]"
end
function again(text)
  local value = attempt(read_json, text)
  return value and write(value)
end
"""


class Fuzz:
    """The scripts, and the dice that the bodies come from."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.reader = Script(lua.read_model_script([("team", "group-1")]))
        self.renamer = Script(lua.rename_model_script())
        self.answers = Answers()
        runtime = luajit.LuaRuntime(encoding=None)
        runtime.execute("\n".join([*map(lua._source, ("locate.lua", "json.lua")), WRITER]).encode())
        self.again = runtime.globals().again
        self.accepted = 0

    def one(self) -> str | None:
        """Check one body."""
        if self.dice.random() < 0.15:
            return self.answer()
        body = random_body(self.dice)
        return self.request(body) or (self.reading(body) if self.dice.random() < 0.2 else None)

    # ---- requests

    def asking(self, path: str) -> dict[str, str]:
        """The headers of a request."""
        return {"x_gw_consumer": "team", "__method": "POST", "__path": path, "content_type": "application/json"}

    def request(self, body: bytes) -> str | None:
        """Check what is read of a request and what is sent on."""
        path = CHAT if self.dice.random() < 0.6 else EMBEDDINGS
        name = self.dice.choice(NAMES)
        result = self.reader.ask(body, name, **self.asking(path))
        found = result.headers[b"x-gw-model"]
        model = None if found is None else found.decode()
        before = strictly(body)
        if (model is None) != (result.status == b"400"):
            return f"neither read nor refused: {body!r}"
        if before is not None and b"\\" not in body:
            wanted = readable(before, path == CHAT)
            if model != wanted:
                return f"read {model!r} instead of {wanted!r}: {body!r}"
        if model is None:
            return f"refused, and sent: {body!r}" if result.body is not None else None
        self.accepted += 1
        sent = body if result.body is None else result.body
        if name is not None:
            renamed = self.renamer.ask(sent, "other").body
            why = "refused" if renamed is None else self.same(sent, renamed, name, "other", chat=False)
            if why:
                return f"{why}, at the egress listener: {body!r}"
        why = self.same(body, sent, model, name or model, chat=path == CHAT)
        return why and f"{why}: {body!r}"

    def same(self, body: bytes, sent: bytes, model: str, name: str, *, chat: bool) -> str | None:
        """Check that each parser reads `model` in `body`, and in `sent` the same but for `name` and the usage."""
        pairs = strictly(body)
        before = leniently(body) if pairs is None else {"strict": pairs}
        pairs = strictly(sent)
        after = leniently(sent) if pairs is None else {"strict": pairs}
        if before.keys() != after.keys():
            return f"read before by {before.keys()}, after by {after.keys()}"
        for way, found in before.items():
            # By those who tell letter cases apart, and by those who do not.
            if not [value for key, value in found if key == "model"] == values_of(found, "model") == [model]:
                return f"{way}: {values_of(found, 'model')} instead of {model!r}"
            if values_of(after[way], "model") != [name]:
                return f"{way}: sent {values_of(after[way], 'model')} instead of {name!r}"
            streams = chat and values_of(found, "stream") not in ([], [False], [None])
            if streams and not asks_for_usage(after[way]):
                return f"{way}: a stream that is not asked for its usage"
            kept = ("model", "stream_options") if streams else ("model",)
            if without(found, kept) != without(after[way], kept):
                return f"{way}: something else has changed"
            if streams and not keeps_options(found, after[way]):
                return f"{way}: the options of the stream have changed"
        return None

    # ---- the reader of whole texts

    def reading(self, body: bytes) -> str | None:
        """Check that json.lua reads what Python reads, but for doubled and escaped keys and what is nested deeply."""
        text = self.again(body)
        found = strictly(body)
        if text is None:
            plain = found is not None and b"\\" not in body and not odd(found) and depth(found) <= 32
            return f"json.lua does not read {body!r}" if plain and re.search(rb"NaN|Infinity", body) is None else None
        if found is None:
            # Whoever decodes the body sees to its encoding.
            found = leniently(body).get("latin-1")
            text, body = text.decode("latin-1").encode(), body.decode("latin-1").encode()
            found = strictly(body)
        again = strictly(text)
        if found is not None and again is not None and plainly(found) == plainly(again):
            return None
        try:
            other = json.loads(body)
        except ValueError:
            other = Exception
        return None if not isinstance(other, (dict, type)) else f"json.lua reads {text!r} in {body!r}"

    # ---- answers

    def answer(self) -> str | None:
        """Check what is read of an answer, and that it is passed on."""
        dice = self.dice
        usage: dict[str, Any] = {
            key: dice.choice((0, 7, 10**9, 10**9 + 1, -1, 1.5, "5", None)) for key in dice.sample(USAGE, 2)
        }
        if dice.random() < 0.5:
            usage[dice.choice(("prompt_tokens_details", "output_tokens_details"))] = dice.choice(
                ({"cached_tokens": 3, "reasoning_tokens": 4}, None, {"x": {"cached_tokens": 1}}, 7)
            )
        choices: Any = dice.choice(([], [], [{"delta": {"content": '"usage":{"prompt_tokens":1}'}}], None))
        event = {"choices": choices, "usage": dice.choice((usage, usage, None)), "model": dice.choice(("m", "é", ""))}
        members = list(event.items())
        dice.shuffle(members)
        text = json.dumps(dict(members), indent=None, separators=dice.choice(((",", ":"), (", ", ": ")))).encode()
        stream, hide = dice.random() < 0.5, dice.random() < 0.5
        if stream:
            text = b"data: " + text + b"\n\n"
        cuts = sorted(dice.randint(0, len(text)) for _turn in range(dice.randint(0, 4)))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]
        done = b"data: [DONE]\n\n"
        if stream:
            read = self.answers.read(*pieces, done, hide=hide, kind=STREAM)
            kept = b"" if hide and is_usage_only(event) else text
            wanted: tuple[Any, ...] = (usage_of(event["usage"]), kept + done)
            got: tuple[Any, ...] = (read.usage, read.text)
        else:
            read = self.answers.read(*pieces)
            wanted, got = (
                (usage_of(event["usage"]), model_in(event["model"]), text),
                (read.usage, read.model, read.text),
            )
        return None if wanted == got else f"{got} instead of {wanted}: {text!r}"


USAGE = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")


def readable(pairs: Pairs, chat: bool) -> str | None:
    """The model that the gateway must read in an object that has no escapes; None when it must refuse it."""
    if not all(PLAIN_KEY.fullmatch(key) for key, _value in pairs):
        return None
    models = [(key, value) for key, value in pairs if key.lower() == "model"]
    if len(models) != 1 or models[0][0] != "model" or not is_text(models[0][1]):
        return None
    model: str = models[0][1]
    fits = 0 < len(model) <= 256 and all("!" <= char <= "~" for char in model)
    return model if fits and (not chat or stream_is_plain(pairs)) else None


def stream_is_plain(pairs: Pairs) -> bool:
    values: dict[str, Any] = {}
    for name in ("stream", "stream_options"):
        found = [(key, value) for key, value in pairs if key.lower() == name]
        if len(found) > 1 or any(key != name for key, _value in found):
            return False
        values[name] = found[0][1] if found else None
    stream, options = values["stream"], values["stream_options"]
    if not (stream is None or isinstance(stream, bool)):
        return False
    if not stream or options is None:
        return True
    if not isinstance(options, Pairs) or not all(PLAIN_KEY.fullmatch(key) for key, _value in options):
        return False
    wishes = [(key, value) for key, value in options if key.lower() == "include_usage"]
    return len(wishes) <= 1 and all(
        key == "include_usage" and (value is None or isinstance(value, bool)) for key, value in wishes
    )


def is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def asks_for_usage(pairs: Pairs) -> bool:
    options = values_of(pairs, "stream_options")
    return len(options) == 1 and isinstance(options[0], Pairs) and values_of(options[0], "include_usage") == [True]


def keeps_options(before: Pairs, after: Pairs) -> bool:
    old, new = (values_of(pairs, "stream_options") or [None] for pairs in (before, after))
    options = old[0] if isinstance(old[0], Pairs) else Pairs()
    return sorted(map(repr, without(options, ("include_usage",)))) == sorted(
        map(repr, without(new[0], ("include_usage",)))
    )


def without(pairs: Pairs, keys: tuple[str, ...]) -> list[tuple[str, Any]]:
    return [pair for pair in pairs if pair[0] not in keys]


def odd(value: Any) -> bool:
    """Whether keys are doubled somewhere."""
    if isinstance(value, Pairs):
        return len(dict(value)) != len(value) or any(odd(item) for _key, item in value)
    return isinstance(value, list) and any(map(odd, value))


def depth(value: Any) -> int:
    items = [item for _key, item in value] if isinstance(value, Pairs) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(depth, items), default=0)


def plainly(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {key: plainly(item) for key, item in value}
    return [plainly(item) for item in value] if isinstance(value, list) else value
