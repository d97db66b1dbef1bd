"""Random bodies through a running Envoy: its LuaJIT does with them what lupa's does, with which the fuzz tests run."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from contract.gateway_process import Provider, free_port, gateway, providers
from json_bodies import MODELS, random_body
from script_fuzz import CHAT, Fuzz

BODIES = 3000
NEW_NAME = "upstream/name"


@dataclass
class World:
    port: int
    alpha: Provider


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    with providers("alpha") as running:
        alpha = running["alpha"]
        renamed = {"targets": [{"provider": "alpha", "model": NEW_NAME}]}
        twice = {"targets": renamed["targets"], "fallbacks": [{"provider": "alpha", "model": "second"}]}
        raw = {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {"alpha": {"type": "openai", "base_url": f"{alpha.url}/v1", "api_key": "env://ALPHA"}},
            "gateway_models": {**dict.fromkeys(MODELS, renamed), MODELS[0]: twice},
            "gateway_consumers": {"team": {"api_keys": ["env://TEAM"], "models": ["*"]}},
        }
        with gateway(tmp_path_factory.mktemp("gateway"), raw):
            yield World(port, alpha)


def test_envoy_reads_as_the_fuzz_tests_do(world: World) -> None:
    seed = random.SystemRandom().getrandbits(32)
    dice, fuzz = random.Random(seed), Fuzz(seed)
    sent = 0
    with closing(http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)) as connection:
        for _turn in range(BODIES):
            body = random_body(dice)
            wanted = fuzz.reader.ask(body, NEW_NAME, **fuzz.asking(CHAT))
            connection.request("POST", CHAT, body, {"authorization": "Bearer sk-team"})
            answer = connection.getresponse()
            text = answer.read()
            model = wanted.headers[b"x-gw-model"]
            if model is None:
                assert answer.status == 400, (seed, body)
                assert json.loads(text)["error"]["message"] == wanted.message.decode(), (seed, body)
            elif model.decode() not in MODELS:
                assert answer.status == 404, (seed, body)
            else:
                seen = world.alpha.seen()[-1]
                if seen["body"] is not None:
                    assert seen["body"] == wanted.body.decode("utf-8", "replace"), (seed, body)
                # The provider's own parser has read it; what it cannot read has no model.
                assert seen["model"] in (NEW_NAME, None), (seed, body)
                assert (seen["model"] is None) == (answer.status == 400), (seed, body)
                sent += 1
    assert sent > BODIES / 10
