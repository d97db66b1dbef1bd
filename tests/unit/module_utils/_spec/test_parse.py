"""What a valid spec is parsed to."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest
from spec_examples import REMOVED, changed, every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kernel import Nftables
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import (
    Consumer,
    ConsumerJwt,
    Cors,
    Drain,
    Endpoint,
    JwtIssuer,
    Limits,
    Listener,
    Metrics,
    Model,
    ModelLimit,
    Price,
    SharedLimits,
    Spec,
    Target,
    Timeouts,
    Tls,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_exceptions import PolicyException
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_rules import PolicyRule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import (
    HealthCheck,
    Provider,
    ProviderTls,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.rate_limit_service import (
    RateLimitService,
    RateLimitTls,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import HostPath, Reference
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.retries import Retries
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.sizes import SIZES, Size
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.telemetry import Otlp, OtlpTraces, PromptLog
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl

MINIMAL: dict[str, Any] = {
    "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
    "gateway_providers": {"p": {"type": "openai", "base_url": "https://p.example/v1"}},
    "gateway_models": {"m": {"targets": [{"provider": "p", "model": "m"}]}},
}


def test_every_key_arrives_in_the_model() -> None:
    assert parse_spec(every_key()) == Spec(
        listeners=(
            Listener(
                "local",
                "127.0.0.1",
                8080,
                cors=Cors(("https://app.example.com", "https://*.example.org"), max_age=300.0),
            ),
            Listener(
                "public",
                "0.0.0.0",
                443,
                Tls(
                    certificate=Reference("vault", "kv/tls/gateway", "certificate"),
                    private_key=Reference("vault", "kv/tls/gateway", "private_key"),
                    min_version="1.3",
                    client_ca=Reference("vault", "kv/tls/gateway", "client_ca"),
                ),
                http3=True,
            ),
        ),
        providers=(
            Provider(
                "azure_eu",
                "azure_openai",
                (BaseUrl("https", "eu.openai.azure.com", 443, ""),),
                Reference("env", "AZURE_KEY"),
                "2024-10-21",
                region="eu-west-1",
                trust_zone="contracted",
            ),
            Provider(
                "claude",
                "anthropic",
                (BaseUrl("https", "api.anthropic.com", 443, "/v1"),),
                max_tokens=8192,
                concurrent_requests=50,
                region="us-east-1",
            ),
            Provider(
                "openai",
                "openai",
                (BaseUrl("https", "api.openai.com", 443, "/v1"),),
                Reference("vault", "kv/providers/openai", "api_key", 3),
                headers=(("openai-organization", "org-1"), ("openai-project", "100% of it")),
                tls=ProviderTls(
                    Reference("vault", "kv/providers/openai", "ca"),
                    Reference("vault", "kv/providers/openai", "certificate"),
                    Reference("vault", "kv/providers/openai", "private_key"),
                    "openai.example",
                ),
                region="us-east-1",
                trust_zone="contracted",
                protected=True,
            ),
            Provider(
                "vllm",
                "openai_compatible",
                (BaseUrl("http", "10.20.0.5", 8000, "/v1"), BaseUrl("http", "10.20.0.6", 8000, "/v1")),
                stream_usage="as_is",
                proxy=BaseUrl("http", "proxy.example", 3128, ""),
                health_check=HealthCheck("/health", 5.0, 1.0, 2, 1),
                region="eu-west-1",
                trust_zone="internal",
            ),
        ),
        models=(
            Model(
                "gpt-5",
                targets=(Target("openai", "gpt-5", 80), Target("azure_eu", "gpt5-eu", 20)),
                fallbacks=(Target("vllm", "qwen3-32b", 1),),
                timeouts=Timeouts(first_byte=90.0, idle=300.0),
                retries=Retries(2, 20.0),
                price=Price(1.25, 10.0),
                limits=SharedLimits(3000, 2000000, 900000000, 100),
                protected=True,
            ),
            Model("text-embedding-3-small", targets=(Target("openai", "text-embedding-3-small", 1),)),
        ),
        consumers=(
            Consumer(
                "batch",
                ("*",),
                (Reference("file", "/run/keys/batch.json", "key"),),
                endpoints=("files", "batches"),
                protected=False,
            ),
            Consumer(
                "search-team",
                ("gpt-5", "text-embedding-*"),
                (
                    Reference("vault", "kv/consumers/search", "current"),
                    Reference("vault", "kv/consumers/search", "previous"),
                ),
                ConsumerJwt("keycloak", "search-service"),
                Limits(600, 200000, 3000000, (ModelLimit("gpt-5", 60, 50000, 900000),)),
            ),
        ),
        jwt_issuers=(
            JwtIssuer(
                "keycloak",
                "https://sso.example.com/realms/ai",
                ("gateway",),
                BaseUrl("https", "sso.example.com", 443, "/realms/ai/protocol/openid-connect/certs"),
                "client_id",
            ),
        ),
        endpoints=(Endpoint("batches", "openai"), Endpoint("files", "openai")),
        size=Size("custom", 4, 2 * 1024**3, 400),
        limits_scope="host",
        max_request_size=16 * 1024**2,
        release_keep=7,
        metrics=Metrics("2001:db8::9", 9903),
        drain=Drain(30.0, 900.0),
        otlp=Otlp(
            BaseUrl("https", "collector.example.com", 4318, ""),
            (("authorization", Reference("vault", "kv/otlp", "token")), ("x-scope-orgid", Reference("env", "TENANT"))),
            HostPath("/etc/ssl/collector.pem"),
            "gateway-eu",
            OtlpTraces(10, ("vllm",)),
            logs=True,
        ),
        rate_limit_service=RateLimitService(
            "limits.example.com", 8443, "llm", 0.05, "deny", RateLimitTls(HostPath("/etc/ssl/limits.pem"))
        ),
        prompt_log=PromptLog(("*",), 1798675200, 3, 128 * 1024),
        nftables=Nftables(("10.0.5.7", "2001:db8::/32"), "drop", (22,)),
        sysctls=(("net.core.somaxconn", "8192"),),
        policies=(("consumer_without_limit", "off"), ("prompt_logging", "off"), ("tls_version", "warn")),
        policy_exceptions=(
            PolicyException(
                "fallback_across_trust_zones",
                "gateway_models.gpt-*",
                "data-protection@example.com",
                "The contract is signed next month",
                7226582400,
            ),
        ),
        policy_rules=(
            PolicyRule(
                "models_have_fallbacks",
                "models",
                ("model.fallbacks | length > 0",),
                "has nobody to fall back to",
                "name a fallback",
                ("name is match('gpt-')",),
                "warn",
            ),
        ),
        provider_regions=("us-east-1", "eu-west-1"),
        workspace="production",
    )


def test_defaults() -> None:
    spec = parse_spec(MINIMAL)
    assert spec.consumers == ()
    assert spec.size == Size("medium", concurrency=2, memory_max=2 * 1024**3, cpu_quota=200)
    assert spec.limits_scope == "fleet"
    assert spec.max_request_size == 10 * 1024**2
    assert spec.release_keep == 5
    assert spec.metrics == Metrics("127.0.0.1", 9902)
    assert spec.drain == Drain(15.0, 600.0)
    assert spec.otlp is None
    assert spec.prompt_log is None
    assert spec.policies == ()
    assert spec.policy_rules == ()
    assert spec.models[0].timeouts == Timeouts(first_byte=120.0, idle=300.0)
    assert spec.models[0].targets[0].weight == 1


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_sizes_by_name(size: Size) -> None:
    assert parse_spec({**MINIMAL, "gateway_size": size.name}).size == size


def test_a_custom_size_may_leave_limits_out() -> None:
    assert parse_spec({**MINIMAL, "gateway_size": {"concurrency": 3}}).size == Size("custom", 3, None, None)


def test_equal_specs_are_equal_and_hashable_whatever_their_order() -> None:
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in every_key().items()
    }
    assert parse_spec(turned) == parse_spec(every_key())
    assert hash(parse_spec(turned)) == hash(parse_spec(every_key()))


def test_null_is_as_good_as_no_key() -> None:
    spec = parse_spec(
        changed(
            (("gateway_models", "gpt-5", "timeouts"), None),
            (("gateway_models", "gpt-5", "price"), None),
            (("gateway_models", "text-embedding-3-small"), None),
            (("gateway_consumers", "search-team", "models"), ["gpt-5"]),
            (("gateway_metrics",), None),
            (("gateway_nftables",), None),
            (("gateway_modles",), None),
            (("gateway_policies", "tls_version"), None),
        )
    )
    assert [model.name for model in spec.models] == ["gpt-5"]
    assert spec.models[0].timeouts == Timeouts()
    assert spec.models[0].price is None
    assert spec.metrics == Metrics()
    assert spec.policies == (("consumer_without_limit", "off"), ("prompt_logging", "off"))


def test_one_condition_may_stand_alone_and_an_unquoted_off_is_off() -> None:
    rule = {"for": "spec", "that": "spec.otlp is defined", "message": "m", "fix": "f", "severity": False}
    spec = parse_spec(
        {**MINIMAL, "gateway_policy_rules": {"collected": rule}, "gateway_policies": {"collected": "warn"}}
    )
    assert spec.policy_rules == (PolicyRule("collected", "spec", ("spec.otlp is defined",), "m", "f", (), "off"),)


def test_unquoted_off_is_read_as_off() -> None:
    assert parse_spec({**MINIMAL, "gateway_policies": {"plain_secret": False}}).policies == (("plain_secret", "off"),)


class TaggedText(str):
    """A string as Ansible hands it over: a subclass that says where it came from."""


class TaggedNumber(int):
    """The same for a whole number."""


class TaggedFraction(float):
    """The same for another number."""


def tagged(value: Any) -> Any:
    if isinstance(value, dict):
        return {tagged(key): tagged(item) for key, item in value.items()}
    if isinstance(value, list):
        return [tagged(item) for item in value]
    for plain, tag in ((str, TaggedText), (int, TaggedNumber), (float, TaggedFraction)):
        if value.__class__ is plain:
            return tag(value)
    return value


def types_within(value: Any) -> set[type]:
    if isinstance(value, tuple):
        return {type(value)}.union(*map(types_within, value))
    if dataclasses.is_dataclass(value):
        return set().union(*(types_within(getattr(value, field.name)) for field in dataclasses.fields(value)))
    return {type(value)}


def test_tagged_values_become_plain_ones() -> None:
    spec = parse_spec(tagged(every_key()))
    assert spec == parse_spec(every_key())
    assert types_within(spec) == {str, int, float, bool, tuple, type(None)}


def test_whole_numbers_as_strings_are_read_like_templates_of_older_releases_yield_them() -> None:
    assert parse_spec(changed((("gateway_listeners", "public", "port"), "443"))) == parse_spec(every_key())
    assert parse_spec(changed((("gateway_models", "gpt-5", "price", "input"), "1.25"))) == parse_spec(every_key())


class TestWorkspaces:
    RAW: ClassVar[dict[str, Any]] = {
        "gateway_shared": MINIMAL,
        "gateway_release_keep": 7,
        "gateway_workspaces": {
            "staging": {"gateway_size": "small", "gateway_models": {"m": {"timeouts": {"idle": "7s"}}}},
            "production": {"gateway_size": "large", "gateway_release_keep": 9},
            "bare": None,
        },
    }

    def test_the_layer_of_the_workspace_lies_over_the_others(self) -> None:
        staging, production, bare = (
            parse_spec({**self.RAW, "gateway_workspace": name}) for name in ("staging", "production", "bare")
        )
        assert (staging.workspace, staging.size.name, staging.release_keep) == ("staging", "small", 7)
        assert staging.models[0].timeouts.idle == 7.0
        assert (production.workspace, production.size.name, production.release_keep) == ("production", "large", 9)
        assert production.models[0].timeouts == Timeouts()
        assert (bare.workspace, bare.size.name) == ("bare", "medium")

    def test_without_layers_it_is_a_name(self) -> None:
        assert parse_spec({**MINIMAL, "gateway_workspace": "staging"}).workspace == "staging"
        assert parse_spec(MINIMAL).workspace is None

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (
                {"gateway_workspace": "stagin"},
                "gateway_workspace: no workspace named 'stagin' in gateway_workspaces; did you mean 'staging'?",
            ),
            (
                {"gateway_workspace": "x"},
                "gateway_workspace: no workspace named 'x' in gateway_workspaces; known are staging, production, bare",
            ),
            ({}, "gateway_workspace: is required, since there is gateway_workspaces; known are staging, production, "),
            ({"gateway_workspace": ["a"]}, "gateway_workspace: must be a string, not a list"),
            ({"gateway_workspaces": ["a"]}, "gateway_workspaces: must be a dictionary, not a list"),
            (
                {"gateway_workspaces": {"a": {}, "b": []}, "gateway_workspace": "a"},
                "gateway_workspaces.b: must be a dictionary, not a list",
            ),
            (
                {"gateway_workspaces": {"a": {"gateway_workspace": "b"}}, "gateway_workspace": "a"},
                "gateway_workspaces.a.gateway_workspace: is what chooses a layer, so it is in none; set it beside them",
            ),
            (
                {"gateway_workspaces": {"a": {"gateway_shared": {}}}, "gateway_workspace": "a"},
                "gateway_shared: is not a known key",
            ),
        ],
    )
    def test_what_is_wrong_with_it_is_said_alone(self, more: dict[str, Any], said: str) -> None:
        with pytest.raises(SpecError) as caught:
            parse_spec({**self.RAW, **more})
        assert str(caught.value).startswith(said)
        assert len(caught.value.errors) == 1


#: A workspace's name is in no layer.
NAMELESS = (("gateway_workspace",), REMOVED)


class TestSharedLayer:
    def test_dictionaries_are_merged_by_key_at_every_depth(self) -> None:
        spec = parse_spec(
            {
                "gateway_shared": {
                    **MINIMAL,
                    "gateway_models": {
                        "m": {
                            "targets": [{"provider": "p", "model": "m"}],
                            "timeouts": {"idle": "7s", "first_byte": "3s"},
                        }
                    },
                },
                "gateway_models": {
                    "m": {"timeouts": {"idle": "60s"}},
                    "n": {"targets": [{"provider": "q", "model": "n"}]},
                },
                "gateway_providers": {"q": {"type": "openai", "base_url": "https://q.example/v1"}},
            }
        )
        assert [model.name for model in spec.models] == ["m", "n"]
        assert spec.models[0].timeouts == Timeouts(first_byte=3.0, idle=60.0)
        assert [provider.name for provider in spec.providers] == ["p", "q"]

    def test_lists_and_scalars_are_replaced(self) -> None:
        spec = parse_spec(
            {
                "gateway_shared": {**changed(NAMELESS), "gateway_release_keep": 9},
                "gateway_providers": {"vllm": {"base_url": "http://10.1.1.1:8000/v1"}},
                "gateway_release_keep": 3,
            }
        )
        assert spec.providers[3].base_urls == (BaseUrl("http", "10.1.1.1", 8000, "/v1"),)
        assert spec.release_keep == 3

    def test_null_removes_an_entry_a_key_and_a_variable(self) -> None:
        spec = parse_spec(
            {
                "gateway_shared": changed(NAMELESS),
                "gateway_consumers": {"search-team": None},
                "gateway_models": {"gpt-5": {"price": None}},
                "gateway_size": None,
            }
        )
        assert [consumer.name for consumer in spec.consumers] == ["batch"]
        assert spec.models[0].price is None
        assert spec.size.name == "medium"

    def test_a_custom_size_is_not_mixed_with_the_name_of_one(self) -> None:
        spec = parse_spec({"gateway_shared": {**MINIMAL, "gateway_size": "large"}, "gateway_size": {"concurrency": 1}})
        assert spec.size == Size("custom", 1)

    def test_errors_name_the_resource_and_not_the_layer(self) -> None:
        shared = changed(NAMELESS, (("gateway_models", "gpt-5", "targets", 0, "weight"), "many"))
        with pytest.raises(SpecError) as caught:
            parse_spec({"gateway_shared": shared})
        assert [problem.path for problem in caught.value.errors] == ["gateway_models.gpt-5.targets[0].weight"]

    def test_a_dictionary_that_contains_itself_is_an_error_and_no_crash(self) -> None:
        ring: dict[str, Any] = {}
        ring["gateway_models"] = ring
        with pytest.raises(SpecError):
            parse_spec({**ring, "gateway_shared": ring})

    def test_it_does_not_change_its_input(self) -> None:
        raw = {"gateway_shared": changed(NAMELESS), "gateway_consumers": {"batch": {"models": ["gpt-5"]}}}
        parse_spec(raw)
        assert raw == {"gateway_shared": changed(NAMELESS), "gateway_consumers": {"batch": {"models": ["gpt-5"]}}}
