"""What is said of each thing that can be wrong in a spec."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from spec_examples import REMOVED, changed, every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec


def problems(raw: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(raw)
    lines = [str(problem) for problem in caught.value.errors]
    assert str(caught.value) == "\n".join(lines)
    return lines


LISTENERS, PROVIDERS = "gateway_listeners", "gateway_providers"
MODELS, CONSUMERS = "gateway_models", "gateway_consumers"
PUBLIC = (LISTENERS, "public")
OTLP = ("gateway_otlp",)
PROMPTS = ("gateway_prompt_log",)
GPT = (MODELS, "gpt-5")
SEARCH = (CONSUMERS, "search-team")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        # Unknown keys.
        (("gateway_modles",), {}, "gateway_modles: is not a known key; did you mean 'gateway_models'?"),
        (
            (*PUBLIC, "adress"),
            "::",
            "gateway_listeners.public.adress: is not a known key; did you mean 'address'?",
        ),
        ((*PUBLIC, "http3"), "yes", "gateway_listeners.public.http3: must be true or false, not 'yes'"),
        (
            ("gateway_listeners", "local", "http3"),
            True,
            "gateway_listeners.local.http3: needs tls: there is no HTTP/3 without it",
        ),
        (
            ("gateway_max_request_size",),
            "17M",
            "gateway_listeners.public.http3: needs a gateway_max_request_size of 16M at most",
        ),
        (
            (*PUBLIC, "zzz"),
            1,
            "gateway_listeners.public.zzz: is not a known key; known are address, port, tls, http3, cors",
        ),
        (
            (*GPT, "timeouts", "first-byte"),
            "1s",
            "gateway_models.gpt-5.timeouts.first-byte: is not a known key; did you mean 'first_byte'?",
        ),
        ((*PUBLIC, 5), 1, "gateway_listeners.public.5: is not a known key; known are address, port, tls, http3, cors"),
        # Keys and words of later releases.
        (
            (*SEARCH, "limits", "models", "gpt-6"),
            {"requests_per_minute": 1},
            "gateway_consumers.search-team.limits.models.gpt-6: no model named 'gpt-6'; did you mean 'gpt-5'?",
        ),
        (
            (*SEARCH, "limits", "models", "claude-*"),
            {"requests_per_minute": 1},
            "gateway_consumers.search-team.limits.models.claude-*: no model matches 'claude-*'",
        ),
        (
            (*SEARCH, "models"),
            ["text-embedding-*"],
            "gateway_consumers.search-team.limits.models.gpt-5: is no model that the consumer may use",
        ),
        (
            (*SEARCH, "models", 0),
            "gpt-6",
            "gateway_consumers.search-team.models[0]: no model named 'gpt-6'; did you mean 'gpt-5'?",
        ),
        (
            (*SEARCH, "limits", "models", "gpt 5"),
            {"requests_per_minute": 1},
            "gateway_consumers.search-team.limits.models.gpt 5: 'gpt 5' must be a model's name or a pattern such as "
            "'text-embedding-*'",
        ),
        (
            (*SEARCH, "limits", "models", "gpt-5"),
            {},
            "gateway_consumers.search-team.limits.models.gpt-5: needs requests_per_minute or tokens_per_minute "
            "or tokens_per_day",
        ),
        (
            (*SEARCH, "limits", "tokens_per_day"),
            0,
            "gateway_consumers.search-team.limits.tokens_per_day: must be between 1 and 4000000000",
        ),
        (
            ("gateway_rate_limit_service", "address"),
            "limits example",
            "gateway_rate_limit_service.address: 'limits example' must be the name or the address of a host",
        ),
        (
            ("gateway_rate_limit_service", "on_failure"),
            "alow",
            "gateway_rate_limit_service.on_failure: 'alow' is not one of allow, deny; did you mean 'allow'?",
        ),
        (
            ("gateway_rate_limit_service", "tls", "ca"),
            "env://CA",
            "gateway_rate_limit_service.tls.ca: must be an absolute path on the host or PEM text: it is no secret",
        ),
        (
            (*SEARCH, "limits", "concurrent_requests"),
            5,
            "gateway_consumers.search-team.limits.concurrent_requests: is not possible: Envoy counts the open requests "
            "of providers and models only; set concurrent_requests of a provider or in the limits of a model",
        ),
        (
            (PROVIDERS, "openai", "concurrent_requests"),
            0,
            "gateway_providers.openai.concurrent_requests: must be between 1 and 100000",
        ),
        (
            ("gateway_models", "gpt-5"),
            {
                "targets": [{"provider": "openai", "model": "a"}, {"provider": "claude", "model": "b"}],
                "limits": {"concurrent_requests": 5},
            },
            "gateway_models.gpt-5.limits.concurrent_requests: is not possible for a model of providers of the type "
            "anthropic and others",
        ),
        (
            (PROVIDERS, "openai", "max_tokens"),
            9,
            "gateway_providers.openai.max_tokens: is not allowed for the type openai",
        ),
        (
            (PROVIDERS, "claude", "max_tokens"),
            0,
            "gateway_providers.claude.max_tokens: must be between 1 and 1000000",
        ),
        (
            (PROVIDERS, "openai", "api_key"),
            "aws-sm://prod openai#key",
            "gateway_providers.openai.api_key: aws-sm:// references are written "
            "aws-sm://NAME[#JSON_KEY][?stage=STAGE|?version_id=ID]",
        ),
        # Wrong types.
        ((LISTENERS,), [], "gateway_listeners: must be a dictionary of names, not a list"),
        (PUBLIC, "x", "gateway_listeners.public: must be a dictionary, not a string"),
        ((*PUBLIC, "port"), True, "gateway_listeners.public.port: must be a whole number, not True"),
        ((*PUBLIC, "port"), 1.5, "gateway_listeners.public.port: must be a whole number, not 1.5"),
        ((*PUBLIC, "port"), "https", "gateway_listeners.public.port: must be a whole number, not 'https'"),
        ((*PUBLIC, "port"), [], "gateway_listeners.public.port: must be a whole number, not a list"),
        ((*PUBLIC, "port"), 65536, "gateway_listeners.public.port: must be between 1 and 65535"),
        (
            (*PUBLIC, "address"),
            "localhost",
            "gateway_listeners.public.address: 'localhost' must be an IPv4 or IPv6 address",
        ),
        (
            (*PUBLIC, "tls", "min_version"),
            1.2,
            "gateway_listeners.public.tls.min_version: must be a string, but YAML reads it as a number; "
            "put it in quotes",
        ),
        (
            (*PUBLIC, "tls", "min_version"),
            "1.4",
            "gateway_listeners.public.tls.min_version: '1.4' is not one of 1.0, 1.1, 1.2, 1.3; did you mean '1.3'?",
        ),
        (
            (PROVIDERS, "azure_eu", "api_version"),
            datetime.date(2024, 10, 21),
            "gateway_providers.azure_eu.api_version: must be a string, but YAML reads it as a date; put it in quotes",
        ),
        (
            (*GPT, "targets", 0, "model"),
            4,
            "gateway_models.gpt-5.targets[0].model: must be a string, but YAML reads it as a number; put it in quotes",
        ),
        (
            (MODELS, 4),
            {"targets": [{"provider": "openai", "model": "four"}]},
            "gateway_models.4: must be a string, but YAML reads it as a number; put it in quotes",
        ),
        (
            (*GPT, "targets", 0, "model"),
            {},
            "gateway_models.gpt-5.targets[0].model: must be a string, not a dictionary",
        ),
        ((*GPT, "targets", 0), None, "gateway_models.gpt-5.targets[0]: must be a dictionary, not null"),
        ((*GPT, "fallbacks"), "vllm", "gateway_models.gpt-5.fallbacks: must be a list, not a string"),
        ((*GPT, "price", "input"), "cheap", "gateway_models.gpt-5.price.input: must be a number, not 'cheap'"),
        ((*GPT, "price", "input"), -1, "gateway_models.gpt-5.price.input: must be between 0 and 1e15"),
        ((*GPT, "price", "input"), float("nan"), "gateway_models.gpt-5.price.input: must be between 0 and 1e15"),
        (
            ("gateway_limits_scope",),
            "cluster",
            "gateway_limits_scope: 'cluster' is not one of fleet, host",
        ),
        (("gateway_max_request_size",), "1G", "gateway_max_request_size: must be between 64K and 128M"),
        (
            ("gateway_max_request_size",),
            7,
            "gateway_max_request_size: must have a unit, such as '10M', not be a number",
        ),
        (("gateway_release_keep",), 1, "gateway_release_keep: must be between 2 and 1000"),
        (
            ("gateway_size",),
            4,
            "gateway_size: must be one of small, medium, large or a dictionary, not a number",
        ),
        (
            ("gateway_size",),
            "medum",
            "gateway_size: 'medum' is not one of small, medium, large; did you mean 'medium'?",
        ),
        (("gateway_size", "concurrency"), REMOVED, "gateway_size.concurrency: is required"),
        (("gateway_shared",), [], "gateway_shared: must be a dictionary, not a list"),
        (("gateway_policies",), ["off"], "gateway_policies: must be a dictionary of names, not a list"),
        (OTLP, {"endpoint": "https://c"}, "gateway_otlp: sends nothing; set traces or logs, or leave it out"),
        ((*OTLP, "logs"), "maybe", "gateway_otlp.logs: must be true or false, not 'maybe'"),
        (
            (*OTLP, "ca"),
            "vault://kv/a#b",
            "gateway_otlp.ca: must be an absolute path on the host or PEM text: it is no secret",
        ),
        ((*OTLP, "headers"), [], "gateway_otlp.headers: must be a dictionary, not a list"),
        ((*OTLP, "headers", "Host"), "x", "gateway_otlp.headers.Host: cannot be set: it belongs to the export itself"),
        (
            (*OTLP, "headers", "a b"),
            "x",
            "gateway_otlp.headers.a b: 'a b' must be the name of a header: letters, "
            "digits, '-' and '_', beginning with a letter or digit",
        ),
        (
            (*OTLP, "headers", "Authorization"),
            "x",
            "gateway_otlp.headers.Authorization: is a header that is there already",
        ),
        ((*OTLP, "traces", "sampling"), "101%", "gateway_otlp.traces.sampling: must be between 0% and 100%"),
        (
            (*OTLP, "traces", "propagate_to"),
            ["vlm"],
            "gateway_otlp.traces.propagate_to[0]: no provider named 'vlm'; did you mean 'vllm'?",
        ),
        (
            (*OTLP, "traces", "propagate_to"),
            ["vllm", "vllm"],
            "gateway_otlp.traces.propagate_to[1]: is the same provider as propagate_to[0]",
        ),
        ((*PROMPTS, "until"), REMOVED, "gateway_prompt_log.until: is required"),
        (
            (*PROMPTS, "until"),
            "tomorrow",
            "gateway_prompt_log.until: 'tomorrow' must be a time in UTC such as '2026-12-31T00:00Z'",
        ),
        (
            (*PROMPTS, "until"),
            "2026-02-30T00:00Z",
            "gateway_prompt_log.until: '2026-02-30T00:00Z' must be a time in UTC such as '2026-12-31T00:00Z'",
        ),
        (
            (*PROMPTS, "consumers"),
            [],
            "gateway_prompt_log.consumers: names no consumer; leave gateway_prompt_log out instead",
        ),
        (
            (*PROMPTS, "consumers"),
            ["serch-team"],
            "gateway_prompt_log.consumers[0]: no consumer named 'serch-team'; did you mean 'search-team'?",
        ),
        ((*PROMPTS, "consumers"), ["x*"], "gateway_prompt_log.consumers[0]: no consumer matches 'x*'"),
        (
            (*PROMPTS, "retention"),
            "2y",
            "gateway_prompt_log.retention: '2y' must be a whole number and its unit (d), such as '7d'",
        ),
        ((*PROMPTS, "max_size"), "2M", "gateway_prompt_log.max_size: must be between 1K and 1M"),
        # The kernel.
        (
            ("gateway_nftables", "metrics_from", 0),
            "10.0.5.7/24",
            "gateway_nftables.metrics_from[0]: '10.0.5.7/24' must be an address or a network such as 10.0.5.0/24, "
            "without bits beside the prefix",
        ),
        (
            ("gateway_nftables", "metrics_from", 0),
            "monitoring",
            "gateway_nftables.metrics_from[0]: 'monitoring' must be an address or a network such as 10.0.5.0/24",
        ),
        (("gateway_nftables", "others"), "accept", "gateway_nftables.ports: is not allowed for the others accept"),
        (
            ("gateway_nftables", "others"),
            REMOVED,
            "gateway_nftables.ports: is for others: drop; without it other ports are left to other rules",
        ),
        (("gateway_nftables", "ports"), REMOVED, "gateway_nftables.ports: is required for the others drop"),
        (
            ("gateway_metrics", "address"),
            "127.0.0.1",
            "gateway_nftables.metrics_from: cannot be: the metrics are offered on 127.0.0.1 only; set "
            "gateway_metrics.address, or leave it out",
        ),
        (
            ("gateway_sysctls",),
            {"net.core.somaxconn": 8192},
            "gateway_sysctls.net.core.somaxconn: must be a string, but YAML reads it as a number; put it in quotes",
        ),
        (
            ("gateway_sysctls",),
            {"somaxconn": "1"},
            "gateway_sysctls.somaxconn: 'somaxconn' must be the name of a kernel setting such as net.core.somaxconn",
        ),
        (
            ("gateway_sysctls",),
            {"net.core.somaxconn": "1\nkernel.core_pattern = |/bin/sh"},
            "gateway_sysctls.net.core.somaxconn: '1\\nkernel.core_pattern = |/bin/sh' must be a value in printable "
            "ASCII characters",
        ),
        # Units.
        (
            (*GPT, "timeouts", "idle"),
            300,
            "gateway_models.gpt-5.timeouts.idle: must have a unit, such as '120s', not be a number",
        ),
        (
            (*GPT, "timeouts", "idle"),
            "300",
            "gateway_models.gpt-5.timeouts.idle: '300' must be a whole number and its unit "
            "(s, ms, m, h), such as '120s'",
        ),
        (
            (*GPT, "timeouts", "idle"),
            "5 m",
            "gateway_models.gpt-5.timeouts.idle: '5 m' must be a whole number and its unit "
            "(s, ms, m, h), such as '120s'",
        ),
        ((*GPT, "timeouts", "idle"), "0s", "gateway_models.gpt-5.timeouts.idle: must be between 1ms and 86400s"),
        (
            ("gateway_size", "memory_max"),
            "2GB",
            "gateway_size.memory_max: '2GB' must be a whole number and its unit (T, G, M, K), such as '2G'",
        ),
        (("gateway_size", "memory_max"), "2M", "gateway_size.memory_max: must be between 64M and 1024T"),
        (
            ("gateway_size", "cpu_quota"),
            400,
            "gateway_size.cpu_quota: must have a unit, such as '200%', not be a number",
        ),
        # References between places.
        (
            (*GPT, "targets", 1, "provider"),
            "azure-eu",
            "gateway_models.gpt-5.targets[1].provider: no provider named 'azure-eu'; did you mean 'azure_eu'?",
        ),
        (
            (*GPT, "fallbacks", 0, "provider"),
            "nowhere",
            "gateway_models.gpt-5.fallbacks[0].provider: no provider named 'nowhere'",
        ),
        (
            (*SEARCH, "models", 1),
            "text-embeding-*",
            "gateway_consumers.search-team.models[1]: no model matches 'text-embeding-*'; "
            "did you mean 'text-embedding-3-small'?",
        ),
        (
            ("gateway_policies", "plain_sercet"),
            "off",
            "gateway_policies.plain_sercet: no policy named 'plain_sercet'; did you mean 'plain_secret'?",
        ),
        (
            ("gateway_policy_exceptions", 0, "policy"),
            "tls_versoin",
            "gateway_policy_exceptions[0].policy: no policy named 'tls_versoin'; did you mean 'tls_version'?",
        ),
        (
            ("gateway_policy_exceptions", 0, "expires"),
            REMOVED,
            "gateway_policy_exceptions[0].expires: is required",
        ),
        (
            ("gateway_policies", "plain_secret"),
            "denied",
            "gateway_policies.plain_secret: 'denied' is not one of deny, warn, off; did you mean 'deny'?",
        ),
        (
            ("gateway_policies", "plain_secret"),
            True,
            "gateway_policies.plain_secret: must be a string, but YAML reads it as a boolean; put it in quotes",
        ),
        # Duplicates.
        (
            (*GPT, "targets", 1),
            {"provider": "openai", "model": "gpt-5"},
            "gateway_models.gpt-5.targets[1]: is the same target as targets[0]",
        ),
        (
            (*GPT, "fallbacks", 0),
            {"provider": "azure_eu", "model": "gpt5-eu"},
            "gateway_models.gpt-5.fallbacks[0]: is the same target as targets[1]",
        ),
        (
            (*SEARCH, "api_keys", 1),
            "vault://kv/consumers/search#current",
            "gateway_consumers.search-team.api_keys[1]: is the same key as gateway_consumers.search-team.api_keys[0]",
        ),
        (
            (CONSUMERS, "batch", "api_keys", 0),
            "vault://kv/consumers/search#previous",
            "gateway_consumers.batch.api_keys[0]: is the same key as gateway_consumers.search-team.api_keys[1]",
        ),
        (
            (*SEARCH, "models", 1),
            "gpt-5",
            "gateway_consumers.search-team.models[1]: is the same pattern as models[0]",
        ),
        (
            (PROVIDERS, "vllm", "base_url", 1),
            "http://10.20.0.5:8000/v1/",
            "gateway_providers.vllm.base_url[1]: is the same URL as base_url[0]",
        ),
        (
            (PROVIDERS, "vllm", "base_url", 1),
            "http://10.20.0.6:8000/v2",
            "gateway_providers.vllm.base_url[1]: must have the scheme and path of base_url[0]; "
            "other ones need a provider of their own",
        ),
        (
            (LISTENERS, "local", "port"),
            443,
            "gateway_listeners.local.port: 127.0.0.1:443 is already used by gateway_listeners.public (0.0.0.0:443)",
        ),
        (
            ("gateway_metrics",),
            {"address": "0.0.0.0", "port": 8080},
            "gateway_metrics.port: 0.0.0.0:8080 is already used by gateway_listeners.local (127.0.0.1:8080)",
        ),
        (("gateway_metrics",), 9902, "gateway_metrics: must be a dictionary, not a number"),
        # Nothing where something is needed.
        ((LISTENERS,), REMOVED, "gateway_listeners: needs at least one listener"),
        ((LISTENERS,), {}, "gateway_listeners: needs at least one listener"),
        ((*GPT, "targets"), REMOVED, "gateway_models.gpt-5.targets: needs at least one target"),
        ((*GPT, "targets"), [], "gateway_models.gpt-5.targets: needs at least one target"),
        (
            (*GPT, "targets"),
            [{"provider": "openai", "model": "gpt-5", "weight": 0}],
            "gateway_models.gpt-5.targets: the weights add up to 0; at least one target needs a weight above 0",
        ),
        (
            (*SEARCH, "models"),
            [],
            "gateway_consumers.search-team.models: allows no model; list the models that the consumer may use",
        ),
        (
            (*SEARCH, "models"),
            REMOVED,
            "gateway_consumers.search-team.models: allows no model; list the models that the consumer may use",
        ),
        ((*SEARCH, "api_keys"), [], "gateway_consumers.search-team.api_keys: needs at least one key"),
        ((*SEARCH, "api_keys", 0), "", "gateway_consumers.search-team.api_keys[0]: must not be empty"),
        ((PROVIDERS, "vllm", "base_url"), [], "gateway_providers.vllm.base_url: needs at least one entry"),
        ((*PUBLIC, "tls", "private_key"), REMOVED, "gateway_listeners.public.tls.private_key: is required"),
        # What belongs to one type of provider.
        (
            (PROVIDERS, "azure_eu", "api_version"),
            REMOVED,
            "gateway_providers.azure_eu.api_version: is required for the type azure_openai",
        ),
        (
            (PROVIDERS, "openai", "api_version"),
            "2024-10-21",
            "gateway_providers.openai.api_version: is not allowed for the type openai",
        ),
        (
            (*GPT, "fallbacks", 0, "weight"),
            1,
            "gateway_models.gpt-5.fallbacks[0].weight: is not allowed in fallbacks, which are tried in their order",
        ),
        # Names.
        (
            (MODELS, "gpt 5"),
            {"targets": [{"provider": "openai", "model": "x"}]},
            "gateway_models.gpt 5: 'gpt 5' must be a name of printable ASCII characters without spaces, quotes, "
            "backslashes and asterisks",
        ),
        (
            (LISTENERS, "-x"),
            {"address": "127.0.0.1", "port": 1},
            "gateway_listeners.-x: '-x' must be a name of letters, digits, '_', '.' and '-', beginning with a letter "
            "or digit",
        ),
        (
            (LISTENERS, "x" * 65),
            {"address": "127.0.0.1", "port": 1},
            "gateway_listeners.'" + "x" * 56 + "...: is longer than 64 characters",
        ),
        (
            (LISTENERS, "a\nb"),
            {"address": "127.0.0.1", "port": 1},
            r"gateway_listeners.'a\nb': 'a\nb' must be a name of letters, digits, '_', '.' and '-', beginning with a "
            "letter or digit",
        ),
    ],
)
def test_one_problem(path: tuple[Any, ...], value: Any, expected: str) -> None:
    assert problems(changed((path, value))) == [expected]


def test_every_problem_is_told_at_once_in_the_order_of_the_variables() -> None:
    raw = changed(
        (("gateway_policies", "nonsense"), "deny"),
        ((*GPT, "targets", 1, "provider"), "azure-eu"),
        ((*GPT, "timeouts", "idle"), 5),
        ((*PUBLIC, "port"), "x"),
        ((*SEARCH, "models", 0), "gpt-6"),
        (("gateway_modles",), {}),
    )
    assert [line.partition(": ")[0] for line in problems(raw)] == [
        "gateway_listeners.public.port",
        "gateway_models.gpt-5.timeouts.idle",
        "gateway_models.gpt-5.targets[1].provider",
        "gateway_consumers.search-team.models[0]",
        "gateway_policies.nonsense",
        "gateway_modles",
    ]


def test_a_misspelt_required_key_is_one_problem() -> None:
    raw = changed(
        ((*GPT, "target"), every_key()[MODELS]["gpt-5"]["targets"]),
        ((*GPT, "targets"), REMOVED),
    )
    assert problems(raw) == ["gateway_models.gpt-5.target: is not a known key; did you mean 'targets'?"]


def test_a_wrong_provider_is_still_known_to_its_models() -> None:
    raw = changed(((PROVIDERS, "openai", "type"), "opena"), ((PROVIDERS, "vllm"), "http://10.20.0.5:8000/v1"))
    assert problems(raw) == [
        "gateway_providers.openai.type: 'opena' is not one of openai, azure_openai, openai_compatible, anthropic; "
        "did you mean 'openai'?",
        "gateway_providers.vllm: must be a dictionary, not a string",
    ]


def test_an_empty_spec() -> None:
    assert problems({}) == [
        "gateway_listeners: needs at least one listener",
        "gateway_providers: needs at least one provider",
        "gateway_models: needs at least one model",
    ]


SECRET = "sk-canary-0123456789"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*SEARCH, "api_keys"), SECRET),
        ((*SEARCH, "api_keys", 0), SECRET + "\n"),
        ((*SEARCH, "api_keys", 0), "valt://" + SECRET),
        ((*SEARCH, "api_keys", 0), "vault://" + SECRET),
        ((*SEARCH, "api_keys", 0), {"key": SECRET}),
        ((CONSUMERS, "batch", "api_keys"), [SECRET, SECRET]),
        ((PROVIDERS, "openai", "api_key"), [SECRET]),
        ((PROVIDERS, "openai", "base_url"), f"https://user:{SECRET}@api.openai.com/v1"),
        ((PROVIDERS, "openai", "base_url"), f"https://api.openai.com/v1?key={SECRET}"),
        ((*PUBLIC, "tls", "private_key"), SECRET),
    ],
)
def test_no_problem_repeats_a_secret(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(changed((path, value)))
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("127.0.0.1", "127.0.0.2", True),
        ("0.0.0.0", "10.0.0.1", False),
        ("10.0.0.1", "0.0.0.0", False),
        ("::", "::1", False),
        ("fd00::1", "FD00:0::1", False),
        ("0.0.0.0", "::", True),
        ("0.0.0.0", "::1", True),
        ("127.0.0.1", "127.0.0.1", False),
    ],
)
def test_which_addresses_share_a_port(first: str, second: str, together: bool) -> None:
    raw = changed(((LISTENERS,), {"a": {"address": first, "port": 80}, "b": {"address": second, "port": 80}}))
    if together:
        assert len(parse_spec(raw).listeners) == 2
    else:
        assert [line.partition(": ")[0] for line in problems(raw)] == ["gateway_listeners.b.port"]


def test_thousands_of_unknown_names_do_not_take_minutes() -> None:
    raw = every_key()
    raw[MODELS].update({f"m{i}": {"targets": [{"provider": "openai", "model": f"m{i}"}]} for i in range(1000)})
    raw[CONSUMERS] = {f"c{i}": {"api_keys": [f"env://C{i}"], "models": [f"x{i}"]} for i in range(10000)}
    assert len(problems(raw)) == 10000


def test_limits_for_a_day_need_the_service() -> None:
    with pytest.raises(SpecError) as error:
        parse_spec(changed((("gateway_rate_limit_service",), REMOVED)))
    needs = "needs gateway_rate_limit_service: hosts forget what they have counted; "
    needs += "set it, or tokens_per_minute instead"
    assert sorted(str(error.value).splitlines()) == [
        f"gateway_consumers.search-team.limits.models.gpt-5.tokens_per_day: {needs}",
        f"gateway_consumers.search-team.limits.tokens_per_day: {needs}",
        f"gateway_models.gpt-5.limits.tokens_per_day: {needs}",
    ]
