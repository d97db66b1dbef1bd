"""The translation to Anthropic's API and back, in the LuaJIT that Envoy has, against a plain Python model of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua

luajit = pytest.importorskip("lupa.luajit21")

# What is tried is local to the script.
EXPORTS = """
exported = {
  read = function(text) return attempt(read_json, text) end,
  request = function(text) return attempt(translate, text, MOST_TOKENS) end,
  message = function(text) return attempt(translate_message, text) end,
  failure = function(text, status) return translate_error(attempt(read_json, text), status) end,
  stream = translator,
}
"""
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
LAYOUTS = st.sampled_from([(None, (",", ":")), (None, (", ", ": ")), (1, (" ,", " : "))])


class RefusedError(Exception):
    """The model does not translate this; one of the parameters is to be named."""

    def __init__(self, *params: str) -> None:
        super().__init__(params)
        self.params = set(params)


class Script:
    def __init__(self) -> None:
        self.lua = luajit.LuaRuntime(encoding=None)
        self.lua.execute((lua.anthropic_script(4096) + EXPORTS).encode())
        self.exported = self.lua.globals().exported

    def call(self, name: str, *arguments: bytes) -> tuple[Any, bytes | None, bytes | None]:
        """The result, and if there is none the reason and the parameter."""
        found = self.exported[name.encode()](*arguments)
        return found if isinstance(found, tuple) else (found, None, None)

    def stream(self, pieces: list[bytes], *, with_usage: bool = False) -> bytes:
        take = self.exported[b"stream"](with_usage)
        return b"".join([*map(take, pieces), take(None)])


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


def texted(value: Any, layout: tuple[Any, tuple[str, str]] = (None, (",", ":")), *, ascii_only: bool = False) -> bytes:
    return json.dumps(value, indent=layout[0], separators=layout[1], ensure_ascii=ascii_only).encode()


# ---- reading JSON

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "ü", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


def value_of(found: Any) -> Any:
    """A value that the script has read, as Python's parser reads it."""
    if isinstance(found, bytes):
        return json.loads(found)
    if found[b"fields"] is not None:
        return {key.decode(): value_of(value) for key, value in found[b"fields"].items()}
    return [value_of(found[index]) for index in range(1, int(found[b"count"]) + 1)]


def strict(text: bytes) -> Any:
    """What Python reads; ValueError also for what only it takes, and for doubled keys."""

    def no_constant(name: str) -> Any:
        raise ValueError(name)

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(found)) < len(found):
            raise ValueError("doubled")
        return dict(found)

    return json.loads(text.decode(), parse_constant=no_constant, object_pairs_hook=pairs)


class TestReading:
    @given(VALUES, LAYOUTS, st.booleans())
    @settings(max_examples=500, deadline=None)
    def test_json(self, script: Script, value: Any, layout: Any, ascii_only: bool) -> None:
        found, why, _param = script.call("read", texted(value, layout, ascii_only=ascii_only))
        if ascii_only and why == b"The request body must not have escapes in its keys.":
            return
        assert value_of(found) == value

    @given(VALUES, st.data())
    @settings(max_examples=800, deadline=None)
    def test_nothing_else(self, script: Script, value: Any, data: st.DataObject) -> None:
        text = bytearray(texted(value))
        for _turn in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(text)))
            text[at : at + data.draw(st.integers(0, 2))] = data.draw(
                st.sampled_from(
                    [
                        b'"',
                        b"\\",
                        b"{",
                        b"}",
                        b",",
                        b"[",
                        b"]",
                        b":",
                        b"0",
                        b"-",
                        b".",
                        b"e",
                        b"\n",
                        b"\0",
                        b"\\u00e",
                        b"nul",
                    ]
                )
            )
        try:
            text.decode()
        except ValueError:
            return
        found, _why, _param = script.call("read", bytes(text))
        try:
            wanted = strict(bytes(text))
        except ValueError:
            assert found is None, text
            return
        # Escapes in keys are refused.
        if found is not None:
            assert value_of(found) == wanted
        else:
            assert b"\\" in text

    @pytest.mark.parametrize(
        "text",
        ['"\\u00\\n41"', '"\\x"', "01", "1.", ".5", "+1", "1e", "NaN", "tru", '"\t"', "'a'", "[1,]", "{,}", "1 2", ""],
    )
    def test_what_is_none(self, script: Script, text: str) -> None:
        assert script.call("read", text.encode())[0] is None

    def test_depth(self, script: Script) -> None:
        assert script.call("read", b"[" * 32 + b"]" * 32)[0] is not None
        assert script.call("read", b"[" * 33 + b"]" * 33)[1] == b"The request body is nested too deeply."
        assert script.call("read", b"[" * 1000000)[0] is None

    @given(st.binary(max_size=40) | st.text('{}[]":,\\ n0-', max_size=40).map(str.encode))
    @settings(max_examples=500, deadline=None)
    def test_no_text_breaks_it(self, script: Script, text: bytes) -> None:
        script.call("read", text)


# ---- requests

PARTS = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
    | st.sampled_from(
        [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text"}, {"type": "text", "text": 1}, "x"]
    ),
    max_size=3,
)
GOOD_PARTS = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS.filter(bool)), min_size=1, max_size=3
)
CONTENTS = TEXTS.filter(bool) | GOOD_PARTS
TURNS = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": CONTENTS})
ODD = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", None, 1]),
        "content": CONTENTS | PARTS | st.sampled_from(["", None, 1, {}]),
    },
    optional={"name": st.sampled_from(["x", None]), "tool_calls": st.none() | st.just([]), "refusal": st.none()},
)
SAID_FIRST = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": CONTENTS})
USER = st.fixed_dictionaries({"role": st.just("user"), "content": CONTENTS})
GOOD_MESSAGES = st.tuples(st.lists(SAID_FIRST, max_size=2), USER, st.lists(TURNS, max_size=3), USER).map(
    lambda found: [*found[0], found[1], *found[2], found[3]]
)
MESSAGES = GOOD_MESSAGES | GOOD_MESSAGES | st.lists(ODD | TURNS | SAID_FIRST, max_size=4) | st.none() | st.just("x")
PLAIN_VALUES: dict[str, list[Any]] = {
    "temperature": [0, 0.5, 1, 1.0, None],
    "top_p": [0, 0.25, 1, None],
    "stop": ["x", ["x", " y\n"], [], None, "ü"],
    "stream": [True, False, None],
    "user": ["", "u", 'é\n"', None],
}
ANY_VALUES: dict[str, list[Any]] = {
    **PLAIN_VALUES,
    "temperature": [0, 1, 1.1, 2, -1, "1", True, None, {}],
    "top_p": [0.5, 1.5, [], None],
    "stop": ["x", "", " ", "\n\t", ["x", 1], {}, 1, None, ["x", [" "]]],
    "stream": [True, False, None, 1, "true"],
    "user": ["u", 1, None, []],
    "safety_identifier": ["s", None],
    "max_tokens": [1, 1000, 0, -1, 1.5, "1", None],
    "max_completion_tokens": [1, 1000, 0, None],
    "stream_options": [
        {},
        {"include_usage": True},
        {"include_usage": 1},
        {"include_obfuscation": False},
        {"x": 1},
        {"x": None},
        None,
        1,
    ],
    "response_format": [{"type": "text"}, {"type": "json_object"}, {"type": "text", "x": 1}, "text", None],
    "modalities": [["text"], ["text", "audio"], [], "text", None],
    "n": [1, 2, 0, "1", None],
    "logprobs": [True, False, None],
    "store": [True, False, None],
    "presence_penalty": [0, 0.0, 1, None],
    "service_tier": ["auto", "default", "flex", None],
    "tools": [[], None, [{"type": "function"}]],
    "seed": [1, None],
    "something_new": [1, None],
    "Temperature": [1],
}
PLAIN = {name: st.sampled_from(values) for name, values in PLAIN_VALUES.items()} | {"user": TEXTS | st.none()}
ANY = {name: st.sampled_from(values) for name, values in ANY_VALUES.items()}
BODIES = st.one_of(
    st.fixed_dictionaries({"model": TEXTS, "messages": GOOD_MESSAGES}, optional=PLAIN),
    st.fixed_dictionaries({"model": TEXTS, "messages": MESSAGES}, optional=ANY),
    st.dictionaries(st.sampled_from(sorted(ANY)), st.none(), max_size=3).map(
        lambda extra: {"model": "m", "messages": [{"role": "user", "content": "x"}], **extra}
    ),
    st.sampled_from(sorted(ANY)).flatmap(
        lambda name: ANY[name].map(
            lambda value: {"model": "m", "messages": [{"role": "user", "content": "x"}], name: value}
        )
    ),
)
LEFT_OUT: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "store": (False,),
    "presence_penalty": (0, 0.0),
    "service_tier": ("auto", "default"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": (),
    "seed": (),
}


def is_in(value: Any, wanted: tuple[Any, ...]) -> bool:
    """As JSON: 1 is not true."""
    return any(type(value) is type(each) and value == each for each in wanted)


def blocks_of(content: Any, place: str) -> list[dict[str, str]]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise RefusedError(place)
    for index, part in enumerate(parts):
        where = f"{place}[{index}]"
        if not isinstance(part, dict):
            raise RefusedError(where)
        if part.get("type") != "text":
            raise RefusedError(f"{where}.type")
        if not isinstance(part.get("text"), str) or not part["text"]:
            raise RefusedError(place if isinstance(content, str) else f"{where}.text")
    return parts


def messages_of(messages: Any) -> dict[str, Any]:
    if not isinstance(messages, list) or not messages:
        raise RefusedError("messages")
    system: list[dict[str, str]] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        for name in ("name", "tool_calls"):
            if message.get(name) is not None:
                raise RefusedError(f"{place}.name", f"{place}.tool_calls")
        role, first = message["role"], not turns
        if role in ("system", "developer"):
            if turns:
                raise RefusedError(f"{place}.role")
            system += blocks_of(message["content"], f"{place}.content")
        elif role in ("user", "assistant"):
            blocks = blocks_of(message["content"], f"{place}.content")
            if first and role != "user":
                raise RefusedError(f"{place}.role")
            turns.append({"role": role, "content": blocks})
        else:
            raise RefusedError(f"{place}.role")
    if not turns or turns[-1]["role"] != "user":
        raise RefusedError("messages")
    return {"messages": turns, **({"system": system} if system else {})}


def request_of(body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The request that a body becomes, and whether its stream tells the usage. Names all parameters that are wrong."""
    wanted: dict[str, Any] = {"max_tokens": 4096}
    wrong: set[str] = set()
    stated = {name: value for name, value in body.items() if value is not None}

    def fail(name: str, condition: bool) -> None:
        if condition:
            wrong.add(name)

    def number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    fail("messages", "messages" not in stated)
    fail("max_completion_tokens", {"max_tokens", "max_completion_tokens"} <= set(stated))
    fail("safety_identifier", {"user", "safety_identifier"} <= set(stated))
    fail("something_new", "something_new" in body)
    fail("Temperature", "Temperature" in body)
    for name, value in stated.items():
        if name == "model":
            wanted["model"] = value
        elif name == "messages":
            try:
                wanted.update(messages_of(value))
            except RefusedError as refused:
                wrong |= refused.params
        elif name in ("temperature", "top_p"):
            fail(name, not number(value) or not 0 <= value <= 1)
            wanted[name] = value
        elif name in ("max_tokens", "max_completion_tokens"):
            fail(name, not isinstance(value, int) or isinstance(value, bool) or value < 1)
            wanted["max_tokens"] = value
        elif name in ("user", "safety_identifier"):
            fail(name, not isinstance(value, str))
            wanted["metadata"] = {"user_id": value}
        elif name == "stop":
            stops = value if isinstance(value, list) else [value]
            fail(name, not all(isinstance(stop, str) and stop.strip() for stop in stops))
            wanted.update({"stop_sequences": stops} if stops else {})
        elif name == "stream":
            fail(name, not isinstance(value, bool))
            wanted.update({"stream": True} if value is True else {})
        elif name == "stream_options":
            fail(name, not isinstance(value, dict) or stated.get("stream") is not True)
            for key, wish in value.items() if isinstance(value, dict) else ():
                good = isinstance(wish, bool) if key == "include_usage" else wish is None
                fail(f"stream_options.{key}", not good and not (key == "include_obfuscation" and wish is False))
        elif name in LEFT_OUT:
            fail(name, not is_in(value, LEFT_OUT[name]))
    if wrong:
        raise RefusedError(*wrong)
    options = stated.get("stream_options") or {}
    return wanted, options.get("include_usage") is True


class TestRequests:
    @given(BODIES, LAYOUTS, st.booleans())
    @settings(max_examples=1000, deadline=None)
    def test_translated_exactly_or_refused(
        self, script: Script, body: dict[str, Any], layout: Any, ascii_only: bool
    ) -> None:
        found, why, param = script.call("request", texted(body, layout, ascii_only=ascii_only))
        try:
            wanted, usage = request_of(body)
        except RefusedError as refused:
            wrong = refused.params
        else:
            wrong = set()
        if wrong:
            assert found is None, (body, found[b"body"])
            assert why
            assert (param or b"").decode() in wrong
            return
        assert found is not None, (why, param)
        assert json.loads(found[b"body"]) == wanted
        assert found[b"usage"] is usage

    @given(BODIES, st.data())
    @settings(max_examples=1000, deadline=None)
    def test_tampered_bodies(self, script: Script, body: dict[str, Any], data: st.DataObject) -> None:
        """What is translated is what a parser reads in the body."""
        text = bytearray(texted(body))
        for _turn in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(text)))
            text[at : at + data.draw(st.integers(0, 2))] = data.draw(
                st.sampled_from([b'"', b"\\", b"{", b"}", b",", b'"stop":"x",', b'"model":"b",', b"\\u0041", b"1", b""])
            )
        found, why, param = script.call("request", bytes(text))
        assert (found is None) == (why is not None)
        assert param is None or (len(param) <= 140 and param.isascii() and param.decode().isprintable())
        try:
            read = strict(bytes(text))
        except UnicodeDecodeError:
            # Passed on as it came.
            return
        except ValueError:
            assert found is None
            return
        if found is not None:
            assert json.loads(found[b"body"]) == request_of(read)[0]

    @pytest.mark.parametrize("name", ["x" * 200, "ü", "a b", "a\x7f", "x:y", "\r\nx"])
    def test_names_that_a_header_cannot_have(self, script: Script, name: str) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], name: 1}
        found, why, param = script.call("request", texted(body))
        assert (found, param) == (None, None)
        assert why

    @pytest.mark.parametrize("missing", ["model", "messages"])
    def test_what_has_to_be_there(self, script: Script, missing: str) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        for given_ in ({**body, missing: None}, {name: value for name, value in body.items() if name != missing}):
            assert script.call("request", texted(given_))[2] == missing.encode()

    @pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"null", b"{", b'{"model":"m","model":"n"}'])
    def test_no_object(self, script: Script, body: bytes) -> None:
        assert script.call("request", body)[0] is None

    def test_a_megabyte(self, script: Script) -> None:
        text = 'a"\\\n' * 300000
        found, _why, _param = script.call(
            "request", texted({"model": "m", "messages": [{"role": "user", "content": text}]})
        )
        assert json.loads(found[b"body"])["messages"][0]["content"][0]["text"] == text


# ---- answers

REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "something_new": "stop",
}
COUNTS = st.integers(0, 10**9)
USAGES = st.fixed_dictionaries(
    {"input_tokens": COUNTS, "output_tokens": COUNTS},
    optional={
        "cache_creation_input_tokens": COUNTS | st.none(),
        "cache_read_input_tokens": COUNTS | st.none(),
        "cache_creation": st.just({"ephemeral_5m_input_tokens": 3}),
        "server_tool_use": st.none(),
    },
)
THOUGHT = {"type": "thinking", "thinking": 'Hm "x"', "signature": "E"}


def usage_of(usage: dict[str, Any]) -> dict[str, Any]:
    cached = usage.get("cache_read_input_tokens") or 0
    prompt = usage["input_tokens"] + (usage.get("cache_creation_input_tokens") or 0) + cached
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage["output_tokens"],
        "total_tokens": prompt + usage["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": cached},
    }


class TestMessages:
    @given(
        st.lists(TEXTS.map(lambda text: {"type": "text", "text": text}) | st.just(THOUGHT), max_size=4),
        st.sampled_from([*REASONS, None]),
        USAGES,
        LAYOUTS,
        st.booleans(),
    )
    @settings(max_examples=500, deadline=None)
    def test_translated(
        self,
        script: Script,
        content: list[Any],
        reason: str | None,
        usage: dict[str, Any],
        layout: Any,
        ascii_only: bool,
    ) -> None:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content}
        message.update(stop_reason=reason, stop_sequence=None, usage=usage)
        found, _why, _param = script.call("message", texted(message, layout, ascii_only=ascii_only))
        body = json.loads(found)
        assert isinstance(body.pop("created"), int)
        text = "".join(block.get("text", "") for block in content)
        choice = {"index": 0, "logprobs": None, "finish_reason": REASONS.get(reason or "end_turn")}
        assert body == {
            "id": "chatcmpl-msg_1",
            "object": "chat.completion",
            "model": "claude",
            "choices": [{**choice, "message": {"role": "assistant", "content": text, "refusal": None}}],
            "usage": usage_of(usage),
        }

    @pytest.mark.parametrize("content", [None, "x", {}, [{"type": "tool_use"}], [{"type": "text"}], ["x"]])
    def test_another_content(self, script: Script, content: object) -> None:
        assert script.call("message", texted({"type": "message", "content": content}))[0] is None

    @given(TEXTS, st.sampled_from(["api_error", "overloaded_error"]), st.sampled_from(["400", "429", "500", "529"]))
    @settings(deadline=None)
    def test_errors(self, script: Script, message: str, kind: str, status: str) -> None:
        text = texted({"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"})
        found = json.loads(script.exported[b"failure"](text, status.encode()))
        types = {"400": "invalid_request_error", "429": "rate_limit_error"}
        code = "rate_limit_exceeded" if status == "429" else kind
        type_ = types.get(status, "server_error")
        assert found == {"error": {"message": message, "type": type_, "param": None, "code": code}}

    @pytest.mark.parametrize("text", [b"", b"<html>", b"{}", b"[]", b'{"error":"x"}', b'{"error":{"message":1}}'])
    def test_errors_of_somebody_else(self, script: Script, text: bytes) -> None:
        assert script.exported[b"failure"](text, b"500") is None


# ---- streams

DELTAS = st.lists(
    TEXTS.map(lambda text: {"type": "text_delta", "text": text})
    | st.just({"type": "thinking_delta", "thinking": "x"})
    | st.sampled_from([{"type": "signature_delta", "signature": "x"}, {"type": "something_new"}]),
    max_size=6,
)


def events_of(deltas: list[Any], reason: str, usage: dict[str, Any]) -> list[Any]:
    message = {
        "id": "msg_1",
        "type": "message",
        "model": "claude",
        "content": [],
        "usage": {**usage, "output_tokens": 1},
    }
    events: list[Any] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    for delta in deltas:
        events += [{"type": "content_block_delta", "index": 0, "delta": delta}, {"type": "something_new", "x": [1]}]
    return [
        *events,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": usage["output_tokens"]},
        },
        {"type": "message_stop"},
    ]


def chunks_of(deltas: list[Any], reason: str, usage: dict[str, Any], *, with_usage: bool) -> list[Any]:
    head = {"id": "chatcmpl-msg_1", "object": "chat.completion.chunk", "model": "claude"}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice], **({"usage": None} if with_usage else {})}

    texts = [delta["text"] for delta in deltas if delta.get("text")]
    return [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, REASONS[reason]),
        *([{**head, "choices": [], "usage": usage_of(usage)}] if with_usage else []),
        "[DONE]",
    ]


def wire(events: list[Any], end: str, *, ascii_only: bool, comment: str = "") -> bytes:
    texts = (json.dumps(event, ensure_ascii=ascii_only) for event in events)
    lines = "".join(f"{comment}event: {event['type']}\ndata: {text}\n\n" for event, text in zip(events, texts))
    return lines.replace("\n", end).encode()


def parsed(stream: bytes) -> list[Any]:
    *events, rest = stream.decode().split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    chunks = [event[6:] if event == "data: [DONE]" else json.loads(event[6:]) for event in events]
    for chunk in chunks:
        if isinstance(chunk, dict) and "error" not in chunk:
            assert isinstance(chunk.pop("created"), int)
    return chunks


def pieces(draw: st.DrawFn | Any, content: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=12)))
    return [content[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(content)])]


class TestStreams:
    @given(DELTAS, st.sampled_from(sorted(REASONS)), USAGES, st.booleans(), st.booleans(), st.data())
    @settings(max_examples=600, deadline=None)
    def test_translated(
        self,
        script: Script,
        deltas: list[Any],
        reason: str,
        usage: dict[str, Any],
        with_usage: bool,
        ascii_only: bool,
        data: st.DataObject,
    ) -> None:
        end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
        comment = data.draw(st.sampled_from(["", ": keep alive\n\n", "id: 1\nretry: 10\n", "\n\n"]))
        content = wire(events_of(deltas, reason, usage), end, ascii_only=ascii_only, comment=comment)
        found = script.stream(pieces(data.draw, content), with_usage=with_usage)
        assert parsed(found) == chunks_of(deltas, reason, usage, with_usage=with_usage)

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_byte_by_byte(self, script: Script, end: str) -> None:
        deltas = [{"type": "text_delta", "text": text} for text in ("Grüße", ' "🚀"\n', "\u2028\\")]
        usage = {"input_tokens": 1, "output_tokens": 2}
        content = wire(events_of(deltas, "refusal", usage), end, ascii_only=False)
        found = script.stream([content[at : at + 1] for at in range(len(content))], with_usage=True)
        assert parsed(found) == chunks_of(deltas, "refusal", usage, with_usage=True)

    @given(DELTAS, st.data())
    @settings(max_examples=600, deadline=None)
    def test_however_it_breaks_it_ends_once(self, script: Script, deltas: list[Any], data: st.DataObject) -> None:
        content = bytearray(
            wire(events_of(deltas, "end_turn", {"input_tokens": 1, "output_tokens": 2}), "\n", ascii_only=True)
        )
        for _turn in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(content)))
            content[at : at + data.draw(st.sampled_from([0, 1, 5, 200]))] = data.draw(
                st.sampled_from([b'"', b"}", b"\n", b"\n\n", b"data: x\n\n", b"\\", b""])
            )
        content = bytearray(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else content
        *chunks, last = parsed(script.stream(pieces(data.draw, bytes(content))))
        assert last == "[DONE]" or last["error"]["code"] in ("bad_answer", "null", None, "overloaded_error")
        assert not [chunk for chunk in chunks if chunk == "[DONE]" or "error" in chunk]

    @given(st.lists(st.binary(max_size=30) | st.sampled_from([b"data: ", b"\n", b"\r", b"\n\n"]), max_size=8))
    @settings(max_examples=300, deadline=None)
    def test_no_bytes_break_it(self, script: Script, found: list[bytes]) -> None:
        assert script.stream(found).startswith(b'data: {"error":')

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "x", "input": {}}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{"}},
        ],
    )
    def test_what_was_never_asked_for(self, script: Script, event: Any) -> None:
        events = events_of([], "end_turn", {"input_tokens": 1, "output_tokens": 2})
        content = wire([*events[:2], event, *events[2:]], "\n", ascii_only=True)
        assert parsed(script.stream([content]))[-1]["error"]["code"] == "bad_answer"

    def test_an_error_in_the_midst_is_the_end(self, script: Script) -> None:
        events = events_of([{"type": "text_delta", "text": "x"}], "end_turn", {"input_tokens": 1, "output_tokens": 2})
        failure = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        found = parsed(script.stream([wire([*events[:4], failure, *events[4:]], "\n", ascii_only=True)]))
        assert found[-1]["error"]["code"] == "overloaded_error"
        assert len(found) == 3

    def test_a_line_without_end(self, script: Script) -> None:
        take = script.exported[b"stream"](False)
        sent = b"".join(take(b"x" * 65536) for _turn in range(64))
        assert parsed(sent + take(None))[-1]["error"]["code"] == "bad_answer"

    def test_a_long_stream_takes_time_in_proportion(self, script: Script) -> None:
        """Byte by byte, one event of 200 kB."""
        text = "x" * 200000
        usage = {"input_tokens": 1, "output_tokens": 2}
        content = wire(events_of([{"type": "text_delta", "text": text}], "end_turn", usage), "\n", ascii_only=True)
        found = parsed(script.stream([content[at : at + 1] for at in range(len(content))]))
        assert found[1]["choices"][0]["delta"]["content"] == text
