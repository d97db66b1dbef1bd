"""What is read of an answer, and hidden in it: the script in Envoy's LuaJIT against a plain Python model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua

luajit = pytest.importorskip("lupa.luajit21")

# Envoy's side: a body that comes in pieces, each of which can be looked at and changed until the script waits for the
# next. The last piece may be known as such (the script is not asked again) or be followed by trailers.
HARNESS = rb"""
function answer(request, headers, pieces, trailers)
  local result, number = { sent = {}, headers = headers }, 0
  local current = nil
  local function piece(text)
    local object = { alive = true }
    local function check() if not object.alive then error("object used outside of proper scope") end end
    function object:length() check() return #text end
    function object:getBytes(from, count) check() return string.sub(text, from + 1, from + count) end
    function object:setBytes(bytes) check() text = bytes end
    function object:finish() object.alive = false return text end
    return object
  end
  local ended = false
  local handle = {}
  function handle:headers()
    return {
      get = function(_, name) return headers[name] end,
      remove = function(_, name) headers[name] = nil end,
      -- Of no limit.
      getNumValues = function() return 0 end,
    }
  end
  function handle:streamInfo()
    return { dynamicMetadata = function()
      return {
        get = function(_, space) return request and { request = request } end,
        set = function(_, space, name, value)
          assert(space == "gw")
          result[name] = {}
          for key, part in pairs(value) do result[name][key] = part end
        end,
      }
    end }
  end
  function handle:bodyChunks()
    return function()
      if ended then return nil end
      return coroutine.yield()
    end
  end
  local script = coroutine.create(function() envoy_on_response(handle) end)
  local function resume(value)
    if coroutine.status(script) == "dead" then return end
    local fine, why = coroutine.resume(script, value)
    if not fine then error(why) end
  end
  resume(nil)
  for index, text in ipairs(pieces) do
    current = piece(text)
    ended = index == #pieces and not trailers
    resume(current)
    result.sent[index] = current:finish()
  end
  if trailers then resume(nil) end
  return result
end
"""
SCRIPT = lua.read_model_script([("team", "group-1")])


class Answers:
    def __init__(self) -> None:
        self._lua = luajit.LuaRuntime(encoding=None)
        self._lua.execute(SCRIPT.encode())
        self._lua.execute(HARNESS)

    def read(
        self,
        *pieces: bytes,
        hide: bool = False,
        kind: str = "application/json",
        trailers: bool = False,
        known: bool = True,
        **headers: str,
    ) -> Any:
        given = {":status": "200", "content-type": kind, **headers}
        request = self._table({b"operation": b"chat", b"hide_usage": hide}) if known else None
        table = self._table({key.replace("_", "-").encode(): value.encode() for key, value in given.items()})
        result = self._lua.globals().answer(request, table, self._table(list(pieces)), trailers)
        found = {} if result.answer is None else {key.decode(): value for key, value in result.answer.items()}
        model = found.pop("model", None)
        text = None if model is None else model.decode()
        return Read(found, text, list(result.sent.values()), {key.decode() for key in result.headers})

    def _table(self, value: Any) -> Any:
        return self._lua.table_from(value)


class Read:
    def __init__(self, usage: dict[str, float], model: str | None, sent: list[bytes], headers: set[str]) -> None:
        self.usage = usage
        self.model = model
        self.sent = sent
        self.headers = headers

    @property
    def text(self) -> bytes:
        return b"".join(self.sent)


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


# ---- the plain model

NAMES = {
    "prompt_tokens": "input",
    "input_tokens": "input",
    "completion_tokens": "output",
    "output_tokens": "output",
}
DETAILS = {"cached_tokens": ("prompt", "input"), "reasoning_tokens": ("completion", "output")}


def usage_of(value: Any) -> dict[str, float]:
    """What a usage object says; {} for anything else."""
    found: dict[str, float] = {}
    if isinstance(value, dict):
        for key, number in value.items():
            if key in NAMES and counts(number):
                found[NAMES[key]] = number
            for name, sides in DETAILS.items():
                inner: Any = number.get(name) if isinstance(number, dict) else None
                if key in [f"{side}_tokens_details" for side in sides] and counts(inner):
                    found[name.partition("_")[0]] = inner
    return {"input": 0, "output": 0, **found} if found else {}


def counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**9


def model_in(value: Any) -> str | None:
    fits = isinstance(value, str) and 0 < len(value) <= 256 and all(" " <= c <= "~" and c not in '"\\' for c in value)
    return value if fits else None


def split(data: st.DataObject, text: bytes, most: int = 6) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=most)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]


TOKENS: st.SearchStrategy[Any] = st.integers(0, 3 * 10**9) | st.sampled_from([None, "5", True, 1.5, -1, {}, [1]])
DETAIL = st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens", "x"]), TOKENS)
USAGES = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cost"]), TOKENS
) | st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": TOKENS,
        "input_tokens_details": DETAIL | TOKENS,
        "output_tokens": TOKENS,
        "output_tokens_details": DETAIL | TOKENS,
        "x": st.text('"{}[]\\:, prompt_tokens', max_size=8),
        "nested": st.fixed_dictionaries({"input_tokens": TOKENS, "prompt_tokens": TOKENS}),
    },
)
TEXTS = st.text('"\\{}[]:,usage modelé\n', max_size=8) | st.sampled_from(
    ["usage", "model", '"usage":{"input_tokens":1}']
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "usage", "choices", "response", "a", '"', "\\"]), inner, max_size=3)
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(
    st.sampled_from(["id", "choices", "object", "a\\b", "models", "z"]), VALUES, max_size=4
).flatmap(
    lambda others: st.fixed_dictionaries(
        {}, optional={"usage": USAGES | VALUES, "model": TEXTS | st.text(max_size=300) | VALUES}
    ).flatmap(lambda own: st.permutations(list({**others, **own}.items())).map(dict))
)
LAYOUTS = st.sampled_from([(None, (",", ":")), (None, (", ", ": ")), (1, None)])


def written(data: st.DataObject, value: Any, *, on_one_line: bool = False) -> bytes:
    indent, separators = data.draw(LAYOUTS.filter(lambda layout: layout[0] is None or not on_one_line))
    return json.dumps(value, indent=indent, separators=separators, ensure_ascii=data.draw(st.booleans())).encode()


# What providers send, in OpenAI's order and in others: keys that nest before the model, and after the usage.
REAL = st.fixed_dictionaries(
    {"choices": st.just([{"message": {"role": "assistant", "content": 'a "usage": {"model": 1}'}}])},
    optional={
        "usage": USAGES
        | st.fixed_dictionaries(
            {"prompt_tokens": st.integers(0, 9000)},
            optional={
                "completion_tokens": TOKENS,
                "prompt_tokens_details": st.none() | DETAIL,
                "completion_tokens_details": DETAIL,
                "cached_tokens": st.integers(0, 9),
                "reasoning_tokens": st.integers(0, 9),
            },
        ),
        "model": st.just("gpt-5-2025-08-07") | TEXTS,
        "id": st.sampled_from(["chatcmpl-1", "x{", '"', "\\", "usage"]),
        "filters": st.just({"model": "no", "list": [[], {}]}),
        "more": st.sampled_from([{"usage": {"prompt_tokens": 1}}, {"model": "m"}, None]),
    },
).flatmap(lambda body: st.permutations(list(body.items())).map(dict))


class TestWholeAnswers:
    @given(REAL, st.data())
    @settings(max_examples=1500, deadline=None)
    def test_real_answers_are_read_the_same_way(
        self, answers: Answers, body: dict[str, Any], data: st.DataObject
    ) -> None:
        """At once when they come in one piece, else character by character."""
        text = written(data, body)
        cut = data.draw(st.integers(0, len(text)))
        for found in (answers.read(text), answers.read(text[:cut], text[cut:]), answers.read(text, b"\n")):
            assert found.usage == usage_of(body.get("usage"))
            assert found.model == model_in(body.get("model"))

    def test_what_is_nested_at_the_end_of_a_piece(self, answers: Answers) -> None:
        """With the piece it looks like the end of a whole answer."""
        found = answers.read(b'{"id":1,"more":{"usage":{"prompt_tokens":1}}', b"}")
        assert (found.usage, found.model) == ({}, None)
        found = answers.read(b'{"id":1,"more":{"usage":{"prompt_tokens":1}}', b',"usage":{"prompt_tokens":2}}')
        assert found.usage == {"input": 2, "output": 0}

    @given(BODIES, st.data())
    @settings(max_examples=1000, deadline=None)
    def test_it_is_what_a_parser_reads(self, answers: Answers, body: dict[str, Any], data: st.DataObject) -> None:
        assume("response" not in body)
        text = written(data, body)
        found = answers.read(*split(data, text), trailers=data.draw(st.booleans()))
        assert found.usage == usage_of(body.get("usage"))
        assert found.model == model_in(body.get("model"))
        assert found.text == text

    @given(BODIES, st.data())
    @settings(max_examples=500, deadline=None)
    def test_no_answer_breaks_it(self, answers: Answers, body: dict[str, Any], data: st.DataObject) -> None:
        text = bytearray(written(data, body))
        for _turn in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(text)))
            text[at : at + data.draw(st.integers(0, 9))] = data.draw(
                st.binary(max_size=3) | st.sampled_from([b'"', b"}"])
            )
        found = answers.read(*split(data, bytes(text)))
        assert found.text == bytes(text)
        assert all(0 <= tokens <= 1e9 for tokens in found.usage.values())

    def test_what_is_cut_is_counted_as_far_as_it_is_known(self, answers: Answers) -> None:
        found = answers.read(b'{"model":"m","usage":{"prompt_tokens":3},"choices":[{"mess')
        assert (found.usage, found.model) == ({"input": 3, "output": 0}, "m")

    def test_a_usage_object_that_is_none(self, answers: Answers) -> None:
        huge = b'{"usage":{"prompt_tokens":3,"x":"' + b"y" * 9000 + b'"}}'
        assert answers.read(huge).usage == {}
        assert answers.read(huge[:5000], huge[5000:]).usage == {}

    @pytest.mark.parametrize(
        ("kind", "headers"),
        [
            ("audio/mpeg", {}),
            ("", {}),
            ("application/json", {"content_encoding": "gzip"}),
            ("application/json", {":status": "500"}),
        ],
    )
    def test_what_is_not_read(self, answers: Answers, kind: str, headers: dict[str, Any]) -> None:
        body = b'{"usage":{"prompt_tokens":3}}'
        assert answers.read(body, kind=kind, **headers).usage == {}

    def test_answers_to_requests_without_a_model(self, answers: Answers) -> None:
        assert answers.read(b'{"usage":{"prompt_tokens":3}}', known=False).usage == {}

    def test_a_charset(self, answers: Answers) -> None:
        assert answers.read(b'{"usage":{"prompt_tokens":3}}', kind="Application/JSON; charset=utf-8").usage == {
            "input": 3,
            "output": 0,
        }

    def test_ten_megabytes_of_numbers(self, answers: Answers) -> None:
        body = b'{"data":[' + b",".join([b"-0.0123456789"] * 800000) + b'],"usage":{"prompt_tokens":3}}'
        pieces = [body[at : at + 16384] for at in range(0, len(body), 16384)]
        assert answers.read(*pieces).usage == {"input": 3, "output": 0}


# ---- streams

STREAM = "text/event-stream; charset=utf-8"
CHOICES = st.sampled_from([[], [], [{"index": 0, "delta": {"content": 'a "usage" \n'}}], None])
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS,
        "model": st.sampled_from(["m", ""]),
        "choices": CHOICES,
        "usage": st.just(None) | USAGES,
        "prompt_filter_results": st.just([]),
    },
)


def is_usage_only(event: dict[str, Any]) -> bool:
    return event.get("choices") == [] and bool(usage_of(event.get("usage")))


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[bytes, bool]], dict[str, float]]:
    """The events of a stream, each with whether it is to be hidden; and the last usage in it."""
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]))
    events: list[tuple[bytes, bool]] = []
    usage: dict[str, float] = {}
    for event in draw(st.lists(EVENTS, max_size=6)):
        separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
        text = b"data:" + draw(st.sampled_from([b"", b" "])) + json.dumps(event, separators=separators).encode()
        usage = usage_of(event.get("usage")) or usage
        if draw(st.booleans()):
            events.append((b": keep-alive" + end + end, False))
        events.append((text + end + end, is_usage_only(event)))
    if draw(st.booleans()):
        events.append((b"data: [DONE]" + end + end, False))
    return events, usage


class TestStreams:
    @given(streams(), st.booleans(), st.data())
    @settings(max_examples=1500, deadline=None)
    def test_only_the_usage_is_hidden(
        self,
        answers: Answers,
        stream: tuple[list[tuple[bytes, bool]], dict[str, float]],
        hide: bool,
        data: st.DataObject,
    ) -> None:
        events, usage = stream
        pieces = split(data, b"".join(text for text, _hidden in events), 12)
        found = answers.read(*pieces, hide=hide, kind=STREAM, trailers=data.draw(st.booleans()))
        assert found.text == b"".join(text for text, hidden in events if not (hide and hidden))
        assert found.usage == usage

    @given(streams(), st.booleans(), st.data())
    @settings(max_examples=800, deadline=None)
    def test_an_event_is_passed_on_when_it_is_whole(
        self,
        answers: Answers,
        stream: tuple[list[tuple[bytes, bool]], dict[str, float]],
        hide: bool,
        data: st.DataObject,
    ) -> None:
        events, _usage = stream
        pieces = split(data, b"".join(text for text, _hidden in events), 12)
        found = answers.read(*pieces, hide=hide, kind=STREAM)
        for number in range(len(pieces)):
            come, due = len(b"".join(pieces[: number + 1])), b""
            for text, hidden in events:
                come -= len(text)
                if come < 0:
                    break
                due += b"" if hide and hidden else text
            assert b"".join(found.sent[: number + 1]).startswith(due)
            if not hide:
                assert found.sent == pieces

    @given(st.lists(st.binary(max_size=20) | st.sampled_from([b"data:", b'"usage":{', b"\n\n", b"\r"]), max_size=12))
    @settings(max_examples=500, deadline=None)
    def test_what_is_no_stream_is_passed_on(self, answers: Answers, pieces: list[bytes]) -> None:
        assert answers.read(*pieces, hide=True, kind=STREAM).text == b"".join(pieces)

    def test_a_long_event_is_not_held_back(self, answers: Answers) -> None:
        line = b'data: {"choices":[{"delta":{"content":"' + b"x" * 100000 + b'"}}],"usage":{"prompt_tokens":3}}\n\n'
        pieces = [line[at : at + 1000] for at in range(0, len(line), 1000)]
        found = answers.read(*pieces, hide=True, kind=STREAM)
        assert found.text == line
        assert found.usage == {"input": 3, "output": 0}
        assert len(b"".join(found.sent[:50])) > 30000

    def test_an_event_that_is_cut_is_passed_on(self, answers: Answers) -> None:
        assert answers.read(b'data: {"choi', b'ces"', hide=True, kind=STREAM).text == b'data: {"choices"'
        assert answers.read(b'data: {"choi', b"", hide=True, kind=STREAM).text == b'data: {"choi'

    def test_the_responses_api(self, answers: Answers) -> None:
        whole = {"id": "r", "output": [{"usage": {"input_tokens": 9}}], "model": "m", "tools": [{"usage": {"x": 1}}]}
        usage = {
            "input_tokens": 12,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 30,
            "output_tokens_details": {"reasoning_tokens": 20},
        }
        first = {"type": "response.created", "response": {**whole, "usage": None}}
        done = {"type": "response.completed", "response": {**whole, "usage": usage, "metadata": {"usage": "x"}}}
        text = b"".join(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n" for event in (first, done))
        for cut in range(len(text)):
            found = answers.read(text[:cut], text[cut:], kind=STREAM)
            assert found.usage == {"input": 12, "cached": 4, "output": 30, "reasoning": 20}
            assert found.model == "m"
            assert found.text == text

    def test_the_length_of_what_is_hidden_is_not_told(self, answers: Answers) -> None:
        assert "content-length" not in answers.read(b"", hide=True, kind=STREAM, content_length="9").headers
        assert "content-length" in answers.read(b"", kind=STREAM, content_length="9").headers

    @pytest.mark.parametrize("kind", ["", "text/plain"])
    def test_a_stream_that_does_not_say_that_it_is_one(self, answers: Answers, kind: str) -> None:
        event = b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n'
        found = answers.read(event, b"data: [DONE]\n\n", hide=True, kind=kind)
        assert found.text == b"data: [DONE]\n\n"
        assert found.usage == {"input": 3, "output": 0}
