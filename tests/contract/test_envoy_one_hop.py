"""Models with a fallback whose first provider is asked in one hop, by its own address and by a tunnel to its name.

What happens when a provider fails is in test_envoy_faults.py, and that keys stay apart in test_envoy_credentials.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import Gateway, Provider, free_port, gateway
from contract.network import TlsFront
from contract.test_envoy_changes import load
from contract.test_envoy_requests import Answer, call, chat

MAX_BODY = 10 * 1024 * 1024
WAYS = ("plain", "tls")


@dataclass
class World:
    gateway: Gateway
    port: int
    raw: dict[str, Any]
    providers: dict[str, Provider]

    def ask(self, model: str, **extra: object) -> Answer:
        return call(self.port, body=chat(model, **extra))

    def asked(self, name: str) -> list[dict[str, Any]]:
        return self.providers[name].seen()

    def hops(self) -> int:
        """How many requests the egress listener got so far."""
        found = self.gateway.statistic("http.egress.downstream_rq_total")
        assert isinstance(found, int)
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    authority, port = Authority(folder, "ca"), free_port()
    with ExitStack() as stack:
        up = {name: Provider(name) for name in ("alpha", "beta")}
        for provider in up.values():
            stack.callback(provider.stop)
        front = stack.enter_context(TlsFront(up["alpha"].port, authority.sign("alpha", "localhost")))
        stranger = Authority(folder, "stranger")
        unknown = stack.enter_context(TlsFront(up["alpha"].port, stranger.sign("unknown", "localhost")))

        def alpha(url: str) -> dict[str, Any]:
            headers = {"OpenAI-Organization": "org-alpha", "x-alpha": "only-alpha"}
            return {"type": "openai", "base_url": f"{url}/v1", "api_key": "env://ALPHA", "headers": headers}

        def model(provider: str, name: str, **more: object) -> dict[str, Any]:
            fallbacks = [{"provider": "beta", "model": "second"}]
            return {"targets": [{"provider": provider, "model": name}], "fallbacks": fallbacks, **more}

        raw: dict[str, Any] = {
            "gateway_listeners": {"local": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {
                "plain": alpha(up["alpha"].url),
                "tls": alpha(f"https://localhost:{front.port}"),
                "unknown": alpha(f"https://localhost:{unknown.port}"),
                "nowhere": alpha("https://name.invalid"),
                "gone": alpha(f"https://localhost:{free_port()}"),
                "beta": {
                    "type": "azure_openai",
                    "base_url": up["beta"].url,
                    "api_version": "2024-10-21",
                    "api_key": "env://BETA",
                },
            },
            "gateway_models": {
                **{f"{way}-good": model(way, "good") for way in WAYS},
                **{f"{way}-fails": model(way, "fail-503") for way in WAYS},
                **{f"{way}-aside": model(way, "fail-429") for way in WAYS},
                **{f"{way}-refused": model(way, "fail-401") for way in WAYS},
                **{name: model(name, "m") for name in ("unknown", "nowhere", "gone")},
            },
            "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
        }
        started = stack.enter_context(gateway(folder, raw, ca_file=str(authority.certificate)))
        yield World(started, port, raw, up)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for provider in world.providers.values():
        provider.reset()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_first_is_asked_as_if_there_were_no_other(world: World, way: str, stream: bool) -> None:
    before = world.hops()
    body = chat(f"{way}-good", stream=stream)
    answer = call(world.port, body=body, x_gw_deployment="x", openai_organization="mine", x_alpha="mine")
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("x-gw")]
    assert world.hops() == before
    (seen,) = world.asked("alpha")
    assert (seen["path"], json.loads(seen["body"])["model"]) == ("/v1/chat/completions", "good")
    headers = seen["headers"]
    assert headers["authorization"] == "Bearer sk-alpha"
    assert (headers["openai-organization"], headers["x-alpha"]) == ("org-alpha", "only-alpha")
    assert headers["host"].partition(":")[0] == ("localhost" if way == "tls" else "127.0.0.1")
    assert not [name for name in headers if name.startswith(("x-gw", "x-envoy", "x-forwarded", "x-request-id"))]
    line = world.gateway.logged(answer.headers)
    assert (line["gen_ai.provider.name"], line["upstream_model"], line["attempts"]) == (way, "good", 1)
    assert line["gen_ai.usage.output_tokens"]


@pytest.mark.parametrize("way", WAYS)
def test_a_fallback_gets_nothing_of_it(world: World, way: str) -> None:
    before = world.hops()
    answer = world.ask(f"{way}-fails")
    assert answer.json["system_fingerprint"] == "beta"
    assert world.hops() == before + 1
    (seen,) = world.asked("beta")
    assert seen["path"] == "/openai/deployments/second/chat/completions?api-version=2024-10-21"
    assert json.loads(seen["body"])["model"] == "second"
    headers = seen["headers"]
    assert headers["api-key"] == "sk-beta"
    assert headers["host"] == f"127.0.0.1:{world.providers['beta'].port}"
    assert not {"authorization", "openai-organization", "x-alpha", "x-request-id"} & set(headers)
    assert "alpha" not in json.dumps(seen)
    line = world.gateway.logged(answer.headers)
    assert (line["gen_ai.provider.name"], line["upstream_model"], line["attempts"]) == ("beta", "second", 2)


@pytest.mark.parametrize("model", ["unknown", "nowhere", "gone", *(f"{way}-refused" for way in WAYS)])
def test_who_cannot_be_asked_has_a_fallback(world: World, model: str) -> None:
    """A certificate of somebody else, a name without an address, nobody there; and a key that is refused."""
    assert world.ask(model).json["system_fingerprint"] == "beta"
    assert "sk-alpha" not in json.dumps(world.asked("beta"))


def test_why_is_told(world: World) -> None:
    for model, reason in (("unknown", "CERTIFICATE_VERIFY_FAILED"), ("gone", "Connection_refused")):
        assert world.ask(model).status == 200
        assert world.gateway.complains(reason), world.gateway.complaints()


@pytest.mark.parametrize("way", WAYS)
def test_who_fails_again_and_again_is_put_aside_for_that_model_only(world: World, way: str) -> None:
    for _turn in range(20):
        assert world.ask(f"{way}-aside").json["system_fingerprint"] == "beta"
    assert len(world.asked("alpha")) == 5
    assert world.ask(f"{way}-good").json["system_fingerprint"] == "alpha"


@pytest.mark.parametrize("way", WAYS)
def test_the_first_again_when_all_have_failed(world: World, way: str) -> None:
    """With the fallback put aside the first is asked twice, and its answer goes to the client."""
    world.providers["beta"].control(status=500)
    answers = [world.ask(f"{way}-fails") for _turn in range(8)]
    assert {answer.status for answer in answers} <= {500, 503}
    assert {seen["headers"]["authorization"] for seen in world.asked("alpha")} == {"Bearer sk-alpha"}
    assert {seen["headers"]["api-key"] for seen in world.asked("beta")} == {"sk-beta"}
    assert {seen["path"] for seen in world.asked("alpha")} == {"/v1/chat/completions"}
    assert not [seen for seen in world.asked("beta") if "alpha" in json.dumps(seen)]


@pytest.mark.parametrize("way", WAYS)
def test_large_bodies(world: World, way: str) -> None:
    size = MAX_BODY - 1000
    assert world.ask(f"{way}-good", x="x" * size, x_size=size).status == 200
    world.providers["alpha"].control(status=500, times=1)
    assert world.ask(f"{way}-good", x="x" * size).json["system_fingerprint"] == "beta"
    seen = [*world.asked("alpha"), *world.asked("beta")]
    assert len(seen) == 3
    assert all(int(each["headers"]["content-length"]) > size for each in seen)


def test_who_moves_loses_nothing(world: World) -> None:
    """From an address to a tunnel, through the egress listener, and back."""
    spec = deepcopy(world.raw)
    places = [world.raw["gateway_providers"][way]["base_url"] for way in ("tls", "plain")]
    with load(lambda: world.ask("plain-good")) as statuses:
        for url in (places[0], f"{world.providers['alpha'].url}/elsewhere/v1", places[0], places[1]):
            spec["gateway_providers"]["plain"]["base_url"] = url
            world.gateway.switch(spec)
            answer = world.ask("plain-good")
            assert (answer.status, answer.json["system_fingerprint"]) == (200, "alpha")
    assert set(statuses) == {200}
    assert not world.asked("beta")
