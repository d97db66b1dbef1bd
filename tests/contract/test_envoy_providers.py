"""How a running gateway asks providers: weights, several URLs, fallbacks, timeouts, credentials, TLS."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import Gateway, Provider, free_port, gateway
from contract.test_envoy_requests import ALL, CHAT, Answer, call, chat

HOSTS = Path("/etc/hosts")


@dataclass
class World:
    gateway: Gateway
    port: int
    secure_port: int
    providers: dict[str, Provider]
    silent: socket.socket
    authority: Authority

    def ask(self, model: str, **extra: object) -> Answer:
        return call(self.port, body=chat(model, **extra))

    def seen(self, name: str) -> list[dict[str, Any]]:
        return self.providers[name].seen()


def spec(
    world_port: int, secure_port: int, up: dict[str, Provider], silent: int, tls: tuple[Path, Path]
) -> dict[str, Any]:
    """One model for each thing to see, since five failures in a row put a model's target aside."""
    compatible = "openai_compatible"
    alpha_then_beta = {"fallbacks": [{"provider": "beta", "model": "beta-name"}]}

    def failing(model: str) -> dict[str, Any]:
        return {"targets": [{"provider": "alpha", "model": model}], **alpha_then_beta}

    quick = {"first_byte": "500ms", "idle": "1s"}
    return {
        "gateway_listeners": {
            "plain": {"address": "127.0.0.1", "port": world_port},
            "secure": {
                "address": "127.0.0.1",
                "port": secure_port,
                "tls": {"certificate": str(tls[0]), "private_key": str(tls[1])},
            },
        },
        "gateway_metrics": {"port": free_port()},
        "gateway_providers": {
            "alpha": {"type": "openai", "base_url": f"{up['alpha'].url}/team/a/v1", "api_key": "env://ALPHA"},
            "beta": {
                "type": "azure_openai",
                "base_url": up["beta"].url,
                "api_version": "2024-10-21",
                "api_key": "env://BETA",
            },
            "gamma": {"type": compatible, "base_url": [f"{up['gamma1'].url}/v1", f"{up['gamma2'].url}/v1"]},
            "half": {"type": compatible, "base_url": [f"{up['gamma1'].url}/v1", f"http://127.0.0.1:{free_port()}/v1"]},
            "gone": {"type": compatible, "base_url": f"http://127.0.0.1:{free_port()}/v1", "api_key": "env://GONE"},
            "silent": {"type": compatible, "base_url": f"http://127.0.0.1:{silent}/v1"},
            "nowhere": {"type": compatible, "base_url": "http://name.invalid/v1"},
            "named": {"type": compatible, "base_url": f"http://{local_name()}:{up['gamma1'].port}/v1"},
            "tls": {"type": compatible, "base_url": f"{up['tls'].url}/v1", "api_key": "env://TLS"},
            "tls-named": {
                "type": compatible,
                "base_url": f"https://localhost:{up['tls'].port}/v1",
                "api_key": "env://TLS",
            },
            "tls-several": {
                "type": compatible,
                "base_url": [f"{up['tls'].url}/v1", f"https://localhost:{up['tls2'].port}/v1"],
                "api_key": "env://TLS",
            },
            "tls-stranger": {"type": compatible, "base_url": f"{up['stranger'].url}/v1", "api_key": "env://TLS"},
            "tls-misnamed": {"type": compatible, "base_url": f"{up['misnamed'].url}/v1", "api_key": "env://TLS"},
        },
        "gateway_models": {
            "weighted": {
                "targets": [
                    {"provider": "gamma", "model": "three", "weight": 3},
                    {"provider": "alpha", "model": "one", "weight": 1},
                    {"provider": "beta", "model": "never", "weight": 0},
                ]
            },
            "spread": {"targets": [{"provider": "gamma", "model": "m"}]},
            "half": {"targets": [{"provider": "half", "model": "m"}]},
            "named": {"targets": [{"provider": "named", "model": "m"}]},
            "on-429": failing("fail-429"),
            "on-500": failing("fail-500"),
            "on-503": failing("fail-503"),
            "on-reset": failing("fail-reset"),
            "on-400": failing("fail-400"),
            "on-401": failing("fail-401"),
            "on-403": failing("fail-403"),
            "on-refused": {"targets": [{"provider": "gone", "model": "m"}], **alpha_then_beta},
            "on-no-address": {"targets": [{"provider": "nowhere", "model": "m"}], **alpha_then_beta},
            "on-slow": {**failing("slow-first-byte"), "timeouts": quick},
            "on-silent": {"targets": [{"provider": "silent", "model": "m"}], "timeouts": quick, **alpha_then_beta},
            "twice": {
                "targets": [{"provider": "alpha", "model": "fail-500"}],
                "fallbacks": [{"provider": "gone", "model": "x"}, {"provider": "gamma", "model": "last"}],
            },
            "all-fail": {
                "targets": [{"provider": "alpha", "model": "fail-500"}],
                "fallbacks": [{"provider": "beta", "model": "fail-429"}],
            },
            "put-aside": failing("fail-502"),
            "alone-429": {"targets": [{"provider": "alpha", "model": "fail-429"}]},
            "alone-401": {"targets": [{"provider": "alpha", "model": "fail-401"}]},
            "alone-gone": {"targets": [{"provider": "gone", "model": "m"}]},
            "alone-no-address": {"targets": [{"provider": "nowhere", "model": "m"}]},
            "alone-slow": {"targets": [{"provider": "alpha", "model": "slow-first-byte"}], "timeouts": quick},
            "quick": {"targets": [{"provider": "gamma", "model": "m"}], "timeouts": quick},
            **{name: {"targets": [{"provider": name, "model": name}]} for name in up_names("tls")},
        },
        "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
    }


def local_name() -> str:
    """A name that only the hosts file knows; resolvers may know `localhost` by themselves."""
    entries = [line.partition("#")[0].split() for line in HOSTS.read_text().splitlines()]
    names = [name for entry in entries if entry[:1] == ["127.0.0.1"] for name in entry[1:]]
    return next((name for name in names if name != "localhost"), "localhost")


def up_names(prefix: str) -> list[str]:
    return [prefix, *(f"{prefix}-{rest}" for rest in ("named", "several", "stranger", "misnamed"))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    authority, stranger = Authority(folder, "ca"), Authority(folder, "stranger")
    with ExitStack() as stack:
        up: dict[str, Provider] = {}

        def start(name: str, *arguments: str, tls: tuple[Path, Path] | None = None) -> None:
            given = [] if tls is None else ["--tls-cert", str(tls[0]), "--tls-key", str(tls[1])]
            up[name] = Provider(name, *arguments, *given, scheme="http" if tls is None else "https")
            stack.callback(up[name].stop)

        start("alpha", "--api-key", "sk-alpha")
        start("beta", "--api-key", "sk-beta")
        start("gamma1")
        start("gamma2")
        start("tls", "--api-key", "sk-tls", tls=authority.sign("provider", "127.0.0.1", "localhost"))
        start("tls2", "--api-key", "sk-tls", tls=authority.sign("provider2", "localhost"))
        start("stranger", tls=stranger.sign("stranger-provider", "127.0.0.1"))
        start("misnamed", tls=authority.sign("misnamed", "localhost", "127.0.0.2"))
        silent = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        ports = free_port(), free_port()
        raw = spec(*ports, up, silent.getsockname()[1], authority.sign("gateway", "localhost"))
        started = stack.enter_context(gateway(folder, raw, ca_file=str(authority.certificate)))
        yield World(started, *ports, up, silent, authority)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for name in ("alpha", "beta", "gamma1", "gamma2"):
        world.providers[name].reset()


class TestSpreading:
    def test_weights(self, world: World) -> None:
        asked = Counter(world.ask("weighted").json["model"] for _turn in range(80))
        assert set(asked) == {"three", "one"}
        assert 50 <= asked["three"] <= 70

    def test_several_urls(self, world: World) -> None:
        answered = Counter(world.ask("spread").json["system_fingerprint"] for _turn in range(60))
        assert min(answered["gamma1"], answered["gamma2"]) >= 15

    def test_a_url_that_is_gone_is_left_out(self, world: World) -> None:
        assert {world.ask("half").status for _turn in range(20)} == {200}

    def test_no_key_for_who_has_none(self, world: World) -> None:
        assert world.ask("quick").status == 200
        (seen,) = world.seen("gamma1") + world.seen("gamma2")
        assert "authorization" not in seen["headers"]
        assert "api-key" not in seen["headers"]

    def test_a_name_of_the_hosts_file(self, world: World) -> None:
        assert world.ask("named").status == 200
        assert world.seen("gamma1")[0]["headers"]["host"] == f"{local_name()}:{world.providers['gamma1'].port}"


class TestFallbacks:
    @pytest.mark.parametrize("model", ["on-401", "on-429", "on-500", "on-503", "on-reset"])
    def test_the_next_one_answers(self, world: World, model: str) -> None:
        answer = world.ask(model)
        assert (answer.status, answer.json["model"]) == (200, "beta-name")
        (first,) = world.seen("alpha")
        assert first["path"] == "/team/a/v1/chat/completions"
        assert first["headers"]["authorization"] == "Bearer sk-alpha"
        assert first["headers"]["host"] == f"127.0.0.1:{world.providers['alpha'].port}"
        assert "api-key" not in first["headers"]
        (second,) = world.seen("beta")
        assert second["path"] == "/openai/deployments/beta-name/chat/completions?api-version=2024-10-21"
        assert second["headers"]["api-key"] == "sk-beta"
        assert second["headers"]["host"] == f"127.0.0.1:{world.providers['beta'].port}"
        assert "authorization" not in second["headers"]
        assert "sk-alpha" not in json.dumps(second)
        assert json.loads(second["body"])["model"] == "beta-name"
        line = world.gateway.logged(answer.headers)
        assert (line["gen_ai.provider.name"], line["upstream_model"], line["attempts"]) == ("beta", "beta-name", 2)

    @pytest.mark.parametrize("model", ["on-refused", "on-no-address"])
    def test_when_there_is_nobody(self, world: World, model: str) -> None:
        assert world.ask(model).json["model"] == "beta-name"

    @pytest.mark.parametrize("model", ["on-slow", "on-silent"])
    def test_when_it_does_not_begin(self, world: World, model: str) -> None:
        started = time.monotonic()
        assert world.ask(model).json["model"] == "beta-name"
        assert 0.5 <= time.monotonic() - started < 2

    def test_a_stream_falls_back_before_it_begins(self, world: World) -> None:
        answer = world.ask("on-503", stream=True)
        assert answer.text.endswith("data: [DONE]\n\n")
        assert "beta-name" in answer.text

    @pytest.mark.parametrize(("model", "status"), [("on-400", 400), ("on-403", 403)])
    def test_other_answers_are_passed_on(self, world: World, model: str, status: int) -> None:
        answer = world.ask(model)
        assert (answer.status, answer.error["type"]) == (status, "upstream_error")
        assert not world.seen("beta")

    def test_in_their_order(self, world: World) -> None:
        answer = world.ask("twice")
        assert (answer.status, answer.json["model"]) == (200, "last")
        assert world.gateway.logged(answer.headers)["attempts"] == 3

    def test_the_last_answer_counts(self, world: World) -> None:
        assert world.ask("all-fail").status == 429
        assert len(world.seen("alpha")) == len(world.seen("beta")) == 1

    def test_a_large_body_goes_to_the_fallback_too(self, world: World) -> None:
        size = 10 * 1024 * 1024 - 100
        assert world.ask("on-500", x="x" * size).status == 200
        assert int(world.seen("beta")[0]["headers"]["content-length"]) > size

    def test_who_fails_again_and_again_is_put_aside(self, world: World) -> None:
        assert {world.ask("put-aside").status for _turn in range(12)} == {200}
        assert 5 <= len(world.seen("alpha")) < 12


class TestAlone:
    def test_its_own_429_is_passed_on_every_time(self, world: World) -> None:
        answers = [world.ask("alone-429") for _turn in range(8)]
        assert {answer.status for answer in answers} == {429}
        assert {answer.json["error"]["type"] for answer in answers} == {"upstream_error"}

    @pytest.mark.parametrize("model", ["alone-gone", "alone-no-address"])
    def test_unreachable(self, world: World, model: str) -> None:
        for _turn in range(7):
            answer = world.ask(model)
            assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert world.gateway.complains('"event":"provider_failed"')

    def test_a_refused_key_is_not_the_clients_fault(self, world: World) -> None:
        answer = world.ask("alone-401")
        assert (answer.status, answer.error["code"]) == (502, "refused_key")
        assert world.gateway.logged(answer.headers)["gen_ai.provider.name"] == "alpha"
        assert world.ask("alone-401", stream=True).status == 502

    def test_too_slow(self, world: World) -> None:
        answer = world.ask("alone-slow")
        assert (answer.status, answer.error["code"]) == (504, "timeout")


class TestTimeouts:
    def test_a_stream_may_take_longer_than_the_first_byte(self, world: World) -> None:
        assert world.ask("quick", stream=True, x_chunks=6, x_delay=0.3).text.endswith("data: [DONE]\n\n")

    def test_a_silence_ends_it(self, world: World) -> None:
        started = time.monotonic()
        with closing(socket.create_connection(("127.0.0.1", world.port))) as client:
            body = json.dumps(chat("quick", stream=True, x_chunks=3, x_delay=5)).encode()
            head = (
                f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALL}\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body)
            received = b""
            while part := client.recv(65536):
                received += part
        assert b"200 OK" in received
        assert b"[DONE]" not in received
        # Envoy gives the client a second to take in what was sent.
        assert 0.9 < time.monotonic() - started < 3

    def test_a_client_that_leaves_ends_the_request(self, world: World) -> None:
        body = json.dumps(chat("spread", stream=True, x_chunks=100, x_delay=0.1)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALL}\r\ncontent-length: {len(body)}\r\n\r\n"
        with closing(socket.create_connection(("127.0.0.1", world.port))) as client:
            client.sendall(head.encode() + body)
            client.recv(1000)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            (seen,) = world.seen("gamma1") + world.seen("gamma2")
            if seen["complete"] is False and seen["status"] is None:
                time.sleep(0.2)
                break
        active = world.gateway.statistic("http.egress.downstream_rq_active")
        assert active == 0


class TestTls:
    @pytest.mark.parametrize("model", ["tls", "tls-named"])
    def test_a_verified_provider(self, world: World, model: str) -> None:
        answer = world.ask(model)
        assert (answer.status, answer.json["system_fingerprint"]) == (200, "tls")

    def test_several_names(self, world: World) -> None:
        answered = Counter(world.ask("tls-several").json["system_fingerprint"] for _turn in range(40))
        assert set(answered) == {"tls", "tls2"}

    @pytest.mark.parametrize(
        ("model", "reason"), [("tls-stranger", "CERTIFICATE_VERIFY_FAILED"), ("tls-misnamed", "SAN")]
    )
    def test_others_get_nothing(self, world: World, model: str, reason: str) -> None:
        answer = world.ask(model)
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert world.gateway.complains(reason)

    def test_clients_may_use_it(self, world: World) -> None:
        assert self.negotiated(world, ssl.TLSVersion.TLSv1_2, ["http/1.1"]) == ("TLSv1.2", "http/1.1")
        assert self.negotiated(world, ssl.TLSVersion.TLSv1_3, ["h2", "http/1.1"]) == ("TLSv1.3", "h2")

    def test_not_an_old_version(self, world: World) -> None:
        with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises(ssl.SSLError):
            self.negotiated(world, ssl.TLSVersion.TLSv1_1, [])

    def negotiated(self, world: World, version: ssl.TLSVersion, protocols: list[str]) -> tuple[str | None, str | None]:
        context = ssl.create_default_context(cafile=str(world.authority.certificate))
        context.minimum_version = context.maximum_version = version
        if protocols:
            context.set_alpn_protocols(protocols)
        with (
            closing(socket.create_connection(("127.0.0.1", world.secure_port))) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            return client.version(), client.selected_alpn_protocol()


def test_many_at_once(world: World) -> None:
    statuses: list[int] = []

    def ask() -> None:
        statuses.extend(world.ask("spread").status for _turn in range(10))

    threads = [threading.Thread(target=ask) for _turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(statuses) == {200: 80}
