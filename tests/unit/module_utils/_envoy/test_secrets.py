"""The files with secrets: what goes in, what never comes out."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from spec_examples import every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import (
    SecretFile,
    compile_secrets,
    consumers_without_key,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Source, source_text

#: The provider's name, and what stands for its type and URL.
COLLECTOR = "otlp-authorization-d949c935.json"
OPENAI = "provider-openai-76664e95.json"
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"


def secrets(**changes: Any) -> dict[str, SecretFile]:
    return {file.name: file for file in compile_secrets(parse_spec({**every_key(), **changes}))}


def rendered(file: SecretFile, value: str | None = None) -> Any:
    """The one resource; without a value each reference is its own."""
    values: dict[Source, str] = {
        source: value or "sk-" + source_text(source).replace("#", "-") for source in file.references
    }
    document = json.loads(file.render(values))
    assert set(document) == {"resources"}
    (resource,) = document["resources"]
    return resource


def consumers(*keys: str) -> dict[str, Any]:
    return {f"c{number}": {"api_keys": [key], "models": ["*"]} for number, key in enumerate(keys)}


def test_there_is_a_file_for_everything_with_a_secret() -> None:
    assert sorted(secrets()) == [
        "authorities-openai-76664e95.json",
        "clients-public.json",
        "consumers.json",
        "identity-openai-5f2691c0.json",
        "listener-public.json",
        COLLECTOR,
        "otlp-x-scope-orgid-d949c935.json",
        "provider-azure_eu-7c827513.json",
        OPENAI,
    ]


class TestConsumers:
    def test_every_key_of_every_consumer(self) -> None:
        resource = rendered(secrets()["consumers.json"])
        assert resource["name"] == "consumer_keys"
        assert resource["typed_config"]["credentials"] == [
            {"key": "sk-file:///run/keys/batch.json-key", "client": "batch"},
            {"key": "sk-vault://kv/consumers/search-current", "client": "search-team"},
            {"key": "sk-vault://kv/consumers/search-previous", "client": "search-team"},
        ]
        assert resource["typed_config"]["forwarding"] == {"header": "x-gw-consumer", "hide_credentials": True}

    def test_two_references_to_one_key_are_one(self) -> None:
        one = {"c": {"api_keys": ["env://A", "env://B"], "models": ["*"]}}
        assert rendered(secrets(gateway_consumers=one)["consumers.json"], "same")["typed_config"]["credentials"] == [
            {"key": "same", "client": "c"}
        ]

    def test_a_key_of_two_consumers(self) -> None:
        file = secrets(gateway_consumers=consumers("env://A", "env://B"))["consumers.json"]
        with pytest.raises(SecretError) as error:
            rendered(file, "the-very-same")
        assert str(error.value) == (
            "the consumers c0 and c1 have the same key (env://A and env://B), so requests could not be told apart"
        )

    def test_nobody(self) -> None:
        file = secrets(gateway_consumers={})["consumers.json"]
        assert file.references == ()
        assert rendered(file)["typed_config"]["credentials"] == []

    def test_literals_are_there_already(self) -> None:
        file = secrets(gateway_consumers=consumers("sk-literal"))["consumers.json"]
        assert file.references == ()
        assert rendered(file)["typed_config"]["credentials"] == [{"key": "sk-literal", "client": "c0"}]
        assert "sk-literal" not in repr(file)


class TestEndedKeys:
    TWO: ClassVar[dict[str, Any]] = {
        "a": {"api_keys": ["env://A", "env://B"], "models": ["*"]},
        "b": {"api_keys": ["env://C"], "models": ["*"]},
    }

    def outcome(self, **keys: str) -> tuple[list[dict[str, str]], tuple[str, ...]]:
        """The credentials, and the consumers that have none."""
        spec = parse_spec({**every_key(), "gateway_consumers": self.TWO})
        file = next(file for file in compile_secrets(spec) if file.may_end)
        values: dict[Source, str] = {source: keys[source_text(source)[-1]] for source in file.references}
        (resource,) = json.loads(file.render(values))["resources"]
        return resource["typed_config"]["credentials"], consumers_without_key(spec, values)

    def test_the_others_of_the_consumer_go_on(self) -> None:
        assert self.outcome(A="1", B="", C="3") == (
            [{"key": "1", "client": "a"}, {"key": "3", "client": "b"}],
            (),
        )

    def test_a_consumer_without_any(self) -> None:
        assert self.outcome(A="", B="2", C="") == ([{"key": "2", "client": "a"}], ("b",))
        assert self.outcome(A="", B="", C="") == ([], ("a", "b"))

    def test_only_keys_of_consumers_may_end(self) -> None:
        assert [name for name, file in secrets().items() if file.may_end] == ["consumers.json"]
        with pytest.raises(SecretError, match="is not a key"):
            rendered(secrets()[OPENAI], " ")
        file = secrets()[OPENAI]
        with pytest.raises(SecretError, match="is not a key"):
            file.render(dict.fromkeys(file.references, ""))


class TestKeys:
    @pytest.mark.parametrize("value", [" ", "a b", "a\nb", "a\tb", "é", "a\0"])
    def test_what_is_no_key(self, value: str) -> None:
        for name in ("consumers.json", OPENAI):
            file = secrets()[name]
            with pytest.raises(SecretError) as error:
                file.render(dict.fromkeys(file.references, value))
            assert "is not a key" in str(error.value)
            assert "://" in str(error.value)
            assert not value.strip() or value not in str(error.value)

    def test_a_line_break_at_the_end_is_not_part_of_it(self) -> None:
        resource = rendered(secrets()[OPENAI], "sk-1\r\n")
        assert resource["name"] == OPENAI[: -len(".json")]
        assert resource["generic_secret"] == {"secret": {"inline_string": "sk-1"}}

    def test_what_was_not_resolved(self) -> None:
        with pytest.raises(SecretError, match=r"vault://kv/providers/openai#api_key\?version=3 has not been resolved"):
            secrets()[OPENAI].render({})


class TestHeadersOfACollector:
    @pytest.mark.parametrize(
        ("value", "sent"), [("abc\n", "Bearer abc"), ("Bearer abc", "Bearer abc"), ("Basic YTpi", "Basic YTpi")]
    )
    def test_authorization(self, value: str, sent: str) -> None:
        resource = rendered(secrets()[COLLECTOR], value)
        assert resource["name"] == COLLECTOR[: -len(".json")]
        assert resource["generic_secret"] == {"secret": {"inline_string": sent}}

    def test_another_header_is_as_it_is_written(self) -> None:
        otlp = {"endpoint": "https://c:4318", "headers": {"X-Scope-OrgID": "gateways"}, "logs": True}
        (file,) = (file for name, file in secrets(gateway_otlp=otlp).items() if "orgid" in name)
        assert file.references == ()
        assert rendered(file)["generic_secret"] == {"secret": {"inline_string": "gateways"}}

    @pytest.mark.parametrize("value", [" ", "a\nb", "a\tb", "é", "a\0"])
    def test_what_is_no_value(self, value: str) -> None:
        with pytest.raises(SecretError, match="is not the value of a header"):
            rendered(secrets()[COLLECTOR], value)


class TestCertificates:
    def listener(self, certificate: str, key: str, authority: str | None = None) -> dict[str, SecretFile]:
        tls = {"certificate": certificate, "private_key": key, **({"client_ca": authority} if authority else {})}
        return secrets(gateway_listeners={"public": {"address": "::", "port": 443, "tls": tls}})

    def test_both_from_a_store(self) -> None:
        resource = rendered(secrets()["listener-public.json"], PEM)
        assert resource["name"] == "listener-public"
        assert resource["tls_certificate"] == {
            "certificate_chain": {"inline_string": PEM},
            "private_key": {"inline_string": PEM},
        }

    def test_both_on_the_host(self) -> None:
        assert "listener-public.json" not in self.listener("/etc/a.pem", "/etc/a.key")

    def test_one_of_each(self) -> None:
        file = self.listener("/etc/a.pem", "env://KEY")["listener-public.json"]
        assert [source_text(source) for source in file.references] == ["env://KEY"]
        assert rendered(file, PEM)["tls_certificate"] == {
            "certificate_chain": {"filename": "/etc/a.pem"},
            "private_key": {"inline_string": PEM},
        }

    def test_written_down(self) -> None:
        file = self.listener(PEM, PEM)["listener-public.json"]
        assert file.references == ()
        assert rendered(file)["tls_certificate"]["private_key"] == {"inline_string": PEM}

    @pytest.mark.parametrize("authority", ["vault://kv/tls/clients#ca", PEM])
    def test_the_cas_of_clients(self, authority: str) -> None:
        file = self.listener("/etc/a.pem", "/etc/a.key", authority)["clients-public.json"]
        resource = rendered(file, PEM)
        assert resource["name"] == "clients-public"
        assert resource["validation_context"] == {"trusted_ca": {"inline_string": PEM}}
        assert not file.may_end

    def test_the_cas_of_clients_on_the_host(self) -> None:
        assert "clients-public.json" not in self.listener("/etc/a.pem", "/etc/a.key", "/etc/clients.pem")

    def provider(self, **tls: str) -> dict[str, SecretFile]:
        openai = {**every_key()["gateway_providers"]["openai"], "tls": tls}
        return secrets(gateway_providers={**every_key()["gateway_providers"], "openai": openai})

    def test_that_of_a_provider(self) -> None:
        files = self.provider(certificate="env://CERTIFICATE", private_key="env://KEY", ca=PEM)
        (identity,) = (file for name, file in files.items() if name.startswith("identity-openai-"))
        assert rendered(identity, PEM)["tls_certificate"] == {
            "certificate_chain": {"inline_string": PEM},
            "private_key": {"inline_string": PEM},
        }
        (authorities,) = (file for name, file in files.items() if name.startswith("authorities-openai-"))
        assert authorities.references == ()
        assert rendered(authorities)["validation_context"] == {"trusted_ca": {"inline_string": PEM}}

    def test_that_of_a_provider_on_the_host(self) -> None:
        files = self.provider(certificate="/etc/x.pem", private_key="/etc/x.key", ca="/etc/ca.pem")
        assert not any(name.startswith(("identity-", "authorities-")) for name in files)

    @pytest.mark.parametrize("more", [{"ca": "/etc/other.pem"}, {"server_name": "b.example"}])
    def test_whoever_is_trusted_otherwise_gets_files_of_its_own(self, more: dict[str, str]) -> None:
        tls = {"certificate": "env://CERTIFICATE", "private_key": "env://KEY"}
        one, other = self.provider(**tls), self.provider(**tls, **more)
        ours = {name for name in one if "-openai-" in name}
        assert len(ours) == 2
        assert ours.isdisjoint(other)

    def test_what_is_no_pem(self) -> None:
        with pytest.raises(SecretError, match=r"vault://kv/tls/gateway#certificate is not PEM text"):
            rendered(secrets()["listener-public.json"], "nonsense")
