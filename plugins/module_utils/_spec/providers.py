# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The providers of a gateway: the part of the spec's model about the services that models are served by."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.headers import HEADER_NAME, HEADER_VALUE
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Choice,
    Flag,
    Integer,
    ListOf,
    Pairs,
    Record,
    SourceKind,
    Text,
    duration,
    spec,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.names import NAME
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Source
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl, ProxyUrl, Url

#: The version of Azure's API that has the paths and the bodies of everybody else's.
AZURE_V1 = "v1"


# Envoy counts up to what it is told for everybody else.
CONCURRENT_REQUESTS = Integer(1, 100000)

# Of whatever has a name and can be removed.
PROTECTED = (
    "With V(true) no run removes it from a host: a change that has it no longer is refused, until one before has taken "
    "the protection away."
)


@dataclass(frozen=True)
class ProviderTls:
    """How a provider is recognized, and how the gateway shows it who is asking."""

    ca: Source | None = field(
        default=None,
        metadata=spec(
            SourceKind(allow_path=True),
            "The CAs that the provider's certificate is from, in place of the host's: a reference, an absolute path "
            "on the gateway host, or PEM text.",
        ),
    )
    certificate: Source | None = field(
        default=None,
        metadata=spec(
            SourceKind(allow_path=True),
            "The certificate (and its chain) that the gateway shows to the provider (mutual TLS): a reference, an "
            "absolute path on the gateway host, or PEM text. It needs C(private_key).",
        ),
    )
    private_key: Source | None = field(
        default=None,
        metadata=spec(
            SourceKind(allow_path=True),
            "The private key of C(certificate): a reference, an absolute path on the gateway host, or PEM text.",
        ),
    )
    server_name: str | None = field(
        default=None,
        metadata=spec(
            Text(
                r"^[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)*$",
                "a host's name in lower case",
                max_length=253,
            ),
            "The name that the provider's certificate has to be for, and that is asked for (SNI), where that is not "
            "the host of the URL.",
        ),
    )


@dataclass(frozen=True)
class HealthCheck:
    """How each address of a provider is asked whether it works; times in seconds."""

    path: str = field(
        metadata=spec(
            Text(r"^/[!-\"$-~]*$", "a path such as '/health'", max_length=1024),
            "The path to ask for, on the server itself and not below C(base_url). It has to answer 200 without a key: "
            "the check has the C(headers) of the provider and its certificate, but not its C(api_key).",
        )
    )
    interval: float = field(default=10.0, metadata=spec(duration(1000), "The time between two checks."))
    timeout: float = field(default=5.0, metadata=spec(duration(100), "How long to wait for an answer."))
    unhealthy_threshold: int = field(
        default=3, metadata=spec(Integer(1, 100), "After how many failures in a row an address gets no more requests.")
    )
    healthy_threshold: int = field(
        default=2,
        metadata=spec(
            Integer(1, 100),
            "After how many successes in a row it gets some again. At a start the first check decides.",
        ),
    )


@dataclass(frozen=True)
class Provider:
    """A service that models are served by."""

    name: str
    type: str = field(
        metadata=spec(
            Choice(("openai", "azure_openai", "openai_compatible", "anthropic")),
            "Which dialect of the OpenAI API the provider speaks; with V(anthropic) it is Anthropic's Messages API, to "
            "which chat completions are translated, as far as that is exact.",
        )
    )
    base_urls: tuple[BaseUrl, ...] = field(
        metadata=spec(
            ListOf(Url(), minimum=1, or_one=True),
            "The URL that the paths of the API follow, such as C(https://api.openai.com/v1), or a list of URLs that "
            "requests are spread over. The URLs of one provider differ in host and port only.",
            key="base_url",
        )
    )
    api_key: Source | None = field(
        default=None,
        metadata=spec(SourceKind(allow_path=False), "A reference to the key that is sent to the provider."),
    )
    api_version: str | None = field(
        default=None,
        metadata=spec(
            Text(r"^[A-Za-z0-9._-]+$", "a version such as '2024-10-21', or 'v1'", max_length=64),
            "The version of the API: V(v1), which has no version in its URLs and the name of the deployment in the "
            "body, or a dated one.",
            only_with=("type", "azure_openai"),
        ),
    )
    max_tokens: int | None = field(
        default=None,
        metadata=spec(
            Integer(1, 1000000),
            "For V(anthropic) only: the longest answer to requests that have no limit of their own, in tokens, since "
            "that API must be told one. The default is 4096.",
        ),
    )
    stream_usage: str | None = field(
        default=None,
        metadata=spec(
            Choice(("ask", "as_is")),
            "With V(ask) the gateway asks for the usage of every stream (C(stream_options.include_usage)), and hides "
            "it from clients that did not ask themselves. With V(as_is) requests stay as clients send them, for a "
            "provider that refuses C(stream_options); the usage of a stream is then known only if the client asked. "
            "It is asked for where all targets and fallbacks of a model can be asked. The default is V(ask), but "
            "V(as_is) for C(azure_openai) with an C(api_version) before 2024-09-01, which does not know it.",
        ),
    )
    headers: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=spec(
            Pairs(HEADER_NAME, HEADER_VALUE, "header"),
            "Headers for every request to this provider, such as C(OpenAI-Organization), in place of those that a "
            "client sent. They are plain text: a credential is written as C(api_key).",
        ),
    )
    tls: ProviderTls | None = field(
        default=None,
        metadata=spec(
            Record(ProviderTls),
            "TLS to the provider, where it differs from what a public one needs. Certificates are always verified. "
            "Only with https URLs.",
        ),
    )
    proxy: BaseUrl | None = field(
        default=None,
        metadata=spec(
            ProxyUrl(),
            "The forward proxy that leads to the provider, such as C(http://proxy.example.com:3128), for http and "
            "https URLs alike: it is asked to C(CONNECT) to the host and port of the URL, whose name it resolves. "
            "A proxy that wants credentials is not supported.",
        ),
    )
    health_check: HealthCheck | None = field(
        default=None,
        metadata=spec(
            Record(HealthCheck),
            "Ask each address regularly whether it works. When none does, the provider counts as failed at once, and "
            "a fallback serves.",
        ),
    )
    region: str | None = field(
        default=None,
        metadata=spec(NAME, "Where the provider is, such as C(eu-west-1), for the policy C(provider_region)."),
    )
    trust_zone: str | None = field(
        default=None,
        metadata=spec(
            NAME,
            "Who may see what is sent to the provider, in words of your own such as C(internal); for the policy "
            "C(fallback_across_trust_zones).",
        ),
    )
    concurrent_requests: int | None = field(
        default=None,
        metadata=spec(
            CONCURRENT_REQUESTS,
            "The highest number of requests that are open to the provider at a time, of all models and endpoints. One "
            "more goes to a fallback, or is refused with 429.",
        ),
    )
    protected: bool | None = field(default=None, metadata=spec(Flag(), PROTECTED))
