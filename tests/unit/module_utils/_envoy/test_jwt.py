"""Tokens: what a spec about them is compiled to, and what may be written in one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from spec_examples import REMOVED, changed, every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import jwt
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import (
    compile_secrets,
    consumers_without_key,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError, SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import check_policies
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources, spec_variables

JWKS = ("gateway_jwt_issuers", "keycloak", "jwks")
PUBLIC = {"kty": "EC", "crv": "P-256", "x": "a", "y": "b"}


def key_set(*keys: object) -> str:
    return json.dumps({"keys": keys})


def problems(*changes: tuple[tuple[Any, ...], Any]) -> dict[str, str]:
    with pytest.raises(SpecError) as raised:
        parse_spec(changed(*changes))
    return {problem.path: problem.message for problem in raised.value.errors}


@pytest.mark.parametrize(
    "source",
    [
        "https://a.example/keys",
        "http://127.0.0.1:9000/keys",
        "vault://kv/issuer#jwks",
        "/etc/jwks.json",
        key_set(PUBLIC),
    ],
)
def test_where_keys_come_from(source: str) -> None:
    spec = parse_spec(changed((JWKS, source)))
    again = parse_spec({**every_key(), **spec_variables(spec_resources(spec))})
    assert again.jwt_issuers == spec.jwt_issuers
    assert spec_resources(spec)["gateway_jwt_issuers.keycloak"]["jwks"] == source


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "must not be empty"),
        ("nonsense", "must be a URL, a reference, an absolute path on the host, or a key set"),
        ("-----BEGIN PUBLIC KEY-----", "PEM is not read"),
        ("ftp://a.example/keys", "unknown kind of reference"),
        ("https://user:canary@a.example/keys", "must not hold credentials"),
        ("{nonsense", "is no key set"),
        ('{"keys": {}}', "is a key set without keys"),
        ('{"keys": []}', "is a key set without keys"),
        (key_set("canary"), "is no key set"),
        (key_set({"kty": "oct", "k": "canary"}), "has a key that is not public"),
        (key_set(PUBLIC, {**PUBLIC, "d": "canary"}), "has a private key"),
    ],
)
def test_what_holds_no_keys(source: str, words: str) -> None:
    found = problems((JWKS, source))
    assert list(found) == ["gateway_jwt_issuers.keycloak.jwks"]
    assert words in found["gateway_jwt_issuers.keycloak.jwks"]
    assert "canary" not in str(found)


def test_what_must_be_said_of_whom() -> None:
    issuer = every_key()["gateway_jwt_issuers"]["keycloak"]
    found = problems(
        (("gateway_jwt_issuers", "zzz"), issuer),
        (("gateway_jwt_issuers", "empty"), {}),
        (("gateway_consumers", "same"), {"jwt": {"issuer": "keycloak", "value": "search-service"}, "models": ["*"]}),
        (("gateway_consumers", "lost"), {"jwt": {"issuer": "keycloack", "value": "x"}, "models": ["*"]}),
        (("gateway_consumers", "nothing"), {"models": ["*"]}),
        (("gateway_consumers", "no-keys"), {"api_keys": [], "models": ["*"]}),
    )
    assert found == {
        "gateway_consumers.same.jwt.value": "is the same token's as gateway_consumers.search-team.jwt",
        "gateway_consumers.lost.jwt.issuer": "no issuer named 'keycloack'; did you mean 'keycloak'?",
        "gateway_consumers.nothing.api_keys": "needs at least one key, or jwt in its place",
        "gateway_consumers.no-keys.api_keys": "needs at least one key",
        "gateway_jwt_issuers.zzz.issuer": "is the same issuer as that of gateway_jwt_issuers.keycloak",
        "gateway_jwt_issuers.empty.issuer": "is required",
        "gateway_jwt_issuers.empty.audiences": "needs at least one audience",
        "gateway_jwt_issuers.empty.jwks": "is required",
        "gateway_jwt_issuers.empty.claim": "is required",
    }


def test_a_consumer_without_issuers() -> None:
    found = problems((("gateway_jwt_issuers",), REMOVED))
    assert found == {"gateway_consumers.search-team.jwt.issuer": "no issuer named 'keycloak'"}


@pytest.mark.parametrize(
    ("url", "denied"),
    [
        ("http://sso.example.com/keys", True),
        ("http://10.0.0.1/keys", True),
        ("https://sso.example.com/keys", False),
        ("http://127.0.0.1:9000/keys", False),
        ("http://[::1]:9000/keys", False),
        ("http://localhost:9000/keys", False),
        ("/etc/jwks.json", False),
    ],
)
def test_keys_over_plain_http(url: str, denied: bool) -> None:
    findings = check_policies(parse_spec(changed((JWKS, url))))
    assert [(found.rule, found.severity, found.path) for found in findings] == (
        [("jwks_over_plain_http", "deny", "gateway_jwt_issuers.keycloak.jwks")] if denied else []
    )


def test_the_file_of_secret_keys_stands_for_the_rest_of_it() -> None:
    reference = Reference("vault", "kv/issuer", "jwks")
    spec = parse_spec(changed((JWKS, reference.text)))
    other = parse_spec(changed((JWKS, reference.text), (("gateway_jwt_issuers", "keycloak", "audiences"), ["more"])))
    assert jwt.secret_file(spec) != jwt.secret_file(other)
    assert jwt.ISSUERS_FILE not in jwt.compile_tokens(spec)
    (file,) = [file for file in compile_secrets(spec) if file.name == jwt.secret_file(spec)]
    assert file.references == (reference,)
    written = json.loads(file.render({reference: key_set(PUBLIC)}))["resources"][0]["typed_config"]["providers"]
    assert written["keycloak"]["local_jwks"] == {"inline_string": key_set(PUBLIC)}
    for value in ("canary", key_set({**PUBLIC, "d": "canary"})):
        with pytest.raises(SecretError, match="vault://kv/issuer#jwks") as raised:
            file.render({reference: value})
        assert "canary" not in str(raised.value)


def test_a_token_is_another_way_than_a_key_that_has_ended() -> None:
    spec = parse_spec(every_key())
    ended = {source: "" for consumer in spec.consumers for source in consumer.api_keys}
    assert consumers_without_key(spec, ended) == ("batch",)
