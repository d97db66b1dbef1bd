"""Which buckets a request takes a token from: the compiled filters, read as Envoy reads them, against a plain model."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import buckets, limits, lua
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

luajit = pytest.importorskip("lupa.luajit21")

HARNESS = rb"""
function request(given)
  envoy_on_request({ headers = function() return {
    get = function(_, name) return given[name] end,
    replace = function(_, name, value) given[name] = value end,
  } end })
  return given["x-gw-rate"]
end
"""
# An answer to a request without a model, of which nothing else is read.
ANSWER = rb"""
function response(given)
  local handle = {}
  function handle:headers() return {
    getNumValues = function(_, name) return given[name] and #given[name] or 0 end,
    getAtIndex = function(_, name, index) return given[name][index + 1] end,
    remove = function(_, name) given[name] = nil end,
    replace = function(_, name, value) given[name] = { value } end,
  } end
  function handle:streamInfo() return { dynamicMetadata = function() return { get = function() end } end } end
  envoy_on_response(handle)
  return given
end
"""
MODELS = ["gpt-5", "gpt-5-mini", "text-embedding-3", "a", "60", "x.y"]
PATTERNS = [*MODELS, "*", "gpt-*", "*-3", "g*5", "*.*"]
RATES = [1, 2, 3, 7, 10, 60, 61, *range(100, 115)]
rates = st.sampled_from(RATES)


@pytest.fixture(autouse=True, scope="module")
def _few_wildcards() -> Iterator[None]:
    """So few that some rates are named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_MOST_WILDCARDS", 4)
        yield


class Limiter:
    """The compiled filter as Envoy runs it."""

    def __init__(self, raw: dict[str, Any], fleet: int) -> None:
        host = host_from_options({"envoy": "/envoy", "fleet_size": fleet})
        config = limits.compile_limits(parse_spec(raw), host)["typed_config"]
        filters = config.get("default_filter_chain", {"filters": []})["filters"]
        self._limits = [
            each["typed_config"] for each in filters if each["typed_config"]["@type"].endswith(".LocalRateLimit")
        ]
        scripts = [each["typed_config"] for each in filters if each["typed_config"]["@type"].endswith(".Lua")]
        self._lua = luajit.LuaRuntime(encoding=None)
        # Without one, nobody has a rate.
        self._lua.execute(b"function envoy_on_request() end")
        for script in scripts:
            self._lua.execute(script["default_source_code"]["inline_string"].encode())
        self._lua.execute(HARNESS)

    def taken(self, consumer: str, model: str | None) -> list[tuple[tuple[str, ...], int]]:
        """The buckets that a request takes a token from, in their order: by whom it is shared, and its size."""
        headers = {"x-gw-consumer": consumer, **({} if model is None else {"x-gw-model": model})}
        if self._limits:
            table = self._lua.table_from({name.encode(): value.encode() for name, value in headers.items()})
            rate = self._lua.globals().request(table)
            headers.update({} if rate is None else {"x-gw-rate": rate.decode()})
        found = []
        for limit in self._limits:
            (rate_limit,) = limit["rate_limits"]
            pairs = [
                (each["request_headers"]["descriptor_key"], headers.get(each["request_headers"]["header_name"]))
                for each in rate_limit["actions"]
            ]
            # A descriptor without all of its entries is none.
            if all(value is not None for _key, value in pairs):
                found += [
                    (tuple(str(value) for key, value in pairs if key != "rate"), tokens)
                    for tokens in self._bucket(limit, pairs)
                ]
        return found

    @staticmethod
    def _bucket(limit: dict[str, Any], pairs: list[tuple[str, str | None]]) -> list[int]:
        wild = []
        for descriptor in limit["descriptors"]:
            entries = [(entry["key"], entry.get("value")) for entry in descriptor["entries"]]
            bucket = descriptor["token_bucket"]
            assert bucket["tokens_per_fill"] == bucket["max_tokens"]
            assert bucket["fill_interval"] == "60s"
            if entries == pairs:
                return [bucket["max_tokens"]]
            if [(key, value or given) for (key, value), (_key, given) in zip(entries, pairs, strict=True)] == pairs:
                wild.append(bucket["max_tokens"])
        assert len(wild) <= 1  # Envoy looks at them in no order
        return wild


def spec_of(models: dict[str, Any], consumers: dict[str, Any], scope: str = "fleet") -> dict[str, Any]:
    return {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {"p": {"type": "openai", "base_url": "https://p.example/v1", "api_key": "env://P"}},
        "gateway_models": {
            name: {"targets": [{"provider": "p", "model": "m"}], **extra} for name, extra in models.items()
        },
        "gateway_consumers": {
            name: {"api_keys": [f"env://{name.upper()}"], **consumer} for name, consumer in consumers.items()
        },
        "gateway_limits_scope": scope,
    }


def of_model(rate: int) -> dict[str, Any]:
    return {"requests_per_minute": rate}


consumers = st.fixed_dictionaries(
    {
        "models": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True),
        "limits": st.fixed_dictionaries(
            {},
            optional={
                "requests_per_minute": rates,
                "models": st.dictionaries(st.sampled_from(PATTERNS), rates.map(of_model), max_size=4),
            },
        ),
    }
)


@given(
    st.fixed_dictionaries({name: st.just({}) | rates.map(lambda rate: {"limits": of_model(rate)}) for name in MODELS}),
    st.dictionaries(st.sampled_from(["c1", "c2", "c3", "c4"]), consumers, min_size=1),
    st.sampled_from(["fleet", "host"]),
    st.integers(1, 5),
)
def test_a_request_takes_from_what_it_is_limited_by(
    models: dict[str, Any], given_consumers: dict[str, Any], scope: str, fleet: int
) -> None:
    def matches(patterns: list[str]) -> set[str]:
        return {name for name in MODELS for pattern in patterns if fnmatchcase(name, pattern)}

    for consumer in given_consumers.values():
        allowed = matches(consumer["models"])
        given_limits = consumer["limits"].get("models", {})
        consumer["limits"]["models"] = {name: rate for name, rate in given_limits.items() if matches([name]) & allowed}
    limiter = Limiter(spec_of(models, given_consumers, scope), fleet)
    share = fleet if scope == "fleet" else 1
    for name, consumer in given_consumers.items():
        for model in (*sorted(matches(consumer["models"])), "unknown", None):
            wanted = []
            own = consumer["limits"]["models"]
            matching = [rate for pattern, rate in own.items() if model in MODELS and fnmatchcase(str(model), pattern)]
            if matching:
                rate = own.get(model, min(matching, key=lambda each: each["requests_per_minute"]))
                wanted.append(((name, model), rate["requests_per_minute"]))
            if "requests_per_minute" in consumer["limits"]:
                wanted.append(((name,), consumer["limits"]["requests_per_minute"]))
            if "limits" in models.get(str(model), {}):
                wanted.append(((model,), models[str(model)]["limits"]["requests_per_minute"]))
            assert limiter.taken(name, model) == [(who, -(-rate // share)) for who, rate in wanted]


def test_rare_rates_are_named_and_common_ones_are_not() -> None:
    raw = spec_of(
        {f"m{number}": {} for number in range(30)},
        {
            f"c{number}": {
                "models": ["*"],
                "limits": {"models": {f"m{each}": of_model(each + 1) for each in range(30)}},
            }
            for number in range(3)
        },
    )
    raw["gateway_consumers"]["c1"]["limits"]["models"]["m29"] = of_model(1)
    host = host_from_options({"envoy": "/envoy"})
    (limit,) = limits.compile_limits(parse_spec(raw), host)["typed_config"]["default_filter_chain"]["filters"][1:]
    named = [each for each in limit["typed_config"]["descriptors"] if "value" in each["entries"][1]]
    assert len(limit["typed_config"]["descriptors"]) == 4 + len(named)
    assert len(named) == 3 * 26 - 1
    # As many as there can be of the commonest.
    assert limit["typed_config"]["max_dynamic_descriptors"] == 4


def test_many_consumers_with_limits_for_many_models_stay_small() -> None:
    models = {f"model-{number:04d}": {} for number in range(20)}
    table = {name: of_model(10 * (1 + number % 4)) for number, name in enumerate(models)}
    raw = spec_of(models, {f"team{n:05d}": {"models": ["*"], "limits": {"models": table}} for n in range(2000)})
    compiled = str(limits.compile_limits(parse_spec(raw), host_from_options({"envoy": "/envoy"})))
    assert len(compiled) < 2000 * 20 + 10000


def test_without_limits_there_is_nothing() -> None:
    raw = spec_of({"m": {}}, {"c": {"models": ["*"]}})
    config = limits.compile_limits(parse_spec(raw), host_from_options({"envoy": "/envoy"}))["typed_config"]
    assert set(config) == {"@type"}


# ---- what clients are told


class Script:
    def __init__(self) -> None:
        self._lua = luajit.LuaRuntime(encoding=None)
        self._lua.execute(lua.read_model_script([]).encode() + b"\n" + ANSWER)

    def told(self, *counted: tuple[int, int]) -> dict[str, str]:
        """What becomes of the headers of filters, the last one first: limit and remaining."""
        names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-gw-limit")
        values = [(str(limit), str(remaining), "9", "x") for limit, remaining in counted]
        table = self._lua.table_from(
            {
                name.encode(): self._lua.table_from([value[place].encode() for value in values])
                for place, name in enumerate(names)
                if counted
            }
        )
        found = self._lua.globals().response(table)
        return {name.decode(): found[name][1].decode() for name in found}


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.mark.parametrize(
    ("limit", "remaining", "reset"),
    [
        (60, 60, "0s"),
        (60, 59, "1s"),
        (60, 0, "1m0s"),
        (500, 499, "120ms"),
        (7, 6, "8.572s"),
        (10000, 9999, "6ms"),
        (1, 0, "1m0s"),
        (3, 1, "40s"),
        (100000000, 99999999, "1ms"),
        (100000000, 0, "1m0s"),
        (60000, 1, "59.999s"),
    ],
)
def test_a_limit_is_told_as_openai_does(script: Script, limit: int, remaining: int, reset: str) -> None:
    assert script.told((limit, remaining)) == {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(remaining),
        "x-ratelimit-reset-requests": reset,
    }


def test_of_several_the_one_with_the_least_left_is_told(script: Script) -> None:
    assert script.told((60, 5), (10, 3), (100, 4))["x-ratelimit-limit-requests"] == "10"
    # The one that has refused comes first.
    assert script.told((60, 0), (10, 0))["x-ratelimit-limit-requests"] == "60"
    assert script.told() == {}
