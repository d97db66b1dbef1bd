"""Limits on tokens that a rate limit service keeps: exact for several gateways, and what happens without it."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from contract.certificates import Authority
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers
from contract.rate_limiter import Limiter, rate_limiter
from contract.test_envoy_requests import Answer, call, chat

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.rate_limit_service import rate_limit_config
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

MINUTE, DAY = ("tokens_per", "minute"), ("tokens_per", "day")


def eventually(look: Callable[[], bool]) -> bool:
    """What a request has cost is told when it is done, which its client may see a moment earlier."""
    end = time.monotonic() + 5
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@dataclass
class World:
    gateways: list[Gateway]
    ports: list[int]
    limiter: Limiter
    alpha: Provider
    raw: dict[str, Any]

    def ask(self, consumer: str, model: str = "free", tokens: int = 100, at: int = 0, **extra: Any) -> Answer:
        """Ask for an answer that costs so many tokens, and wait until it is counted."""
        usage = {"prompt_tokens": 1, "completion_tokens": tokens - 1, "total_tokens": tokens}
        raw = json.dumps({"object": "chat.completion", "choices": [], "usage": usage})
        before = len(self.charges(consumer))
        answer = call(self.ports[at], body=chat(model, x_raw=raw, **extra), key=f"sk-{consumer}")
        if answer.status == 200:
            eventually(lambda: len(self.charges(consumer)) > before)
        return answer

    def charges(self, consumer: str) -> list[int]:
        return [hits for entries, hits in list(self.limiter.calls) if hits and ("consumer", consumer) in entries]

    def used(self, consumer: str, *more: tuple[str, str]) -> int:
        return self.limiter.used_of(("consumer", consumer), *(more or (MINUTE,)))


def raw_spec(port: int, provider: Provider, service: dict[str, Any]) -> dict[str, Any]:
    def consumer(name: str, **limits: Any) -> dict[str, Any]:
        return {"api_keys": [f"env://{name.upper()}"], "models": ["*"], "limits": limits}

    return {
        "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": free_port()},
        "gateway_size": {"concurrency": 2},
        "gateway_rate_limit_service": {"address": "127.0.0.1", "timeout": "2s", **service},
        "gateway_providers": {
            "alpha": {"type": "openai", "base_url": f"{provider.url}/v1", "api_key": "env://ALPHA"},
        },
        "gateway_models": {
            **{name: {"targets": [{"provider": "alpha", "model": name}]} for name in ("free", "big")},
            "shared": {"targets": [{"provider": "alpha", "model": "s"}], "limits": {"tokens_per_minute": 700}},
        },
        "gateway_consumers": {
            **{f"own{n}": consumer(f"own{n}", tokens_per_minute=1000) for n in range(6)},
            "daily": consumer("daily", tokens_per_minute=5000, tokens_per_day=2000),
            "two": consumer("two", models={"big": {"tokens_per_minute": 300, "tokens_per_day": 100000}}),
            "mixed": consumer("mixed", requests_per_minute=4, tokens_per_minute=1000),
            "free": consumer("free"),
        },
    }


@contextmanager
def world_of(folder: Path, number: int = 1, tls: ssl.SSLContext | None = None, **service: Any) -> Iterator[World]:
    with ExitStack() as stack:
        alpha = stack.enter_context(providers("alpha"))["alpha"]
        spec = parse_spec(raw_spec(1, alpha, service))
        assert spec.rate_limit_service
        # As the service gets it: through a file.
        config = yaml.safe_load(yaml.safe_dump(rate_limit_config(spec, spec.rate_limit_service)))
        limiter, port = stack.enter_context(rate_limiter(config, tls))
        ports = [free_port() for _host in range(number)]
        raws = [raw_spec(each, alpha, {"port": port, **service}) for each in ports]
        running = [
            stack.enter_context(gateway(folder / str(index), raw, fleet_size=number)) for index, raw in enumerate(raws)
        ]
        yield World(running, ports, limiter, alpha, raws[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(tmp_path_factory.mktemp("gateways"), 2) as found:
        yield found


@pytest.fixture(autouse=True)
def _whole_minutes() -> None:
    """Windows are whole minutes: no test begins at the end of one."""
    if time.time() % 60 > 50:
        time.sleep(60.1 - time.time() % 60)


def test_a_limit_is_exact_for_all_hosts(world: World) -> None:
    statuses = [world.ask("own0", tokens=250, at=turn % 2).status for turn in range(8)]
    # A limit that is used up to the last token refuses from the next one on.
    assert statuses == [200] * 5 + [429] * 3
    assert world.used("own0") == 1250
    assert world.ask("own1", at=1).status == 200


def test_what_a_client_is_told(world: World) -> None:
    answer = world.ask("own2", tokens=1001)
    assert [answer.headers[f"x-ratelimit-{what}-tokens"] for what in ("limit", "remaining")] == ["1000", "1000"]
    refused = world.ask("own2", at=1)
    seconds = refused.headers["retry-after"]
    assert (refused.status, 1 <= int(seconds) <= 60) == (429, True)
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    assert refused.headers["x-ratelimit-reset-tokens"].endswith("s")
    assert refused.error == {
        "message": f"Rate limit reached for 'own2' on tokens per minute. Please try again in {seconds}s.",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    for told in (answer, refused):
        internal = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-envoy-ratelimited")
        assert not [name for name in told.headers if name.startswith("x-gw") or name in internal]
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{world.ports[0]}/v1", api_key="sk-own2", max_retries=0)
    with client, pytest.raises(openai.RateLimitError) as error:
        client.embeddings.create(model="free", input="x")
    assert error.value.type == "tokens"
    # Who is refused pays nothing.
    assert world.used("own2") == 1001
    sent = world.alpha.seen()[-1]["headers"]
    assert not [name for name in sent if name.startswith("x-gw")]


def test_limits_for_a_day(world: World) -> None:
    assert world.ask("daily", tokens=2500).status == 200
    refused = world.ask("daily", at=1)
    assert refused.error["message"].startswith("Rate limit reached for 'daily' on tokens per day. Please try again in ")
    world.limiter.ahead = 86400
    try:
        assert world.ask("daily").status == 200
    finally:
        world.limiter.ahead = 0
    assert world.used("daily", DAY) == world.used("daily") == 2600


def test_limits_for_models(world: World) -> None:
    assert [world.ask("two", "big", 400, at).status for at in (0, 1, 0)] == [200, 429, 429]
    assert world.used("two", ("model", "big"), MINUTE) == world.used("two", ("model", "big"), DAY) == 400
    assert "'two' on tokens per minute for the model 'big'." in world.ask("two", "big").error["message"]
    assert [world.ask("two", "free", 100000).status for _turn in range(2)] == [200] * 2
    assert world.ask("own3", "shared", 800).status == 200
    assert eventually(lambda: world.limiter.used_of(("model", "shared"), MINUTE) == 800)
    refused = world.ask("free", "shared", at=1)
    assert "the model 'shared' on tokens per minute of all consumers." in refused.error["message"]


def test_who_has_no_limit_is_not_asked_for(world: World) -> None:
    before = len(world.limiter.calls)
    answer = world.ask("free", "free")
    assert not [name for name in answer.headers if "ratelimit" in name]
    assert len(world.limiter.calls) == before


def test_requests_stay_with_the_host(world: World) -> None:
    answers = [world.ask("mixed", tokens=100) for _turn in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[-1].error["type"] == "requests"
    assert answers[0].headers["x-ratelimit-limit-requests"] == "2"
    assert world.used("mixed") == 200


def test_what_fails_costs_nothing(world: World) -> None:
    call(world.ports[0], body=chat("free", x_status=400), key="sk-own4")
    world.ask("own4", tokens=7)
    assert world.used("own4") == 7


def test_a_stream_costs_its_usage_and_who_leaves_pays_for_what_has_come(world: World) -> None:
    answer = call(world.ports[0], body=chat("free", stream=True, x_chunks=50), key="sk-own5")
    line = world.gateways[0].logged(answer.headers)
    whole = line["gen_ai.usage.input_tokens"] + line["gen_ai.usage.output_tokens"]
    assert eventually(lambda: world.used("own5") == whole)
    connection = http.client.HTTPConnection("127.0.0.1", world.ports[0], timeout=20)
    body = json.dumps(chat("free", stream=True, x_chunks=400, x_delay=0.005))
    headers = {"authorization": "Bearer sk-own5", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    with connection.getresponse() as response:
        for _line in range(200):
            response.readline()
    connection.close()
    assert eventually(lambda: world.used("own5") > whole)
    # About a token for each event, and something for the request.
    assert 100 <= world.used("own5") - whole <= 330


def test_new_limits_leave_the_listener_alone(tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        raw = json.loads(json.dumps(world.raw))
        raw["gateway_consumers"]["free"]["limits"] = {"tokens_per_day": 10}
        raw["gateway_models"]["big"]["limits"] = {"tokens_per_day": 10}
        (started,) = world.gateways
        started.switch(raw)
        del raw["gateway_rate_limit_service"], raw["gateway_models"]["big"]["limits"]
        for consumer in raw["gateway_consumers"].values():
            consumer["limits"] = {"tokens_per_minute": 1000}
        started.switch(raw)
        assert world.ask("free", tokens=2000).status == 200
        # What is owed is known to the worker that had the answer.
        assert any(world.ask("free").status == 429 for _turn in range(20))
        assert not world.charges("free")
        started.switch(world.raw)
        assert world.ask("own0").status == 200
        assert world.used("own0") == 100
        for what in ("listener_modified", "listener_in_place_updated", "listener_removed"):
            assert started.statistic(f"listener_manager.{what}") == 0


@pytest.mark.parametrize("silent", [True, False])
def test_without_the_service_all_is_served_where_the_spec_says_so(tmp_path: Path, silent: bool) -> None:
    service = {"timeout": "50ms"} if silent else {"timeout": "50ms", "port": free_port()}
    with world_of(tmp_path, **service) as world:
        world.limiter.silent = True
        answers = [call(world.ports[0], body=chat("free"), key="sk-own0") for _turn in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        world.limiter.silent = False
        if silent:
            assert [world.ask("own0", tokens=2000).status for _turn in range(2)] == [200, 429]


@pytest.mark.parametrize("silent", [True, False])
def test_without_the_service_who_has_limits_is_refused_where_the_spec_says_so(tmp_path: Path, silent: bool) -> None:
    service = {"timeout": "50ms"} if silent else {"timeout": "50ms", "port": free_port()}
    with world_of(tmp_path, on_failure="deny", **service) as world:
        world.limiter.silent = True
        answer = call(world.ports[0], body=chat("free"), key="sk-own0")
        assert answer.status == 503
        assert answer.error == {
            "message": "The gateway cannot look at your limits now. Please try again later.",
            "type": "server_error",
            "param": None,
            "code": "rate_limit_service_unavailable",
        }
        assert call(world.ports[0], body=chat("free"), key="sk-free").status == 200
        world.limiter.silent = False
        if silent:
            assert world.ask("own0").status == 200


@pytest.mark.parametrize("trusted", [True, False])
def test_the_service_shows_who_it_is(tmp_path: Path, trusted: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.sign("limits", "127.0.0.1")
    context.load_cert_chain(certificate, key)
    known = authority if trusted else Authority(tmp_path, "others")
    tls = {"ca": str(known.certificate)}
    with world_of(tmp_path, tls=context, on_failure="deny") as world:
        world.raw["gateway_rate_limit_service"]["tls"] = tls
        world.gateways[0].switch(world.raw)
        answers = [world.ask("own0", tokens=2000) for _turn in range(2)]
        assert [answer.status for answer in answers] == ([200, 429] if trusted else [503] * 2)
