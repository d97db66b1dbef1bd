"""For random specs and requests, a running Envoy answers as a model of ten lines says it must.

`ROUTING_SPECS=1000 pytest tests/contract/test_envoy_routing.py` tries that many specs instead of 30.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers, secret_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SPECS = int(os.environ.get("ROUTING_SPECS", "30"))
REQUESTS = 30
# Five failures in a row put a target aside.
MOST_OF_A_MODEL = 4
NAMES = ("alpha", "beta", "gamma")
# Those that every type of provider has.
ENDPOINTS = ("chat/completions", "completions", "embeddings")
FAILURES = ("fail-400", "fail-401", "fail-403", "fail-429", "fail-500", "fail-503", "fail-reset")
KEYS = tuple(f"env://CLIENT_{number}" for number in range(6))


class Request(NamedTuple):
    key: str | None
    endpoint: str
    model: str


class Outcome(NamedTuple):
    """A status, and of a good answer who gave it and under which name the model was asked for there."""

    status: int
    provider: str | None = None
    model: str | None = None


# ---- the model


def outcomes(spec: dict[str, Any], request: Request) -> set[Outcome]:
    """What may become of a request: more than one thing only where targets share a model."""
    consumers = [c for c in spec["gateway_consumers"].values() if request.key in [*map(secret_of, c["api_keys"])]]
    if not consumers:
        return {Outcome(401)}
    if request.endpoint not in ENDPOINTS or request.model not in spec["gateway_models"]:
        return {Outcome(404)}
    if not any(matches(pattern, request.model) for pattern in consumers[0]["models"]):
        return {Outcome(403)}
    model, found = spec["gateway_models"][request.model], set()
    for first in (target for target in model["targets"] if target["weight"]):
        answers = [answer(target) for target in (first, *model["fallbacks"])]
        found.add(next((each for each in answers if each.status != 429 and each.status < 500), answers[-1]))
    return found


def matches(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def answer(target: dict[str, Any]) -> Outcome:
    """What the provider says, in the gateway's words: a reset is no answer, a 401 means the gateway's own key."""
    model = target["model"]
    if model not in FAILURES:
        return Outcome(200, target["provider"], model)
    return Outcome({"fail-reset": 503, "fail-401": 502}.get(model) or int(model[5:]))


# ---- random specs and requests

MODEL_NAMES = st.sampled_from(["gpt-5", "gpt-5-mini", "GPT-5", "org/model:1@x", "a", "models", "%REQ(x)%"]) | st.text(
    "ab-./:%[?{}~$", min_size=1, max_size=6
)
UPSTREAM_NAMES = st.sampled_from(["one", "two", "org/x", "a+b", *FAILURES])


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Models and consumers, and the types of the providers; `World.spec` makes a spec of them."""
    models = {}
    for name in draw(st.lists(MODEL_NAMES, min_size=1, max_size=6, unique=True)):
        place = st.tuples(st.sampled_from(NAMES), UPSTREAM_NAMES | st.just(name))
        places = draw(st.lists(place, min_size=1, max_size=4, unique=True))
        count = draw(st.integers(1, len(places)))
        targets = [{"provider": p, "model": m, "weight": draw(st.integers(0, 3))} for p, m in places[:count]]
        targets[0]["weight"] = targets[0]["weight"] or 1
        models[name] = {
            "targets": targets,
            "fallbacks": [{"provider": p, "model": m} for p, m in places[count:]],
        }
    keys = draw(st.permutations(KEYS))
    consumers = {}
    for number in range(draw(st.sampled_from([3, 2, 1, 0]))):
        patterns = []
        for name in draw(st.lists(st.sampled_from(sorted(models)), min_size=1, max_size=3, unique=True)):
            start, end = sorted(draw(st.tuples(st.integers(0, len(name)), st.integers(0, len(name)))))
            patterns.append(draw(st.sampled_from([name, name[:start] + "*" + name[end:], name[:start] + "*"])))
        own = keys[number * 2 : number * 2 + draw(st.integers(1, 2))]
        consumers[f"consumer-{number}"] = {"api_keys": own, "models": list(dict.fromkeys(patterns))}
    types = {name: draw(st.sampled_from(["openai", "azure_openai", "openai_compatible"])) for name in NAMES}
    return {"models": models, "consumers": consumers, "types": types}


@st.composite
def requests(draw: st.DrawFn, drawn: dict[str, Any]) -> Request:
    models = sorted(drawn["models"])
    known = [secret_of(key) for consumer in drawn["consumers"].values() for key in consumer["api_keys"]]
    key = draw(st.sampled_from([*known * 4, secret_of(KEYS[0]), "sk-client", None]))
    endpoint = draw(st.sampled_from([*ENDPOINTS, *ENDPOINTS, *ENDPOINTS, "files", "chat"]))
    return Request(key, endpoint, draw(st.sampled_from([*models, *models, *models, "unknown", models[0] + "x"])))


# ---- the real thing


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int
    up: dict[str, Provider]
    number: Iterator[int]
    connection: http.client.HTTPConnection

    def spec(self, drawn: dict[str, Any], number: int) -> dict[str, Any]:
        """The spec number `number`: no cluster and no route of it is one of another spec."""
        timeouts = {"idle": f"{300000 + number}ms"}
        mark = {"targets": [{"provider": "alpha", "model": "mark", "weight": 1}], "fallbacks": []}
        models = {name: {**model, "timeouts": timeouts} for name, model in drawn["models"].items()}
        own = {"api_keys": [f"env://MARK_{number}"], "models": [f"mark-{number}"]}
        return {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": self.port}},
            "gateway_metrics": {"port": self.metrics},
            "gateway_size": {"concurrency": 1},
            "gateway_providers": {name: self.provider(name, kind) for name, kind in drawn["types"].items()},
            "gateway_models": {**models, f"mark-{number}": {**mark, "timeouts": timeouts}},
            "gateway_consumers": {**drawn["consumers"], "mark": own},
        }

    def provider(self, name: str, kind: str) -> dict[str, Any]:
        azure = kind == "azure_openai"
        version = {"api_version": "2024-10-21"} if azure else {}
        url = self.up[name].url + ("" if azure else "/team/v1")
        return {"type": kind, "base_url": url, "api_key": f"env://{name.upper()}", **version}

    def switch(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """Change to a spec, until its keys and routes are in use and those before are not."""
        number = next(self.number)
        raw = self.spec(drawn, number)
        self.gateway.switch(raw)
        self.until(Request(f"sk-mark-{number}", ENDPOINTS[0], f"mark-{number}"), 200)
        self.until(Request(f"sk-mark-{number - 1}", ENDPOINTS[0], f"mark-{number}"), 401)
        return raw

    def until(self, request: Request, status: int) -> None:
        end = time.monotonic() + 5
        while self.ask(request).status != status:
            assert time.monotonic() < end, request
            time.sleep(0.005)

    def ask(self, request: Request) -> Outcome:
        status, found = self.call("POST", request.endpoint, request.key, {"model": request.model, "input": "x"})
        return Outcome(status, found["system_fingerprint"], found["model"]) if status == 200 else Outcome(status)

    def call(self, method: str, path: str, key: str | None, body: Any = None) -> tuple[int, Any]:
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
        self.connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    with providers(*NAMES) as up, closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        folder = tmp_path_factory.mktemp("gateway")
        made = World(None, port, free_port(), up, itertools.count(1), connection)  # type: ignore[arg-type]
        first = {"models": {}, "consumers": {}, "types": dict.fromkeys(NAMES, "openai")}
        with gateway(folder, made.spec(first, 0)) as made.gateway:
            yield made


def fails(spec: dict[str, Any], name: str) -> bool:
    model = spec["gateway_models"].get(name, {"targets": [], "fallbacks": []})
    return any(target["model"] in FAILURES for target in (*model["targets"], *model["fallbacks"]))


@given(st.data(), specs())
@settings(
    max_examples=SPECS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # A spec takes most of a second, so the one that fails is shown as it is.
    phases=[Phase.reuse, Phase.generate],
)
def test_envoy_does_what_the_spec_says(world: World, data: st.DataObject, drawn: dict[str, Any]) -> None:
    asked = data.draw(st.lists(requests(drawn), min_size=REQUESTS, max_size=REQUESTS))
    spec = world.switch(drawn)
    for consumer in spec["gateway_consumers"].values():
        allowed = [m for m in spec["gateway_models"] if any(matches(pattern, m) for pattern in consumer["models"])]
        for key in map(secret_of, consumer["api_keys"]):
            status, listing = world.call("GET", "models", key)
            assert (status, [model["id"] for model in listing["data"]]) == (200, sorted(allowed))
    tried: Counter[str] = Counter()
    for request in asked:
        wanted = outcomes(spec, request)
        tried[request.model] += fails(spec, request.model)
        if tried[request.model] <= MOST_OF_A_MODEL:
            assert world.ask(request) in wanted, request
