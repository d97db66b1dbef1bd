"""What one provider gets and no other: its headers, its certificate, its way through a proxy, its kind of URL."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway
from contract.test_envoy_requests import ALL, CHAT, Answer, call, chat


@dataclass
class World:
    gateway: Gateway
    port: int
    providers: dict[str, Provider]

    def ask(self, model: str, *, headers: tuple[tuple[str, str], ...] = (), **extra: object) -> Answer:
        """Ask with headers of which a name may be there twice."""
        if not headers:
            return call(self.port, body=chat(model, **extra))
        body = json.dumps(chat(model, **extra)).encode()
        lines = [f"POST {CHAT} HTTP/1.1", "host: x", f"authorization: Bearer {ALL}", "connection: close"]
        lines += [f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in headers)]
        with closing(socket.create_connection(("127.0.0.1", self.port), 10)) as client:
            client.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            received = b"".join(iter(lambda: client.recv(65536), b""))
        return Answer(int(received.split(b" ")[1]), {}, received.partition(b"\r\n\r\n")[2].decode())

    def seen(self, name: str) -> list[dict[str, Any]]:
        return self.providers[name].seen()


def spec(port: int, up: dict[str, Provider]) -> dict[str, Any]:
    return {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": free_port()},
        "gateway_providers": {
            "alpha": {
                "type": "openai",
                "base_url": f"{up['alpha'].url}/v1",
                "api_key": "env://ALPHA",
                "headers": {"OpenAI-Organization": "org-alpha", "X-Title": "100% %REQ(authorization)%"},
            },
            "beta": {"type": "openai_compatible", "base_url": f"{up['beta'].url}/v1", "headers": {"x-beta": "only"}},
            "azure": {
                "type": "azure_openai",
                "base_url": f"{up['azure'].url}/team",
                "api_version": "v1",
                "api_key": "env://AZURE",
            },
        },
        "gateway_models": {
            "alpha": {"targets": [{"provider": "alpha", "model": "m"}]},
            "beta": {"targets": [{"provider": "beta", "model": "m"}]},
            "alpha-beta": {
                "targets": [{"provider": "alpha", "model": "fail-500"}],
                "fallbacks": [{"provider": "beta", "model": "m"}],
            },
            "beta-alpha": {
                "targets": [{"provider": "beta", "model": "fail-500"}],
                "fallbacks": [{"provider": "alpha", "model": "m"}],
            },
            "azure": {"targets": [{"provider": "azure", "model": "deployment-eu"}]},
            "beta-azure": {
                "targets": [{"provider": "beta", "model": "fail-500"}],
                "fallbacks": [{"provider": "azure", "model": "deployment-us"}],
            },
        },
        "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        up = {}
        for name, arguments in {
            "alpha": ("--api-key", "sk-alpha"),
            "beta": (),
            "azure": ("--api-key", "sk-azure"),
        }.items():
            up[name] = Provider(name, *arguments)
            stack.callback(up[name].stop)
        port = free_port()
        yield World(stack.enter_context(gateway(tmp_path_factory.mktemp("gateway"), spec(port, up))), port, up)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for provider in world.providers.values():
        provider.reset()


OURS = {"openai-organization": "org-alpha", "x-title": "100% %REQ(authorization)%"}


class TestHeaders:
    def test_are_added_as_they_are_written(self, world: World) -> None:
        assert world.ask("alpha").status == 200
        (seen,) = world.seen("alpha")
        assert OURS.items() <= seen["headers"].items()

    def test_a_clients_never_win(self, world: World) -> None:
        theirs = tuple(
            (name, value) for name in ("X-Title", "openai-organization") for value in ("theirs", "theirs-too")
        )
        assert world.ask("alpha", headers=theirs).status == 200
        (seen,) = world.seen("alpha")
        assert OURS.items() <= seen["headers"].items()
        assert "theirs" not in json.dumps(seen)

    def test_others_get_what_the_client_sent(self, world: World) -> None:
        assert world.ask("beta", headers=(("X-Title", "theirs"),)).status == 200
        (seen,) = world.seen("beta")
        assert (seen["headers"]["x-title"], seen["headers"]["x-beta"]) == ("theirs", "only")
        assert "openai-organization" not in seen["headers"]

    @pytest.mark.parametrize(("first", "then"), [("alpha", "beta"), ("beta", "alpha")])
    def test_each_attempt_has_its_own(self, world: World, first: str, then: str) -> None:
        assert world.ask(f"{first}-{then}").status == 200
        (alpha,), (beta,) = world.seen("alpha"), world.seen("beta")
        assert OURS.items() <= alpha["headers"].items()
        assert "x-beta" not in alpha["headers"]
        assert beta["headers"]["x-beta"] == "only"
        assert not OURS.keys() & beta["headers"].keys()
        assert "org-alpha" not in json.dumps(beta)
        assert "sk-alpha" not in json.dumps(beta)


class TestAzureWithoutVersion:
    @pytest.mark.parametrize(("model", "deployment"), [("azure", "deployment-eu"), ("beta-azure", "deployment-us")])
    def test_the_deployment_is_in_the_body_only(self, world: World, model: str, deployment: str) -> None:
        assert world.ask(model).json["model"] == deployment
        (seen,) = world.seen("azure")
        assert seen["path"] == "/team/openai/v1/chat/completions"
        assert json.loads(seen["body"])["model"] == deployment
        assert seen["headers"]["api-key"] == "sk-azure"
        assert "authorization" not in seen["headers"]

    def test_streams_are_asked_for_their_usage(self, world: World) -> None:
        answer = world.ask("azure", stream=True)
        assert answer.text.endswith("data: [DONE]\n\n")
        (seen,) = world.seen("azure")
        assert json.loads(seen["body"])["stream_options"] == {"include_usage": True}
        assert "total_tokens" not in answer.text
