"""What requests pay and owe: the script, in the LuaJIT that Envoy has, with buckets as Envoy's are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua, tokens
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

luajit = pytest.importorskip("lupa.luajit21")

# Envoy's side: a stream is a table of its own, with the metadata that outlives the request. `buckets` are levels that
# do not fill again; the answer to a request that is let in comes with respond().
HARNESS = rb"""
local KINDS = { "consumer-model", "consumer", "model" }
local NAMES = { "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset" }
local function headers_of(given)
  return {
    get = function(_, name) return given[name] end,
    replace = function(_, name, value) given[name] = value end,
    remove = function(_, name) given[name] = nil end,
    getNumValues = function(_, name) return given[name] and #given[name] or 0 end,
    getAtIndex = function(_, name, index) return given[name][index + 1] end,
  }
end
local function handle_of(stream, given, chunks)
  return {
    headers = function() return headers_of(given) end,
    body = function() return nil end,
    bodyChunks = function()
      local at = 0
      return function()
        at = at + 1
        local text = chunks[at]
        return text and {
          length = function() return #text end,
          getBytes = function() return text end,
          setBytes = function() end,
        }
      end
    end,
    streamInfo = function() return { dynamicMetadata = function() return {
      get = function(_, _) return stream.metadata end,
      set = function(_, _, name, value) stream.metadata[name] = value end,
    } end } end,
  }
end
function begin(consumer, model, size)
  local stream = { metadata = { request = { operation = "chat", size = size } } }
  stream.headers = { ["x-gw-consumer"] = consumer, ["x-gw-model"] = model }
  envoy_on_request(handle_of(stream, stream.headers, {}))
  stream.told = { {}, {}, {} }
  return stream
end
-- What Envoy's filters do: true when the request is let in.
function enforce(stream, buckets, limits)
  for _, kind in ipairs(KINDS) do
    local given = stream.headers
    local hits = tonumber(given["x-gw-tokens-take-" .. kind])
    if hits then
      local name = kind .. "/" .. (kind ~= "model" and given["x-gw-consumer"] or "") ..
        (kind ~= "consumer" and given["x-gw-model"] or "")
      local refused, limit = buckets[name] < hits, limits[kind]
      if not refused then buckets[name] = buckets[name] - hits end
      local level = buckets[name]
      if not refused and given["x-gw-tokens-owes-" .. kind] then refused, limit, level = true, 900000000, 900000000 end
      table.insert(stream.told[1], 1, tostring(limit))
      table.insert(stream.told[2], 1, tostring(level))
      if refused then return false end
    end
  end
  return true
end
function respond(stream, status, refused, ...)
  local given = { [":status"] = status, ["content-type"] = "application/json" }
  if #stream.told[1] > 0 then
    for place = 1, 3 do given[NAMES[place]] = stream.told[place] end
  end
  if refused then given["x-gw-token-limit"] = "x" end
  envoy_on_response(handle_of(stream, given, { ... }))
  return given
end
function respond_stream(stream, ...)
  local given = { [":status"] = "200", ["content-type"] = "text/event-stream" }
  for place = 1, 3 do given[NAMES[place]] = stream.told[place] end
  envoy_on_response(handle_of(stream, given, { ... }))
  return given
end
function table_of() return {} end
function table_of_limits(limit) return { ["consumer-model"] = limit, consumer = limit, model = limit } end
function owed_by(key) return owed(key) end
function kept()
  local number = 0
  for _ in pairs(young) do number = number + 1 end
  for _ in pairs(old) do number = number + 1 end
  return number
end
"""


def script(
    pairs: dict[str, tuple[tuple[str, int], ...]], own: dict[str, int], shared: dict[str, int], most: int = 50000
) -> Any:
    runtime = luajit.LuaRuntime(encoding=None)
    text = lua.tokens_script(pairs, own, shared).replace("local MOST = 50000", f"local MOST = {most}")
    runtime.execute(text.encode() + HARNESS)
    return runtime.globals()


def usage(spent: int) -> bytes:
    return b'{"usage":{"prompt_tokens":1,"completion_tokens":%d}}' % (spent - 1)


LIMIT = 1000
steps = st.tuples(
    st.sampled_from([b"c1", b"c2"]),
    st.sampled_from([b"m1", b"m2", b"m3"]),
    st.integers(0, 900),
    st.sampled_from(["answered", "failed", "left at once", "left later", "silent"]),
    st.integers(1, 3000),
    st.integers(0, 400),
)


@given(st.lists(steps, max_size=40))
def test_nothing_is_paid_twice_and_nothing_is_forgotten(
    requests: list[tuple[bytes, bytes, int, str, int, int]],
) -> None:
    """In every bucket: what was paid, and what is owed, are what answers have cost."""
    world = script({"c1": (("m1", LIMIT),)}, {"c1": LIMIT, "c2": LIMIT}, {"m1": LIMIT, "m2": LIMIT})
    names = {
        b"consumer-model/c1m1": b"c1\nm1",
        b"consumer/c1": b"c1",
        b"consumer/c2": b"c2",
        b"model/m1": b"\nm1",
        b"model/m2": b"\nm2",
    }
    levels, spent = dict.fromkeys(names, LIMIT), dict.fromkeys(names, 0)
    paid = dict.fromkeys(names, 0)
    buckets = world.table_of()
    for consumer, model, size, how, tokens_used, fill in requests:
        for name in names:
            buckets[name] = levels[name] = min(LIMIT, levels[name] + fill)
        stream = world.begin(consumer, model, size)
        let_in = world.enforce(stream, buckets, world.table_of_limits(LIMIT))
        for name in names:
            assert buckets[name] >= 0
            paid[name] += levels[name] - buckets[name]
            levels[name] = buckets[name]
        reserve = -(-size // 3)
        if not let_in:
            world.respond(stream, b"429", True)
            cost = 0
        elif how == "answered":
            world.respond(stream, b"200", False, usage(tokens_used))
            cost = tokens_used
        elif how == "failed":
            world.respond(stream, b"500", False)
            cost = 0
        elif how == "left at once":
            cost = reserve
        elif how == "left later":
            text = b"x" * tokens_used
            # Nothing after it was read.
            world.respond(stream, b"200", False, text)
            cost = reserve + -(-tokens_used // 3)
        else:
            world.respond(stream, b"200", False, b"{}")
            cost = reserve + 1
        touched = [b"consumer-model/" + consumer + model, b"consumer/" + consumer, b"model/" + model]
        for name in touched:
            if name in names:
                spent[name] += cost
    for name, key in names.items():
        assert paid[name] + world.owed_by(key) == spent[name]


def test_debts_do_not_grow_without_bound() -> None:
    world = script({}, {f"c{number}": 100 for number in range(500)}, {}, most=20)
    for number in range(500):
        stream = world.begin(b"c%d" % number, b"m", 30)
        assert stream.headers[b"x-gw-tokens-take-consumer"] == b"1"
        assert world.kept() <= 40
    assert world.owed_by(b"c499") == 9
    assert world.owed_by(b"c470") == 9
    assert world.owed_by(b"c0") == 0


def test_debts_that_are_looked_at_are_kept() -> None:
    world = script({}, {f"c{number}": 100 for number in range(500)}, {}, most=20)
    for number in range(1, 500):
        world.begin(b"c0", b"m", 6)
        world.begin(b"c%d" % number, b"m", 30)
    # Two for each, of which the next has paid what the bucket was asked for.
    assert world.owed_by(b"c0") == 1


@pytest.mark.parametrize(
    ("chunks", "low", "high"),
    [
        # A token for each event.
        ([b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'] * 50, 50, 50),
        # Events of several tokens.
        (
            [
                b'data: {"choices":[{"delta":{"content":""}}]}\n\n',
                *[b'data: {"delta":"' + b"word " * 60 + b'"}\n\n'] * 5,
            ],
            400,
            520,
        ),
        # What comes before the answer, and its end.
        (
            [
                b'data: {"instructions":"' + b"x" * 9000 + b'"}\n\n',
                b'data: {"id":"chatcmpl-1","delta":"x"}\n\n',
                b"data: [DONE]\n\n",
            ],
            1,
            1,
        ),
        ([b'data: {"id":"cmpl-1234567","text":"x"}\n\n' * 20], 20, 20),
        # All in one piece.
        ([b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n' * 50 + b"data: [DONE]\n\n"], 50, 50),
        # Pieces that end anywhere.
        (
            [
                b'data: {"id":"chatcmpl-1","delta":"x"}\n\nda',
                b'ta: {"delta":"y"',
                b"}\n",
                b"\n",
                b'data: {"id":"chatcmpl-1","delta":"x"}\n\ndata: [DO',
                b"NE]\n\n",
            ],
            3,
            15,
        ),
    ],
)
def test_what_a_stream_is_estimated_at(chunks: list[bytes], low: int, high: int) -> None:
    world = script({}, {"c": 100000}, {})
    stream = world.begin(b"c", b"m", 0)
    levels = world.table_of()
    levels[b"consumer/c"] = 100000
    assert world.enforce(stream, levels, world.table_of_limits(100000))
    given_headers = world.respond_stream(stream, *chunks)
    assert given_headers[b":status"] == b"200"
    assert low <= world.owed_by(b"c") + 1 <= high


def test_without_limits_there_is_nothing() -> None:
    raw = {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {"p": {"type": "openai", "base_url": "https://p.example/v1", "api_key": "env://P"}},
        "gateway_models": {"m": {"targets": [{"provider": "p", "model": "m"}], "limits": {"requests_per_minute": 5}}},
    }
    config = tokens.compile_tokens(parse_spec(raw), host_from_options({"envoy": "/envoy"}))["typed_config"]
    assert set(config) == {"@type"}
