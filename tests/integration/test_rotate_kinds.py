"""The playbook `rotate` with the secrets that are no keys: of providers' TLS, of a collector, of issuers of tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.certificates import Authority
from contract.tokens import Key
from integration.site_gateway import CANARY, Gateway, a_gateway
from integration.test_rotate import contents, rotate, shown


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture(scope="module")
def gateway(authority: Authority) -> Iterator[Gateway]:
    with a_gateway() as started:
        started.bao.put("kv/tls/c", ca=authority.certificate.read_text(), **pair(authority, "first"))
        started.bao.put("kv/otlp", token=f"{CANARY}-first")
        started.bao.put("kv/issuer", jwks=key_set("first"))
        tls = {name: f"vault://kv/tls/c#{name}" for name in ("ca", "certificate", "private_key")}
        started.variables["gateway_providers"]["c"] = {
            "type": "openai_compatible",
            "base_url": "https://127.0.0.1:1/v1",
            "tls": tls,
        }
        started.variables["gateway_models"]["llama"] = {"targets": [{"provider": "c", "model": "llama"}]}
        started.variables["gateway_jwt_issuers"] = {
            "sso": {"issuer": "sso", "audiences": ["gateway"], "jwks": "vault://kv/issuer#jwks", "claim": "sub"}
        }
        started.variables["gateway_consumers"]["batch"]["jwt"] = {"issuer": "sso", "value": "batch"}
        started.variables["gateway_otlp"] = {
            "endpoint": "http://127.0.0.1:1",
            "headers": {"x-token": "vault://kv/otlp#token"},
            "logs": True,
        }
        first = started.play("site")
        assert first.status == 0, first.output
        yield started


def pair(authority: Authority, name: str) -> dict[str, str]:
    certificate, private_key = authority.sign(name, "gateway")
    return {"certificate": certificate.read_text(), "private_key": private_key.read_text()}


def key_set(name: str) -> str:
    return json.dumps({"keys": [Key(name).public]})


def content_of(gateway: Gateway, kind: str) -> str:
    (path,) = gateway.secrets.glob(f"{kind}-*.json")
    return path.read_text()


def test_the_certificate_that_a_provider_is_shown(gateway: Gateway, authority: Authority) -> None:
    new = pair(authority, "second")
    gateway.bao.put("kv/tls/c", ca=authority.certificate.read_text(), **new)
    assert shown(rotate(gateway, "providers: c")) == ["  ~ certificate of provider c (not shown)"]
    assert json.dumps(new["certificate"])[1:-1] in content_of(gateway, "identity-c")
    assert json.dumps(new["private_key"])[1:-1] in content_of(gateway, "identity-c")


def test_the_cas_of_a_provider(gateway: Gateway, authority: Authority, tmp_path: Path) -> None:
    new = Authority(tmp_path, "new").certificate.read_text()
    gateway.bao.put("kv/tls/c", ca=new, **pair(authority, "third"))
    assert shown(rotate(gateway, "providers: c")) == ["  ~ certificate, CAs of provider c (not shown)"]
    assert json.dumps(new)[1:-1] in content_of(gateway, "authorities-c")


def test_a_header_for_the_collector(gateway: Gateway) -> None:
    gateway.bao.put("kv/otlp", token=f"{CANARY}-second")
    line = "collector headers: x-token"
    assert shown(rotate(gateway, line)) == ["  ~ header x-token for the collector (not shown)"]
    assert f"{CANARY}-second" in content_of(gateway, "otlp-x-token")


def test_the_keys_of_an_issuer(gateway: Gateway) -> None:
    before = contents(gateway)
    gateway.bao.put("kv/issuer", jwks=key_set("second"))
    assert shown(rotate(gateway, "issuers: sso")) == ["  ~ keys of issuer sso (not shown)"]
    assert "second" in content_of(gateway, "jwt-issuers")
    assert len({name for name, content in contents(gateway).items() if before[name] != content}) == 1
