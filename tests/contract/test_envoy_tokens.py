"""Consumers that show a token (JWT) instead of a key, on a running gateway."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, host_below, providers
from contract.test_envoy_changes import load
from contract.test_envoy_requests import Answer, call, chat, until
from contract.tokens import Key, KeyServer, claims, key_server, key_set, part, unsigned, with_secret

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import jwt

ISSUER = "https://sso.example.com/realms/ai"
CANARY = "canary-of-a-token"


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int
    alpha: Provider
    remote: KeyServer
    remote_key: Key
    path: Path
    path_key: Key
    text_key: Key
    spec: dict[str, Any]

    def token(self, **others: Any) -> str:
        return self.remote_key.token(claims(ISSUER, **others))

    def ask(self, token: str, model: str = "m", **headers: str) -> Answer:
        return call(self.port, body=chat(model), key=token, **headers)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    port, metrics = free_port(), free_port()
    keys = [Key("remote", "RS256"), Key("path"), Key("text")]
    path = folder / "jwks" / "jwks.json"
    path.parent.mkdir()
    path.write_text(key_set(keys[1]))
    with providers("alpha") as running, key_server(key_set(keys[0])) as remote:
        raw = {
            "gateway_listeners": {
                "public": {"address": "127.0.0.1", "port": port, "cors": {"allow_origins": ["https://a.example"]}}
            },
            "gateway_metrics": {"port": metrics},
            "gateway_jwt_issuers": {
                "keycloak": {"issuer": ISSUER, "audiences": ["gateway"], "jwks": remote.url, "claim": "client_id"},
                "on-host": {"issuer": "on-host", "audiences": ["gateway"], "jwks": str(path), "claim": "sub"},
                "written": {
                    "issuer": "written",
                    "audiences": ["gateway"],
                    "jwks": key_set(keys[2]),
                    "claim": "client_id",
                },
            },
            "gateway_providers": {
                "alpha": {"type": "openai", "base_url": f"{running['alpha'].url}/v1", "api_key": "env://ALPHA"}
            },
            "gateway_models": {
                name: {"targets": [{"provider": "alpha", "model": name}]} for name in ("m", "other", "third")
            },
            "gateway_consumers": {
                "search": {
                    "api_keys": ["env://SEARCH"],
                    "jwt": {"issuer": "keycloak", "value": "search-service"},
                    "models": ["m", "other"],
                },
                "limited": {
                    "jwt": {"issuer": "keycloak", "value": "limited-service"},
                    "models": ["m"],
                    "limits": {"requests_per_minute": 3},
                },
                "batch": {"jwt": {"issuer": "on-host", "value": 'odd "name]]\\ %REQ(x)%'}, "models": ["*"]},
                "digits": {"jwt": {"issuer": "written", "value": "5"}, "models": ["*"]},
                "keys-only": {"api_keys": ["env://KEYS_ONLY"], "models": ["*"]},
            },
        }
        with gateway(folder, raw) as started:
            yield World(started, port, metrics, running["alpha"], remote, keys[0], path, keys[1], keys[2], raw)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    world.alpha.reset()


class TestAdmitted:
    def test_a_token_of_each_kind_of_issuer(self, world: World) -> None:
        on_host = world.path_key.token(claims("on-host", sub='odd "name]]\\ %REQ(x)%'))
        written = world.text_key.token(claims("written", client_id="5"))
        for token, consumer in ((world.token(), "search"), (on_host, "batch"), (written, "digits")):
            answer = until(lambda token=token: world.ask(token), 200)
            assert answer.status == 200, (consumer, answer.text)
            assert world.gateway.logged(answer.headers)["consumer"] == consumer

    def test_it_goes_to_no_provider(self, world: World) -> None:
        assert world.ask(world.token()).status == 200
        (seen,) = world.alpha.seen()
        assert seen["headers"]["authorization"] == "Bearer sk-alpha"
        assert "eyJ" not in json.dumps(seen)

    def test_keys_are_admitted_as_ever(self, world: World) -> None:
        for answer in (world.ask("sk-search"), call(world.port, body=chat("m"), key=None, api_key="sk-search")):
            assert answer.status == 200
            assert world.gateway.logged(answer.headers)["consumer"] == "search"

    def test_several_audiences(self, world: World) -> None:
        assert world.ask(world.token(aud=["account", "gateway"])).status == 200

    def test_the_same_models_as_with_a_key(self, world: World) -> None:
        forbidden = world.ask(world.token(), "third")
        assert (forbidden.status, forbidden.error["code"]) == (403, "model_not_allowed")
        listed = call(world.port, "/v1/models", key=world.token(), method="GET")
        assert [model["id"] for model in listed.json["data"]] == ["m", "other"]
        assert world.ask(world.token(), "none").error["code"] == "model_not_found"
        unknown = call(world.port, "/v1/files", key=world.token(), method="GET")
        assert (unknown.status, unknown.error["code"]) == (404, "unknown_url")

    def test_limits(self, world: World) -> None:
        token = world.token(client_id="limited-service")
        answers = [world.ask(token) for _turn in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].error["code"] == "rate_limit_exceeded"
        assert "'limited'" in answers[-1].error["message"]

    def test_metrics(self, world: World) -> None:
        assert world.ask(world.token()).status == 200
        metrics = call(world.metrics, "/metrics", key=None, method="GET").text
        assert any('consumer="search"' in line for line in metrics.splitlines() if "llm_requests" in line)

    def test_web_pages(self, world: World) -> None:
        answer = world.ask(world.token(), origin="https://a.example")
        refused = world.ask(world.token(client_id="nobody"), origin="https://a.example")
        for each, status in ((answer, 200), (refused, 401)):
            assert each.status == status
            assert each.headers["access-control-allow-origin"] == "https://a.example"


def wrong(world: World) -> dict[str, str]:
    """Tokens that nobody is to be let in with."""
    good = claims(ISSUER)
    ended = int(time.time()) - 3600
    pem = world.remote_key.public_pem
    stranger = Key("remote", "RS256")
    header, payload, signature = world.token().split(".")
    return {
        "has ended": world.token(exp=ended),
        "never ends": world.token(exp=None),
        "is not valid yet": world.token(nbf=int(time.time()) + 3600),
        "for somebody else": world.token(aud="account"),
        "for nobody": world.token(aud=None),
        "of nobody": world.token(iss=None),
        "of another issuer": world.remote_key.token(claims("https://evil.example")),
        "of an issuer with another key": world.remote_key.token(claims("written")),
        "signed by a stranger": stranger.token(good),
        "of another key's name": world.remote_key.token(good, kid="none"),
        "changed": f"{header}.{part({**good, 'client_id': 'limited-service'})}.{signature}",
        "cut": f"{header}.{payload}.{signature[:-8]}",
        "without a signature": f"{header}.{payload}.",
        "unsigned": unsigned(good),
        "unsigned with a key's name": unsigned(good, kid="remote"),
        "None": unsigned(good, alg="None"),
        "signed with the public key": with_secret(good, pem, kid="remote"),
        "signed with the public key, without its name": with_secret(good, pem),
        "signed with the modulus": with_secret(good, world.remote_key.public["n"].encode(), kid="remote"),
        "of another algorithm": world.remote_key.token(good, alg="ES256"),
        "with a key of its own": stranger.token(good, jwk=stranger.public, kid=None),
        "of no consumer": world.token(client_id="nobody"),
        "of a consumer by its name": world.token(client_id="keys-only"),
        "of a consumer of another issuer": world.token(client_id="5"),
        "without the claim": world.token(client_id=None),
        "with a list": world.token(client_id=["search-service"]),
        "with an object": world.token(client_id={"search-service": 1}),
        "with true": world.token(client_id=True),
        "with an empty claim": world.token(client_id=""),
        "with a tab": world.token(client_id="search-service\tx"),
        "with a number that reads like a name": world.text_key.token(claims("written", client_id=5)),
        "no JSON": f"eyJ.{payload}.{signature}",
        "of no parts": "eyJ..",
        "of two parts": f"{header}.{payload}",
        "of four parts": f"{header}.{payload}.{signature}.x",
        "no token and no key": "nonsense",
    }


def test_wrong_tokens_are_wrong_keys(world: World) -> None:
    """Whoever has one learns no more than that: the answer is the same for all."""
    assert until(lambda: world.ask(world.token()), 200).status == 200
    world.alpha.reset()
    forged = {"x_gw_consumer": "search", "x_gw_access": "x", "x_gw_model": "m"}
    texts = set()
    for name, token in wrong(world).items():
        for headers in ({}, forged):
            answer = world.ask(token, **headers)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key"), (name, answer.text)
            texts.add(answer.text)
            assert "error" not in answer.headers.get("www-authenticate", ""), name
            assert world.gateway.logged(answer.headers)["consumer"] is None
    assert len(texts) == 1
    assert not world.alpha.seen()


class TestPlaces:
    def test_a_token_is_read_from_authorization_only(self, world: World) -> None:
        token = world.token()
        for path in (f"/v1/chat/completions?access_token={token}", "/v1/chat/completions"):
            answer = call(world.port, path, chat("m"), key=None, api_key=token)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")

    def test_a_token_goes_before_another_key(self, world: World) -> None:
        answer = world.ask(world.token(), api_key="sk-keys-only")
        assert world.gateway.logged(answer.headers)["consumer"] == "search"
        assert world.ask(world.token(client_id="nobody"), api_key="sk-keys-only").status == 401

    def test_two_tokens(self, world: World) -> None:
        token = world.token()
        answer = call(world.port, body=chat("m"), key=None, authorization=f"Bearer {token}, Bearer {token}")
        assert answer.status == 401


class TestChanges:
    def test_consumers_come_and_go_without_a_new_listener(self, world: World) -> None:
        modified = world.gateway.statistic("listener_manager.listener_modified")
        asked = world.remote.asked
        spec = copy.deepcopy(world.spec)
        spec["gateway_consumers"]["new"] = {
            "jwt": {"issuer": "keycloak", "value": "new-service"},
            "models": ["third"],
        }
        token = world.token(client_id="new-service")
        assert world.ask(token, "third").status == 401
        with load(lambda: world.ask(world.token()), lambda: world.ask("sk-search")) as statuses:
            world.gateway.switch(spec)
            assert until(lambda: world.ask(token, "third"), 200).status == 200
            world.gateway.switch(world.spec)
            assert until(lambda: world.ask(token, "third"), 401).status == 401
        assert set(statuses) == {200}
        assert world.gateway.statistic("listener_manager.listener_modified") == modified
        assert world.remote.asked == asked, "the keys were fetched anew"

    def test_issuers_come_and_go(self, world: World) -> None:
        spec = copy.deepcopy(world.spec)
        del spec["gateway_jwt_issuers"]
        for consumer in spec["gateway_consumers"].values():
            consumer.setdefault("api_keys", ["env://OTHER_" + str(id(consumer))])
            consumer.pop("jwt", None)
        with load(lambda: world.ask("sk-search")) as statuses:
            world.gateway.switch(spec)
            assert until(lambda: world.ask(world.token()), 401).error["code"] == "invalid_api_key"
            world.gateway.switch(world.spec)
            assert until(lambda: world.ask(world.token()), 200).status == 200
        assert set(statuses) == {200}


def test_no_token_is_written_anywhere(world: World) -> None:
    tokens = [world.token(canary=CANARY), world.token(canary=CANARY, client_id="nobody"), unsigned(claims("x"))]
    for token in tokens:
        world.ask(token)
    world.gateway.logged(world.ask(world.token()).headers)
    for file in Path(world.gateway.host.log_dir).iterdir():
        assert "eyJ" not in file.read_text()
    assert "eyJ" not in world.gateway.complaints()
    metrics = call(world.metrics, "/metrics", key=None, method="GET").text
    assert "eyJ" not in metrics
    assert CANARY not in metrics


class TestFetchedKeys:
    """What happens to the keys that are fetched: with a minute that is two seconds long."""

    @pytest.fixture
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jwt, "JWKS_SECONDS", 2)

    def spec(self, world: World, url: str) -> dict[str, Any]:
        spec = copy.deepcopy(world.spec)
        spec["gateway_listeners"]["public"]["port"] = free_port()
        spec["gateway_metrics"]["port"] = free_port()
        spec["gateway_jwt_issuers"]["keycloak"]["jwks"] = url
        return spec

    @pytest.mark.usefixtures("short")
    def test_they_rotate(self, world: World, tmp_path: Path) -> None:
        first, second = Key("first", "RS256"), Key("second")
        with key_server(key_set(first)) as server:
            spec = self.spec(world, server.url)
            port = spec["gateway_listeners"]["public"]["port"]
            with gateway(tmp_path, spec) as started:

                def ask(key: Key) -> Answer:
                    return call(port, body=chat("m"), key=key.token(claims(ISSUER)))

                assert until(lambda: ask(first), 200).status == 200
                assert ask(second).status == 401
                with load(lambda: call(port, body=chat("m"), key="sk-search"), lambda: ask(first)) as statuses:
                    server.text = key_set(first, second)
                    assert until(lambda: ask(second), 200).status == 200
                assert set(statuses) == {200}
                server.text = key_set(second)
                refused = until(lambda: ask(first), 401)
                assert (refused.status, refused.error["code"]) == (401, "invalid_api_key"), (
                    "a token remembered too long"
                )
                # Down later: what is known is known.
                server.status = 500
                time.sleep(5)
                assert ask(second).status == 200
                server.text, server.status = "no keys", 200
                time.sleep(3)
                assert ask(second).status == 200
                server.text = key_set(first)
                assert until(lambda: ask(first), 200).status == 200
                assert ask(second).status == 401
                assert not [headers for headers in server.headers if "authorization" in headers]
                assert started.statistic("http.gateway.jwt_authn.jwks_fetch_failed")

    @pytest.mark.usefixtures("short")
    def test_a_server_that_is_down_at_the_start(self, world: World, tmp_path: Path) -> None:
        key, free = Key("only"), free_port()
        spec = self.spec(world, f"http://127.0.0.1:{free}/realms/ai/certs")
        port = spec["gateway_listeners"]["public"]["port"]
        with gateway(tmp_path, spec):
            token = key.token(claims(ISSUER))
            answer = call(port, body=chat("m"), key=token)
            assert (answer.status, answer.error["code"]) == (503, "unavailable"), answer.text
            assert call(port, body=chat("m"), key="sk-search").status == 200
            assert call(port, body=chat("m"), key="wrong").status == 401
            written = world.text_key.token(claims("written", client_id="5"))
            assert call(port, body=chat("m"), key=written).status == 200
            assert call(port, body=chat("m"), key=key.token(claims("nobody"))).status == 401
            with key_server(key_set(key), free):
                assert until(lambda: call(port, body=chat("m"), key=token), 200).status == 200
                time.sleep(2)
            time.sleep(3)
            assert call(port, body=chat("m"), key=token).status == 200


def test_keys_that_are_kept_in_a_store(world: World, tmp_path: Path) -> None:
    """They are delivered as secrets are, and rotated like them."""
    first, second = Key("first"), Key("second", "RS256")
    spec = copy.deepcopy(world.spec)
    spec["gateway_listeners"]["public"]["port"] = port = free_port()
    spec["gateway_metrics"]["port"] = free_port()
    spec["gateway_jwt_issuers"]["keycloak"]["jwks"] = "env://KEYS"
    started = Gateway(tmp_path, host_below(tmp_path))
    started.values = {"env://KEYS": key_set(first)}
    try:
        started.start(spec)

        def ask(key: Key) -> Answer:
            return call(port, body=chat("m"), key=key.token(claims(ISSUER)))

        assert ask(first).status == 200
        assert ask(second).status == 401
        with load(lambda: call(port, body=chat("m"), key="sk-search"), lambda: ask(first)) as statuses:
            started.rotate(KEYS=key_set(first, second))
            assert until(lambda: ask(second), 200).status == 200
        assert set(statuses) == {200}
        started.rotate(KEYS=key_set(second))
        assert until(lambda: ask(first), 401).status == 401
        started.rotate(KEYS=key_set(first))
        assert until(lambda: ask(first), 200).status == 200
        # Another release that has another file: each reads its own.
        spec["gateway_jwt_issuers"]["written"]["audiences"] = ["gateway", "more"]
        with load(lambda: call(port, body=chat("m"), key="sk-search"), lambda: ask(first)) as statuses:
            started.switch(spec)
        assert set(statuses) == {200}
        file = next(Path(started.host.secrets_dir).glob("jwt-issuers-*.json"))
        assert file.stat().st_mode & 0o777 == 0o600
    finally:
        started.stop()
