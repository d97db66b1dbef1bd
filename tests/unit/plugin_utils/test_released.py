"""What is read for a host that serves something else than the variables say, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from spec_examples import changed, every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import compile_secrets
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference, parse_source
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources
from ansible_collections.gatewayops.openai.plugins.plugin_utils._released import (
    Released,
    only_secrets,
    references_in,
    released,
)

PEM = "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n"
KEY = ("gateway_providers", "openai", "api_key")
CONSUMER = ("gateway_consumers", "search-team", "api_keys", 0)


def known(*texts: str) -> frozenset[Reference]:
    sources = (parse_source(text, allow_path=False) for text in texts)
    return frozenset(source for source in sources if isinstance(source, Reference))


def read_back(raw: dict[str, Any], variables: Any = None) -> Released:
    return released(spec_resources(parse_spec(raw)), references_in(raw if variables is None else variables))


def names(found: Released) -> list[str]:
    return [file.name for file in found.compiled.bundle.secrets]


def test_the_files_are_those_that_the_release_was_made_with() -> None:
    raw = every_key()
    found = read_back(raw)
    assert found.left == ()
    assert found.compiled.bundle.secrets == compile_secrets(parse_spec(raw))
    assert found.compiled.spec_digest == only_secrets(parse_spec(raw)).spec_digest


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (KEY, "sk-canary", "provider-openai-"),
        (("gateway_listeners", "public", "tls", "certificate"), PEM, "listener-public.json"),
        (("gateway_listeners", "public", "tls", "private_key"), PEM, "listener-public.json"),
        (("gateway_listeners", "public", "tls", "client_ca"), PEM, "clients-public.json"),
        (("gateway_providers", "openai", "tls", "private_key"), PEM, "identity-openai-"),
    ],
)
def test_what_is_written_in_a_specification_is_left_as_it_is(path: tuple[Any, ...], value: str, name: str) -> None:
    raw = changed((path, value))
    found = read_back(raw)
    (sentence,) = found.left
    assert sentence.startswith(name)
    assert "a value is written in the specification itself" in sentence
    assert "canary" not in sentence
    assert not any(file.startswith(name) for file in names(found))
    assert len(names(found)) == len(compile_secrets(parse_spec(raw))) - 1


@pytest.mark.parametrize(
    "strange",
    [
        "env://AWS_SECRET_ACCESS_KEY",
        "file:///etc/shadow",
        "file:///run/keys#other",
        "vault://kv/providers/of-others#api_key",
        "vault://kv/providers/openai#of-others",
        "vault://kv/providers/openai#api_key?version=1",
        "lookup://ansible.builtin.pipe/id",
        "vault://kv/databases/main#password",
        "vault://other/providers/openai#api_key",
        "aws-sm://production",
        "aws-sm://gateway/x",
    ],
)
@pytest.mark.parametrize(("path", "what"), [(KEY, "provider-openai-"), (CONSUMER, "the keys of consumer search-team")])
def test_a_host_cannot_have_other_secrets_read(strange: str, path: tuple[Any, ...], what: str) -> None:
    host = changed((path, strange))
    found = read_back(host, [*(r.text for r in references_in(every_key())), "file:///run/keys#a", "aws-sm://other/y"])
    (sentence,) = found.left
    assert sentence.startswith(what)
    assert f"the host names {strange}, which the variables do not" in sentence
    assert all(strange not in source.text for file in found.compiled.bundle.secrets for source in file.references)  # type: ignore[union-attr]


def test_keys_of_issuers_are_read_where_the_variables_say_so_only() -> None:
    path = ("gateway_jwt_issuers", "keycloak", "jwks")
    host = changed((path, "vault://kv/issuer#jwks"))
    assert any(name.startswith("jwt-issuers-") for name in names(read_back(host)))
    found = read_back(host, every_key())
    (sentence,) = found.left
    assert sentence.startswith("jwt-issuers-")
    assert "the host names vault://kv/issuer#jwks, which the variables do not" in sentence
    assert not any(name.startswith("jwt-issuers-") for name in names(found))


@pytest.mark.parametrize(
    ("reference", "variables"),
    [
        ("env://GW_KEY", ["env://GW_KEY"]),
        ("lookup://my.own.store/term", [{"x": "lookup://my.own.store/term"}]),
        ("vault://kv/providers/new#api_key", ["vault://kv/providers/new#api_key"]),
    ],
)
def test_what_the_variables_have_is_followed(reference: str, variables: Any) -> None:
    found = read_back(changed((KEY, reference)), [every_key(), variables])
    assert (found.left, found.keep_clients) == ((), ())


@pytest.mark.parametrize("key", ["gw-canary", "vault://kv/consumers/gone#current"])
def test_keys_of_a_consumer_that_cannot_be_read_stay_and_those_of_others_are_rotated(key: str) -> None:
    raw = changed((("gateway_consumers", "gone"), {"api_keys": [key], "models": ["*"]}))
    found = released(spec_resources(parse_spec(raw)), references_in(every_key()))
    assert found.keep_clients == ("gone",)
    (sentence,) = found.left
    assert sentence.startswith("the keys of consumer gone stay as they are: ")
    assert "canary" not in sentence
    assert [file.references for file in found.compiled.bundle.secrets] == [
        file.references for file in compile_secrets(parse_spec(every_key()))
    ]


def test_references_are_found_wherever_they_stand() -> None:
    endless: list[Any] = ["env://IN_A_LIST"]
    endless.append(endless)
    raw = {"gateway_shared": {"gateway_providers": {"a": {"api_key": "vault://kv/a/b#c", "type": 7}}}, "x": endless}
    assert references_in(raw) == known("env://IN_A_LIST", "vault://kv/a/b#c")
    assert references_in({"a": None, "b": "/etc/tls.pem", "c": "sk-literal", "d": "nonsense://x", "e": 1}) == set()


@pytest.mark.parametrize(
    "resources",
    [
        None,
        {},
        {"gateway_listeners.a": 7},
        {"gateway_listeners.a": {"tls": 7}},
        {"gateway_size": {}},
        {"gateway_limits_scope": []},
        {**spec_resources(parse_spec(every_key())), "gateway_new.thing": {}},
    ],
)
def test_what_cannot_be_read_is_said(resources: Any) -> None:
    with pytest.raises(ReleaseError, match="what the release on this host is made of cannot be read"):
        released(resources, frozenset())
