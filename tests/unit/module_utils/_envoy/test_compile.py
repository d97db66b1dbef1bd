"""What changes with what: the less of a running gateway a change touches, the less it can disturb."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from spec_examples import every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.access import access_of
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.compile import compile_envoy, compile_resources
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

HOST = host_from_options({"envoy": "/opt/envoy"})
BOOTSTRAPS = {"envoy/bootstrap-blue.json", "envoy/bootstrap-green.json"}


def files(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {file.path: json.loads(file.content) for file in compile_envoy(parse_spec(raw), HOST)}


def touched(raw: Mapping[str, Any]) -> set[str]:
    """The files whose content differs from that of the example."""
    before, after = files(every_key()), files(raw)
    return {path for path in {*before, *after} if content(before, path) != content(after, path)}


def content(found: Mapping[str, Any], path: str) -> Any:
    return found[path].get("resources", found[path]) if path in found else None


def example(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    raw = every_key()
    change(raw)
    return raw


def add_model(raw: dict[str, Any]) -> None:
    raw["gateway_models"]["more"] = {"targets": [{"provider": "openai", "model": "more"}]}


def add_model_with_a_fallback(raw: dict[str, Any]) -> None:
    add_model(raw)
    raw["gateway_models"]["more"]["fallbacks"] = [{"provider": "vllm", "model": "less"}]


def limit(raw: dict[str, Any]) -> None:
    raw["gateway_consumers"]["search-team"]["limits"]["requests_per_minute"] = 7


def add_consumer(raw: dict[str, Any]) -> None:
    raw["gateway_consumers"]["more"] = {"api_keys": ["env://MORE"], "models": ["*"]}


def add_consumer_of_a_new_group(raw: dict[str, Any]) -> None:
    raw["gateway_consumers"]["more"] = {"api_keys": ["env://MORE"], "models": ["gpt-5"]}


def other_key(raw: dict[str, Any]) -> None:
    raw["gateway_consumers"]["search-team"]["api_keys"] = ["env://OTHER"]
    raw["gateway_providers"]["openai"]["api_key"] = "env://ANOTHER"


def move_provider(raw: dict[str, Any]) -> None:
    raw["gateway_providers"]["vllm"]["base_url"] = "http://10.20.0.9:8000/v1"


def add_endpoint(raw: dict[str, Any]) -> None:
    raw["gateway_endpoints"]["uploads"] = {"provider": "openai"}
    raw["gateway_consumers"]["batch"]["endpoints"].append("uploads")


def no_endpoints(raw: dict[str, Any]) -> None:
    del raw["gateway_endpoints"], raw["gateway_consumers"]["batch"]["endpoints"]


def move_metrics(raw: dict[str, Any]) -> None:
    raw["gateway_metrics"]["port"] = 9000


def move_listener(raw: dict[str, Any]) -> None:
    raw["gateway_listeners"]["local"]["port"] = 9000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (other_key, set()),
        (limit, {"envoy/ecds-limits.json"}),
        (add_consumer, {"envoy/ecds-request.json"}),
        (add_consumer_of_a_new_group, {"envoy/ecds-request.json", "envoy/rds-gateway.json"}),
        (add_model, {"envoy/rds-gateway.json"}),
        (add_model_with_a_fallback, {"envoy/cds.json", "envoy/rds-gateway.json", "envoy/rds-egress.json"}),
        (move_provider, {"envoy/cds.json", "envoy/rds-gateway.json", "envoy/rds-egress.json"}),
        (add_endpoint, {"envoy/ecds-request.json", "envoy/rds-gateway.json"}),
        # The time that a request may take to arrive.
        (no_endpoints, {"envoy/ecds-request.json", "envoy/rds-gateway.json", "envoy/lds.json"}),
        (move_listener, {"envoy/lds.json"}),
        (move_metrics, BOOTSTRAPS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_touches_what_it_must(change: Callable[[dict[str, Any]], None], expected: set[str]) -> None:
    assert touched(example(change)) == expected


def test_the_order_of_a_spec_does_not_matter() -> None:
    def reversed_keys(value: Any) -> Any:
        return {key: reversed_keys(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    assert compile_envoy(parse_spec(reversed_keys(every_key())), HOST) == compile_envoy(parse_spec(every_key()), HOST)


def test_bootstraps_differ_in_the_socket_only() -> None:
    blue, green = (json.dumps(files(every_key())[f"envoy/bootstrap-{name}.json"]) for name in ("blue", "green"))
    assert blue != green
    assert blue.replace("/blue.sock", "/green.sock") == green


def test_one_version_for_all_files() -> None:
    found = files(every_key())
    versions = {found[path]["version_info"] for path in found if path not in BOOTSTRAPS}
    assert len(versions) == 1
    assert len(versions.pop()) == 16
    moved = files(example(move_listener))
    assert moved["envoy/lds.json"]["version_info"] != found["envoy/lds.json"]["version_info"]
    assert moved["envoy/cds.json"]["version_info"] == moved["envoy/lds.json"]["version_info"]


def test_every_map_is_there() -> None:
    """Tokens, web pages and endpoints without a model go on from each other."""
    raw = every_key()
    (configuration,) = compile_resources(parse_spec(raw), HOST)["rds-gateway.json"]
    tree, seen = configuration["virtual_hosts"][0]["matcher"], []
    while tree:
        seen.append(tree["matcher_tree"]["input"]["name"] if "matcher_tree" in tree else "list")
        last = tree.get("on_no_match", {})
        tree = last.get("matcher")
    assert seen == [xds.MODEL, xds.ENDPOINT, xds.ACCESS, "list"]
    assert last["action"]["typed_config"]["name"] == "before_the_key"


class TestNames:
    def test_a_changed_provider_renames_what_leads_to_it(self) -> None:
        def names(raw: dict[str, Any]) -> dict[str, str]:
            clusters = compile_resources(parse_spec(raw), HOST)["cds.json"]
            return {cluster["name"].partition("@")[0]: cluster["name"] for cluster in clusters}

        before, after = names(every_key()), names(example(move_provider))
        assert set(before) == set(after)
        assert {name for name in before if before[name] != after[name]} == {"provider:vllm", "model:gpt-5"}

    @pytest.mark.parametrize("name", ["gpt-4.1", "org/model:v1", "a@b"])
    def test_a_name_of_statistics_is_one_word(self, name: str) -> None:
        raw = every_key()
        targets = [{"provider": "openai", "model": name}, {"provider": "openai", "model": "other"}]
        raw["gateway_models"][name] = {"targets": targets}
        (found,) = (
            cluster
            for cluster in compile_resources(parse_spec(raw), HOST)["cds.json"]
            if cluster["name"].startswith(f"model:{name}@")
        )
        assert set(found["alt_stat_name"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")


class TestAccess:
    def test_equal_patterns_are_one_group(self) -> None:
        raw = every_key()
        for number in range(50):
            models = ["gpt-5", "text-*"] if number % 2 else ["text-*", "gpt-5"]
            raw["gateway_consumers"][f"c{number}"] = {"api_keys": [f"env://C{number}"], "models": models}
        access = access_of(parse_spec(raw))
        assert len({group for name, group in access.members if name.startswith("c")}) == 1
        assert len(access.models) == 3

    def test_a_group_does_not_depend_on_the_models_there_are(self) -> None:
        before, after = access_of(parse_spec(every_key())), access_of(parse_spec(example(add_model)))
        assert before.members == after.members
        everything = dict(before.members)["batch"]
        assert "more" not in before.models[everything]
        assert "more" in after.models[everything]

    def test_a_model_for_everybody_has_no_list(self) -> None:
        (configuration,) = compile_resources(parse_spec(every_key()), HOST)["rds-gateway.json"]
        entries = configuration["virtual_hosts"][0]["matcher"]["matcher_tree"]["exact_match_map"]["map"]
        for entry in entries.values():
            assert "typed_per_filter_config" not in entry["action"]["typed_config"]
        assert xds.ACCESS_LIST in json.dumps(compile_resources(parse_spec(every_key()), HOST)["lds.json"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5s"),
        (120, "120s"),
        (90.25, "90.25s"),
        (0.0001, "0s"),
        (1234567.9, "1234567.9s"),
        (3600.001, "3600.001s"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert xds.seconds(value) == text
