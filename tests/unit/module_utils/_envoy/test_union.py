"""Steps from one release to another: whatever order Envoy reads changed files in, no request meets a gap."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.compile import compile_envoy
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.union import transition
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.access import allowed_models
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

HOST = host_from_options({"envoy": "/opt/envoy"})
LDS, CDS, GATEWAY, EGRESS, REQUEST = (
    "envoy/lds.json",
    "envoy/cds.json",
    "envoy/rds-gateway.json",
    "envoy/rds-egress.json",
    "envoy/ecds-request.json",
)
INTERNAL = "envoy_internal_address"
Files = Mapping[str, bytes]


def raw_spec(**changes: Any) -> dict[str, Any]:
    spec = {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {
            "a": {"type": "openai", "base_url": "https://a.example/v1", "api_key": "env://A"},
            "b": {"type": "openai_compatible", "base_url": "http://b.example/v1"},
        },
        "gateway_models": {"m": {"targets": [{"provider": "a", "model": "m"}, {"provider": "b", "model": "m"}]}},
        "gateway_consumers": {"c": {"api_keys": ["env://C"], "models": ["*"]}},
    }
    return {**spec, **changes}


def compiled(raw: Mapping[str, Any]) -> tuple[Spec, Files]:
    spec = parse_spec(raw)
    return spec, {file.path: file.content for file in compile_envoy(spec, HOST)}


def xds_of(files: Files) -> Files:
    return {path: content for path, content in files.items() if "bootstrap" not in path}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Small specs that differ in everything that may change while a gateway runs."""
    host = st.sampled_from(["one", "two"])
    providers = {
        name: {"type": "openai", "base_url": f"https://{draw(host)}.example/v1", "api_key": f"env://{name.upper()}"}
        for name in ("a", "b", "c")
    }
    for name in draw(st.lists(st.sampled_from(sorted(providers)), max_size=2, unique=True)):
        providers[name]["proxy"] = f"http://{draw(host)}.example:3128"
    target = st.fixed_dictionaries(
        {"provider": st.sampled_from(sorted(providers)), "model": st.sampled_from(["x", "y"])}
    )
    models = {
        name: {"targets": [draw(target)], "fallbacks": draw(st.lists(target, max_size=1))}
        for name in draw(st.lists(st.sampled_from(["m1", "m2", "m3"]), min_size=1, unique=True))
    }
    for model in models.values():
        model["fallbacks"] = [entry for entry in model["fallbacks"] if entry not in model["targets"]]
    patterns = st.lists(st.sampled_from(["*", *sorted(models)]), min_size=1, max_size=2, unique=True)
    endpoints = {
        name: {"provider": draw(st.sampled_from(sorted(providers)))}
        for name in draw(st.lists(st.sampled_from(["files", "batches"]), unique=True))
    }
    consumers = {
        name: {
            "api_keys": [f"env://{name.upper()}"],
            "models": draw(patterns),
            "endpoints": draw(st.lists(st.sampled_from(sorted(endpoints)), unique=True)) if endpoints else [],
        }
        for name in draw(st.lists(st.sampled_from(["u", "v", "w"]), unique=True))
    }
    return raw_spec(
        gateway_providers=providers,
        gateway_models=models,
        gateway_endpoints=endpoints,
        gateway_consumers=consumers,
    )


# ---- what Envoy would do with a set of files


def resources(files: Files, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(files[path])["resources"]
    return found


def matcher(files: Files, path: str) -> dict[str, Any]:
    found: dict[str, Any] = resources(files, path)[0]["virtual_hosts"][0]["matcher"]
    return found


def routes(tree: Mapping[str, Any]) -> dict[str, Any]:
    entries = tree["matcher_tree"]["exact_match_map"]["map"]
    return {name: entry["action"]["typed_config"] for name, entry in entries.items()}


def without_model(files: Files, header: str) -> dict[str, Any]:
    """The routes that a header picks where there is no model."""
    tree = matcher(files, GATEWAY)
    while "matcher" in tree.get("on_no_match", {}):
        tree = tree["on_no_match"]["matcher"]
        if tree["matcher_tree"]["input"]["name"] == header:
            return routes(tree)
    return {}


def listings(files: Files) -> dict[str, Any]:
    return without_model(files, xds.ACCESS)


def pairs_in_script(files: Files, name: str) -> list[list[str]]:
    script = resources(files, REQUEST)[0]["typed_config"]["default_source_code"]["inline_string"]
    literal = re.search(f'^local {name} = "(.*)"$', script, re.MULTILINE)
    text = re.sub(r"\\(\d{3})", lambda found: chr(int(found.group(1))), literal.group(1)) if literal else ""
    return [line.split("\t") for line in text.splitlines()]


def groups_of_consumers(files: Files) -> dict[str, str]:
    return dict(pairs_in_script(files, "ACCESS"))


def may_use_endpoint(files: Files, consumer: str, endpoint: str) -> bool:
    return [consumer, endpoint] in pairs_in_script(files, "ENDPOINT_USERS") and endpoint in without_model(
        files, xds.ENDPOINT
    )


def may_use(files: Files, consumer: str, model: str) -> bool:
    group = groups_of_consumers(files).get(consumer)
    route = routes(matcher(files, GATEWAY)).get(model)
    if group is None or route is None:
        return False
    config = route.get("typed_per_filter_config", {}).get(xds.ACCESS_LIST)
    if config is None:
        return True
    rbac = config["rbac"]
    return "matcher" in rbac and group in rbac["matcher"]["matcher_tree"]["exact_match_map"]["map"]


def written(route: Mapping[str, Any], name: str, before: str) -> str:
    """The model's name in a body that passed the filter of that name on a route."""
    found: str = route.get("metadata", {}).get("filter_metadata", {}).get(name, {}).get("model", before)
    return found


def gaps(files: Files) -> Iterator[str]:
    """Whatever a route or an endpoint names that is not there, and wrong names of models."""
    clusters = {cluster["name"]: cluster for cluster in resources(files, CDS)}
    egress = routes(matcher(files, EGRESS))
    tunnels = {
        listener["name"]: listener["filter_chains"][0]["filters"][0]["typed_config"].get("cluster")
        for listener in resources(files, LDS)
        if "internal_listener" in listener
    }

    def leads(endpoints: list[dict[str, Any]]) -> bool:
        """Whether the tunnels to endpoints, if there are some, have their listeners and where these lead to."""
        addresses = [endpoint["endpoint"]["address"] for endpoint in endpoints]
        names = [each[INTERNAL]["server_listener_name"] for each in addresses if INTERNAL in each]
        return all(tunnels.get(name) in clusters for name in names)

    def closed(provider: str) -> bool:
        (rank,) = clusters[provider]["load_assignment"]["endpoints"]
        return not leads(rank["lb_endpoints"])

    for endpoint, route in without_model(files, xds.ENDPOINT).items():
        if route["route"]["cluster"] not in clusters:
            yield f"{endpoint}: {route['route']['cluster']}"
    for model, route in routes(matcher(files, GATEWAY)).items():
        cluster = clusters.get(route["route"]["cluster"])
        if cluster is None:
            yield f"{model}: {route['route']['cluster']}"
            continue
        arriving = written(route, xds.READ_MODEL, model)
        if cluster["name"].startswith("provider:"):
            if arriving != route["metadata"]["filter_metadata"]["gw"]["upstream_model"]:
                yield f"{model}: is called {arriving}"
            if closed(cluster["name"]):
                yield f"{model}: no tunnel to {cluster['name']}"
            continue
        for rank in cluster["load_assignment"]["endpoints"]:
            for endpoint in rank["lb_endpoints"]:
                described = endpoint["metadata"]["filter_metadata"]["gw"]
                if "deployment" not in described:
                    # The first provider in one hop.
                    if arriving != described["model"]:
                        yield f"{model}: is called {arriving} for {described['provider']}"
                    if not leads([endpoint]):
                        yield f"{model}: no tunnel to {described['provider']}"
                    continue
                deployment = described["deployment"]
                if deployment not in egress:
                    yield f"{model}: {deployment}"
                    continue
                enabled = xds.RENAME_MODEL in egress[deployment].get("typed_per_filter_config", {})
                name = written(egress[deployment], xds.RENAME_MODEL, arriving) if enabled else arriving
                if name != described["model"]:
                    yield f"{model}: is called {name} for {deployment}"
                if egress[deployment]["route"]["cluster"] not in clusters:
                    yield f"{model}: {egress[deployment]['route']['cluster']}"
                elif closed(egress[deployment]["route"]["cluster"]):
                    yield f"{model}: no tunnel to {egress[deployment]['route']['cluster']}"


def mixtures(old: Files, new: Files) -> Iterator[Files]:
    """What is in force while Envoy goes from one set to the other."""
    paths = (LDS, CDS, GATEWAY, EGRESS, REQUEST)
    for chosen in itertools.product((old, new), repeat=len(paths)):
        yield {path: files[path] for path, files in zip(paths, chosen)}


def version(files: Files) -> str:
    versions = {json.loads(content)["version_info"] for content in files.values()}
    assert len(versions) == 1
    return str(versions.pop())


# ---- the tests


@given(specs(), specs())
@settings(max_examples=150, deadline=None)
def test_no_gap_in_any_order(before: dict[str, Any], after: dict[str, Any]) -> None:
    (old_spec, old), (new_spec, new) = compiled(before), compiled(after)
    steps = transition(old, new)
    assert bool(steps) == (xds_of(old) != xds_of(new))
    at = xds_of(old)
    both = (old_spec, new_spec)
    allowed = [{consumer.name: set(allowed_models(spec, consumer)) for consumer in spec.consumers} for spec in both]
    endpoints = [{(each.name, name) for each in spec.consumers for name in each.endpoints} for spec in both]
    patterns = [{consumer.name: consumer.models for consumer in spec.consumers} for spec in both]
    consumers = set(allowed[0]) | set(allowed[1])
    models = {model.name for spec in both for model in spec.models}
    for step in steps:
        assert version(step) != version(at)
        for mixture in mixtures(at, step):
            assert not list(gaps(mixture))
            for consumer, model in itertools.product(consumers, models):
                if all(model in each.get(consumer, ()) for each in allowed):
                    assert may_use(mixture, consumer, model)
                # Who leaves may see a model that comes, if what was granted until then is every model.
                if not any({model, "*"} & set(each.get(consumer, ())) for each in patterns):
                    assert not may_use(mixture, consumer, model)
            for consumer, endpoint in itertools.product(consumers, ("files", "batches")):
                if all((consumer, endpoint) in each for each in endpoints):
                    assert may_use_endpoint(mixture, consumer, endpoint)
                if not any((consumer, endpoint) in each for each in endpoints):
                    assert not may_use_endpoint(mixture, consumer, endpoint)
            for consumer in set(allowed[0]) & set(allowed[1]):
                assert groups_of_consumers(mixture)[consumer] in listings(mixture)
        at = step
    assert at == xds_of(new)


@given(specs(), specs())
@settings(max_examples=100, deadline=None)
def test_nothing_old_goes_before_the_last_step(before: dict[str, Any], after: dict[str, Any]) -> None:
    (_other, old), (_other, new) = compiled(before), compiled(after)
    for step in transition(old, new)[:-1]:
        names = {cluster["name"] for cluster in resources(step, CDS)}
        assert {cluster["name"] for cluster in resources(old, CDS)} <= names
        assert set(routes(matcher(old, EGRESS))) <= set(routes(matcher(step, EGRESS)))


@given(specs(), specs())
@settings(max_examples=50, deadline=None)
def test_it_is_a_function_of_the_files(before: dict[str, Any], after: dict[str, Any]) -> None:
    (_other, old), (_other, new) = compiled(before), compiled(after)
    assert transition(old, new) == transition(dict(reversed(list(old.items()))), new)


class TestSteps:
    def test_first_start(self) -> None:
        _other, new = compiled(raw_spec())
        assert transition({}, new) == (xds_of(new),)

    def test_nothing_changed(self) -> None:
        _other, files = compiled(raw_spec())
        assert transition(files, files) == ()

    def test_only_more(self) -> None:
        """What is only added needs no pruning: the new files are their own union."""
        _other, old = compiled(raw_spec())
        more = {"targets": [{"provider": "b", "model": "x"}], "fallbacks": [{"provider": "a", "model": "x"}]}
        _other, new = compiled(raw_spec(gateway_models={**raw_spec()["gateway_models"], "more": more}))
        assert len(transition(old, new)) == 2

    def test_a_model_with_one_deployment_is_only_a_route(self) -> None:
        _other, old = compiled(raw_spec())
        more = {"targets": [{"provider": "b", "model": "x"}]}
        _other, new = compiled(raw_spec(gateway_models={**raw_spec()["gateway_models"], "more": more}))
        assert transition(old, new) == (xds_of(new),)

    def test_only_less(self) -> None:
        more = {"targets": [{"provider": "b", "model": "x"}], "fallbacks": [{"provider": "a", "model": "x"}]}
        _other, old = compiled(raw_spec(gateway_models={**raw_spec()["gateway_models"], "more": more}))
        _other, new = compiled(raw_spec())
        assert len(transition(old, new)) == 2

    def test_something_else(self) -> None:
        _other, old = compiled(raw_spec())
        other = {"targets": [{"provider": "b", "model": "m"}], "fallbacks": [{"provider": "a", "model": "x"}]}
        _other, new = compiled(raw_spec(gateway_models={"m": other}))
        first, second, third = transition(old, new)
        assert version(first) == f"{version(xds_of(new))}.1"
        assert version(second) == f"{version(xds_of(new))}.2"
        assert third == xds_of(new)
        assert resources(first, GATEWAY) == resources(old, GATEWAY)
        assert resources(second, GATEWAY) == resources(new, GATEWAY)

    def test_only_a_limit(self) -> None:
        """Files that do not depend on each other need one step."""
        consumer = {**raw_spec()["gateway_consumers"]["c"], "limits": {"requests_per_minute": 5}}
        _other, old = compiled(raw_spec())
        _other, new = compiled(raw_spec(gateway_consumers={"c": consumer}))
        assert transition(old, new) == (xds_of(new),)

    def test_certificates_stay_while_listeners_change(self) -> None:
        def with_tls(path: str, port: int) -> Files:
            tls = {"certificate": f"{path}.pem", "private_key": f"{path}.key"}
            return compiled(raw_spec(gateway_listeners={path.strip("/"): {"address": "::", "port": port, "tls": tls}}))[
                1
            ]

        old, new = with_tls("/one", 443), with_tls("/two", 444)
        first = transition(old, new)[0]
        assert {"envoy/sds-listener-one.json", "envoy/sds-listener-two.json"} <= set(first)
        assert "envoy/sds-listener-one.json" not in transition(old, new)[-1]

    def test_consumers_come_and_go(self) -> None:
        _other, none = compiled(raw_spec(gateway_consumers={}))
        _other, some = compiled(raw_spec())
        for old, new in ((none, some), (some, none)):
            for step in transition(old, new)[:-1]:
                assert listings(step)

    @pytest.mark.parametrize(
        "content", [b"", b"{}", b"[]", b'{"version_info":"1","resources":[]}', b'{"version_info":"1","resources":[{}]}']
    )
    def test_what_is_no_release(self, content: bytes) -> None:
        _other, files = compiled(raw_spec())
        for path in (CDS, GATEWAY, EGRESS):
            broken = {**files, path: content}
            if (path, content) == (CDS, b'{"version_info":"1","resources":[]}'):
                continue
            with pytest.raises(ReleaseError):
                transition(broken, files)
