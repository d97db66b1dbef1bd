"""What holds for any input: no traceback, no problem hidden by another, and resources that parse to the same spec."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_examples import changed, every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import check_policies
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources, spec_variables


def words_of(value: Any) -> set[str]:
    """Return every string of a spec, keys and values."""
    if isinstance(value, dict):
        return set(value).union(*map(words_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(words_of, value))
    return {value} if isinstance(value, str) else set()


WORDS = sorted(words_of(every_key()) | {"gateway_shared", "aws-sm://a#b", "sk-plain"})
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(WORDS)
    | st.dates()
    | st.binary(max_size=3)
)
keys = st.sampled_from(WORDS) | st.text(max_size=8) | st.integers() | st.none() | st.booleans()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6), max_leaves=30
)


def check(raw: Any) -> None:
    """Parse, and hold what comes of it against what may."""
    try:
        spec = parse_spec(raw)
    except SpecError as error:
        found = [(problem.path, problem.message, str(problem).splitlines()) for problem in error.errors]
    else:
        assert isinstance(spec, Spec)
        check_policies(spec)
        spec_resources(spec)
        return
    assert found
    assert all(path and message and len(lines) == 1 for path, message, lines in found)


@given(st.dictionaries(keys, anything, max_size=8))
def test_anything(raw: Any) -> None:
    check(raw)


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(*path, key), *places_of(item, (*path, key))]]


@given(st.lists(st.tuples(st.sampled_from(places_of(every_key())), anything), min_size=1, max_size=4))
def test_a_spec_with_anything_somewhere(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    raw = every_key()
    for path, value in changes:
        try:
            place: Any = raw
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    check(raw)
    check({"gateway_shared": raw})


INDEPENDENT = [
    (("gateway_listeners", "public", "port"), 0, "gateway_listeners.public.port"),
    (("gateway_listeners", "public", "tls", "client_ca"), "", "gateway_listeners.public.tls.client_ca"),
    (("gateway_listeners", "local", "address"), "nowhere", "gateway_listeners.local.address"),
    (("gateway_providers", "openai", "type"), "opena", "gateway_providers.openai.type"),
    (("gateway_providers", "vllm", "base_url", 1), "http://10.20.0.5:8000/v1", "gateway_providers.vllm.base_url[1]"),
    (("gateway_providers", "azure_eu", "apikey"), "x", "gateway_providers.azure_eu.apikey"),
    (("gateway_models", "gpt-5", "targets", 0, "weight"), -1, "gateway_models.gpt-5.targets[0].weight"),
    (("gateway_models", "gpt-5", "targets", 1, "provider"), "x", "gateway_models.gpt-5.targets[1].provider"),
    (("gateway_models", "gpt-5", "timeouts", "idle"), 5, "gateway_models.gpt-5.timeouts.idle"),
    (("gateway_models", "gpt-5", "price"), [], "gateway_models.gpt-5.price"),
    (("gateway_models", "two words"), {"targets": [{"provider": "vllm", "model": "x"}]}, "gateway_models.two words"),
    (("gateway_models", "empty"), {"targets": []}, "gateway_models.empty.targets"),
    (("gateway_models", "text-embedding-3-small", "limits"), 7, "gateway_models.text-embedding-3-small.limits"),
    (
        ("gateway_consumers", "search-team", "limits", "models", "gpt-6"),
        {"requests_per_minute": 1},
        "gateway_consumers.search-team.limits.models.gpt-6",
    ),
    (("gateway_consumers", "batch", "models", 0), "gpt-6", "gateway_consumers.batch.models[0]"),
    (("gateway_consumers", "search-team", "api_keys", 1), "", "gateway_consumers.search-team.api_keys[1]"),
    (("gateway_consumers", "batch", "limits"), {"tokens_per_day": 0}, "gateway_consumers.batch.limits.tokens_per_day"),
    (("gateway_size", "memory_max"), "2GB", "gateway_size.memory_max"),
    (("gateway_limits_scope",), "world", "gateway_limits_scope"),
    (("gateway_metrics", "port"), "x", "gateway_metrics.port"),
    (("gateway_policies", "none"), "off", "gateway_policies.none"),
    (("gateway_nonsense",), 1, "gateway_nonsense"),
]


@given(st.lists(st.sampled_from(INDEPENDENT), min_size=1, unique_by=lambda error: error[2]))
def test_no_problem_hides_another(errors: list[tuple[tuple[Any, ...], Any, str]]) -> None:
    with pytest.raises(SpecError) as raised:
        parse_spec(changed(*((path, value) for path, value, _name in errors)))
    found = [problem.path for problem in raised.value.errors]
    assert sorted(found) == sorted(name for _path, _value, name in errors)


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True)
model_names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'\\*"), min_size=1, max_size=12
)
addresses = st.ip_addresses().map(str)
ports = st.integers(1, 65535)
references = st.from_regex(r"env://[A-Z_]{1,8}", fullmatch=True) | names.map("vault://kv/a/{}#key?version=2".format)
durations = st.integers(1, 86400).map("{}s".format) | st.integers(1, 1440).map("{}m".format) | st.just("1500ms")


@st.composite
def valid_specs(draw: st.DrawFn) -> dict[str, Any]:
    """Return variables that parse: every key optional where it is, names and numbers of any kind."""
    providers = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    models = draw(st.lists(model_names, min_size=1, max_size=4, unique=True))
    keys = iter(draw(st.permutations([f"file:///run/keys#k{number}" for number in range(12)])))
    targets = st.fixed_dictionaries(
        {"provider": st.sampled_from(providers), "model": model_names}, optional={"weight": st.integers(1, 1000000)}
    )

    def model() -> dict[str, Any]:
        all_targets = draw(
            st.lists(targets, min_size=1, max_size=4, unique_by=lambda target: (target["provider"], target["model"]))
        )
        count = draw(st.integers(1, len(all_targets)))
        entry: dict[str, Any] = {"targets": all_targets[:count]}
        if draw(st.booleans()):
            entry["fallbacks"] = [
                {key: value for key, value in target.items() if key != "weight"} for target in all_targets[count:]
            ]
        timeouts = st.fixed_dictionaries({}, optional={"first_byte": durations, "idle": durations})
        prices = st.fixed_dictionaries({"input": st.floats(0, 1e6), "output": st.integers(0, 100)})
        rates = st.fixed_dictionaries({}, optional={"requests_per_minute": st.integers(1, 100000000)})
        return {
            **entry,
            **draw(st.fixed_dictionaries({}, optional={"timeouts": timeouts, "price": prices, "limits": rates})),
        }

    def provider(name: str) -> dict[str, Any]:
        azure = draw(st.booleans())
        ports_of_urls = draw(st.lists(ports, min_size=1, max_size=3, unique=True))
        urls = [f"http://h{name.strip('_-.')}.example:{port}/v1" for port in ports_of_urls]
        return {
            "type": "azure_openai" if azure else draw(st.sampled_from(["openai", "openai_compatible"])),
            "base_url": urls if len(urls) > 1 or draw(st.booleans()) else urls[0],
            **({"api_version": "2024-10-21"} if azure else {}),
            **draw(st.fixed_dictionaries({}, optional={"api_key": references})),
        }

    def consumer() -> dict[str, Any]:
        patterns = draw(
            st.lists(
                st.sampled_from([*models, *(name[:1] + "*" for name in models), "*"]),
                min_size=1,
                max_size=3,
                unique=True,
            )
        )
        of_models = st.dictionaries(st.sampled_from(patterns), st.just({"requests_per_minute": 7}))
        limits = st.fixed_dictionaries({}, optional={"requests_per_minute": st.just(60), "models": of_models})
        return {
            "api_keys": [next(keys) for _turn in range(draw(st.integers(1, 3)))],
            "models": patterns,
            **draw(st.fixed_dictionaries({}, optional={"limits": limits})),
        }

    def listener(port: int) -> dict[str, Any]:
        tls = {"certificate": "/etc/x.pem", "private_key": draw(references), "min_version": "1.1"}
        return {"address": draw(addresses), "port": port, **({"tls": tls} if draw(st.booleans()) else {})}

    sizes = st.sampled_from(["small", "medium", "large"]) | st.fixed_dictionaries(
        {"concurrency": st.integers(1, 64)},
        optional={"memory_max": st.integers(64, 9999).map("{}M".format), "cpu_quota": st.just("150%")},
    )
    policies = st.dictionaries(
        st.sampled_from([rule.name for rule in RULES]), st.sampled_from(["deny", "warn", "off", False])
    )
    *listener_ports, metrics_port = draw(st.lists(ports, min_size=2, max_size=4, unique=True))
    return {
        "gateway_listeners": {f"l{port}": listener(port) for port in listener_ports},
        "gateway_providers": {name: provider(name) for name in providers},
        "gateway_models": {name: model() for name in models},
        "gateway_metrics": {"port": metrics_port},
        "gateway_consumers": {name: consumer() for name in draw(st.lists(names, max_size=3, unique=True))},
        **draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "gateway_size": sizes,
                    "gateway_limits_scope": st.sampled_from(["fleet", "host"]),
                    "gateway_max_request_size": st.integers(64, 131072).map("{}K".format),
                    "gateway_release_keep": st.integers(2, 1000),
                    "gateway_policies": policies,
                },
            )
        ),
    }


@given(valid_specs())
def test_resources_parse_to_the_same_spec(raw: dict[str, Any]) -> None:
    spec = parse_spec(raw)
    no_resource = {"gateway_release_keep": spec.release_keep, "gateway_policies": dict(spec.policies)}
    assert parse_spec({**spec_variables(spec_resources(spec)), **no_resource}) == spec


@given(valid_specs())
def test_a_spec_is_the_same_from_either_layer(raw: dict[str, Any]) -> None:
    assert parse_spec({"gateway_shared": raw}) == parse_spec(raw)
    assert parse_spec({"gateway_shared": raw, **raw}) == parse_spec(raw)
