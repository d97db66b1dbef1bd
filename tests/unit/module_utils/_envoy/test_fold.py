"""One bootstrap of all files, for validating a release."""

from __future__ import annotations

import json
from typing import Any

import pytest
from spec_examples import every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.compile import compile_envoy
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.fold import fold
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

HOST = host_from_options({"envoy": "/opt/envoy"})
ON_HOST = {"certificate": "/etc/tls/gw.pem", "private_key": "/etc/tls/gw.key", "client_ca": "/etc/ssl/clients.pem"}


def files(**changes: Any) -> dict[str, bytes]:
    spec = parse_spec({**every_key(), **changes})
    return {file.path: file.content for file in compile_envoy(spec, HOST)}


def folded(*, dummy_secrets: bool = True, **changes: Any) -> dict[str, Any]:
    bootstrap: dict[str, Any] = json.loads(fold(files(**changes), dummy_secrets=dummy_secrets))
    return bootstrap


def test_nothing_is_left_to_be_read() -> None:
    bootstrap = folded()
    text = json.dumps(bootstrap)
    for word in ("path_config_source", "config_discovery", "rds", "sds_config", "dynamic_resources", HOST.secrets_dir):
        assert f'"{word}' not in text
    assert "admin" not in bootstrap
    assert HOST.log_dir not in text


def test_everything_is_in_it() -> None:
    static = folded()["static_resources"]
    names = [listener["name"] for listener in static["listeners"]]
    assert names[:-1] == ["metrics", "listener:local", "listener:public", "listener:public:http3", "egress"]
    assert names[-1].startswith("proxy:proxy.example:3128@")
    assert len(static["clusters"]) == 1 + 4 + 1 + 1 + 1 + 1 + 1
    assert [secret["name"] for secret in static["secrets"]] == [
        "otlp-authorization-d949c935",
        "otlp-x-scope-orgid-d949c935",
        "provider-azure_eu-7c827513",
        "provider-openai-76664e95",
    ]
    listeners = static["listeners"][1:-1]
    managers = [listener["filter_chains"][0]["filters"][0]["typed_config"] for listener in listeners]
    assert all(manager["route_config"]["validate_clusters"] for manager in managers)
    assert [found["name"] for found in managers[1]["http_filters"]] == [
        "alt_svc",
        "envoy.filters.http.health_check",
        "consumer_keys",
        "jwt_issuers",
        "jwt_consumers",
        "remember",
        "read_model",
        "access_list",
        "token_limits",
        "request_limits",
        "refused_key",
        "envoy.filters.http.router",
    ]


def test_the_real_secrets() -> None:
    """Without dummies Envoy would read what the running gateway reads."""
    text = json.dumps(folded(dummy_secrets=False))
    for name in ("consumers.json", "provider-openai-76664e95.json", "listener-public.json"):
        assert f"{HOST.secrets_dir}/{name}" in text


@pytest.mark.parametrize(("dummy", "found"), [(True, False), (False, True)])
def test_a_certificate_on_the_host(dummy: bool, found: bool) -> None:
    listeners = {"public": {"address": "::", "port": 443, "tls": ON_HOST}}
    text = json.dumps(folded(dummy_secrets=dummy, gateway_listeners=listeners))
    assert (ON_HOST["private_key"] in text) is found
    assert (ON_HOST["client_ca"] in text) is found
    assert "trusted_ca" in text


@pytest.mark.parametrize("dummy", [True, False])
def test_certificates_for_a_provider(dummy: bool) -> None:
    openai = every_key()["gateway_providers"]["openai"]
    stored = {key: f"env://{key.upper()}" for key in ("ca", "certificate", "private_key")}
    on_host = {key: f"/etc/gw/{key}.pem" for key in stored}
    several = {**openai, "base_url": ["https://a.example/v1", "https://b.example/v1"]}
    providers = {
        **every_key()["gateway_providers"],
        "openai": {**several, "tls": stored},
        "host": {**several, "tls": on_host},
    }
    text = json.dumps(folded(dummy_secrets=dummy, gateway_providers=providers))
    assert all((path in text) is not dummy for path in on_host.values())
    for prefix in ("identity-openai-", "authorities-openai-"):
        assert (f"{HOST.secrets_dir}/{prefix}" in text) is not dummy
    assert f"{HOST.current}/envoy/sds-" not in text
    assert text.count('"exact": "b.example"') == 2


def test_other_files_do_not_matter() -> None:
    assert fold({**files(), "host/etc/x": b"", "resources.json": b"{}", "envoy/notes.txt": b"x"}) == fold(files())


@pytest.mark.parametrize("path", ["bootstrap-blue.json", "lds.json", "cds.json", "rds-egress.json", "ecds-limits.json"])
def test_a_missing_file(path: str) -> None:
    found = files()
    del found[f"envoy/{path}"]
    with pytest.raises(ReleaseError, match="do not belong together"):
        fold(found)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b'{"resources":[1]}'])
def test_a_broken_file(content: bytes) -> None:
    with pytest.raises(ReleaseError, match="do not belong together"):
        fold({**files(), "envoy/lds.json": content})


def test_offline_not_even_the_authorities_of_a_host_are_read() -> None:
    assert b'"filename"' in fold(files())
    assert b'"filename"' not in fold(files(), dummy_authorities=True)
