# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spec of a gateway: what the variables of the role mean, after parsing.

Everything is frozen, sequences are tuples and named things are sorted by name, so that equal specs are equal objects.
The metadata of the fields is the one source of the parser, the JSON schema, the argument specs and the reference
documentation: ``tools/docs`` writes the last three. Defaults are stated here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.endpoints import ENDPOINTS
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.jwks import Jwks, JwksSource
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kernel import SYSCTLS, Nftables
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Address,
    Choice,
    Flag,
    Integer,
    ListOf,
    Named,
    Number,
    Preset,
    Record,
    Severities,
    SourceKind,
    Text,
    byte_size,
    duration,
    spec,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.names import NAME
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.patterns import ModelNames
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_exceptions import PolicyException
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_rules import RULE_NAME, PolicyRule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import (
    CONCURRENT_REQUESTS,
    PROTECTED,
    Provider,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.rate_limit_service import RateLimitService
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Source
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.retries import Retries
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.sizes import SIZES, Size
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.telemetry import Otlp, PromptLog

# Clients send a model's name in JSON and Envoy carries it in a header: ASCII, and nothing that JSON would escape.
# An asterisk is left to the patterns of consumers.
MODEL_NAME = Text(
    r"^[!#-&(-)+-\[\]-~]+$",
    "a name of printable ASCII characters without spaces, quotes, backslashes and asterisks",
)
MODEL_PATTERN = Text(
    r"^[!#-&(-\[\]-~]+$",
    "a model's name or a pattern such as 'text-embedding-*'",
)
ENDPOINT_NAME = Choice(tuple(ENDPOINTS))
PORT = Integer(1, 65535)
# As browsers write it: lower case, no port where it is the scheme's own. A pattern needs a domain and what it ends in.
ORIGIN = Text(
    r"^(?:http://(?![^:]*:80$)|https://(?![^:]*:443$))(?:\*\.(?=[^.:]+\.))?"
    r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)*(?::[1-9][0-9]{0,4})?$",
    "an origin such as 'https://app.example.com' or 'https://*.example.com', in lower case, without a path and "
    "without the port of its scheme",
)
# Compared with what a token says, character by character.
CLAIM_VALUE = Text(r"^[ -~]+$", "printable ASCII characters")
CLAIM_NAME = Text(r"^[!-~]+$", "the name of a claim such as 'client_id'")
REQUESTS = Integer(1, 100000000)
TOKENS = Integer(1, 500000000)
# Services count in 32 bits.
TOKENS_OF_DAY = Integer(1, 4000000000)

# What Envoy holds of a request over HTTP/3 is the window of its stream, whose largest size this is.
LARGEST_OVER_HTTP3 = 16 * 1024**2

# What is said of the same key where nothing could hold it.
NOT_COUNTED = (
    "is not possible: Envoy counts the open requests of providers and models only; set concurrent_requests of a "
    "provider or in the limits of a model"
)


@dataclass(frozen=True)
class Tls:
    """Where a listener's certificate comes from."""

    certificate: Source = field(
        metadata=spec(
            SourceKind(allow_path=True),
            "The certificate and its chain: a reference, an absolute path on the gateway host, or PEM text.",
        )
    )
    private_key: Source = field(
        metadata=spec(
            SourceKind(allow_path=True),
            "The private key of the certificate: a reference, an absolute path on the gateway host, or PEM text.",
        )
    )
    min_version: str = field(
        default="1.2",
        metadata=spec(
            Choice(("1.0", "1.1", "1.2", "1.3")),
            "The lowest version of TLS that is accepted. The policy C(tls_version) denies those below 1.2.",
        ),
    )
    client_ca: Source | None = field(
        default=None,
        metadata=spec(
            SourceKind(allow_path=True),
            "The CAs of clients: a reference, an absolute path on the gateway host, or PEM text. With it the handshake "
            "refuses clients that have no certificate of one of them; they need a key as well.",
        ),
    )


@dataclass(frozen=True)
class Cors:
    """Which web pages may use a listener."""

    allow_origins: tuple[str, ...] = field(
        metadata=spec(
            ListOf(ORIGIN, minimum=1, empty="allows no origin; leave cors out instead"),
            "The origins of the pages: C(https://app.example.com), or C(https://*.example.com) for every name below "
            "C(example.com), which itself is not one of them. There is no wildcard for all.",
        )
    )
    max_age: float = field(
        default=600.0,
        metadata=spec(duration(1000), "How long a browser remembers what it was told; whole seconds."),
    )


@dataclass(frozen=True)
class Listener:
    """A socket that clients connect to."""

    name: str
    address: str = field(metadata=spec(Address(), "The IPv4 or IPv6 address to listen on."))
    port: int = field(metadata=spec(PORT, "The TCP port to listen on."))
    tls: Tls | None = field(
        default=None,
        metadata=spec(
            Record(Tls),
            "Serve HTTPS with this certificate. Without it the listener serves plain HTTP, "
            "which the policy C(plain_http_outside_loopback) allows on loopback addresses only.",
        ),
    )
    http3: bool = field(
        default=False,
        metadata=spec(
            Flag(),
            "Serve HTTP/3 as well, at the UDP port of the same number, and tell clients of TCP so. "
            "Needs C(tls), and a C(gateway_max_request_size) of V(16M) at most.",
        ),
    )
    cors: Cors | None = field(
        default=None,
        metadata=spec(
            Record(Cors),
            "Let web pages of other origins use the listener (CORS). Without it no browser shows them an answer. "
            "They need a key as everybody does, and whoever sees the page sees its key.",
        ),
    )


@dataclass(frozen=True)
class Metrics:
    """Where the gateway offers its own metrics."""

    address: str = field(
        default="127.0.0.1", metadata=spec(Address(), "The IPv4 or IPv6 address that the metrics are served on.")
    )
    port: int = field(default=9902, metadata=spec(PORT, "The TCP port that the metrics are served on."))


@dataclass(frozen=True)
class Drain:
    """How a host that stops serving leaves its load balancer and its clients; seconds."""

    health_wait: float = field(
        default=15.0,
        metadata=spec(
            duration(0),
            "How long requests are served after C(/healthz) has begun to answer 503, before new connections are "
            "refused. A load balancer has to notice within that time: the interval of its checks, times how many have "
            "to fail, and a second or two. Nothing waits where the process is only replaced by another one.",
        ),
    )
    timeout: float = field(
        default=600.0,
        metadata=spec(
            duration(1000),
            "How long requests and streams that have begun may take when their process stops, is replaced, or has a "
            "changed listener. Those that take longer are cut.",
        ),
    )


@dataclass(frozen=True)
class Target:
    """A provider's deployment of a model, which gets a share of the requests."""

    provider: str = field(metadata=spec(NAME, "The provider, by its name in C(gateway_providers)."))
    model: str = field(metadata=spec(MODEL_NAME, "The name of the model (for Azure: of the deployment) there."))
    weight: int = field(
        default=1,
        metadata=spec(Integer(0, 1000000), "The share of requests, relative to the sum of the weights of all targets."),
    )


@dataclass(frozen=True)
class Fallback:
    """A target in a list of fallbacks, as it is written in a spec: without a weight. Parsed to a :class:`Target`."""

    provider: str = field(metadata=spec(NAME, "The provider, by its name in C(gateway_providers)."))
    model: str = field(metadata=spec(MODEL_NAME, "The name of the model (for Azure: of the deployment) there."))
    becomes: ClassVar[type] = Target
    refused: ClassVar[Mapping[str, str]] = {"weight": "is not allowed in fallbacks, which are tried in their order"}


@dataclass(frozen=True)
class Timeouts:
    """How long the gateway waits for a provider; seconds."""

    first_byte: float = field(
        default=120.0, metadata=spec(duration(), "The longest wait for the beginning of an answer.")
    )
    idle: float = field(
        default=300.0, metadata=spec(duration(), "The longest silence in the midst of an answer or a stream.")
    )


@dataclass(frozen=True)
class Price:
    """What a model costs, in USD per million tokens; information only."""

    input: float = field(metadata=spec(Number(), "The price of tokens sent, in USD per million tokens."))
    output: float = field(metadata=spec(Number(), "The price of tokens received, in USD per million tokens."))


@dataclass(frozen=True)
class SharedLimits:
    """How often a model may be asked for, by all consumers together."""

    requests_per_minute: int | None = field(
        default=None,
        metadata=spec(REQUESTS, "The highest number of requests in a minute, of all consumers together."),
    )
    tokens_per_minute: int | None = field(
        default=None,
        metadata=spec(TOKENS, "The highest number of tokens in a minute, sent and received, of all consumers."),
    )
    tokens_per_day: int | None = field(
        default=None,
        metadata=spec(TOKENS_OF_DAY, "With C(gateway_rate_limit_service) only: the same for a day."),
    )
    concurrent_requests: int | None = field(
        default=None,
        metadata=spec(
            CONCURRENT_REQUESTS,
            "The highest number of requests for the model that are open at a time, of all consumers together.",
        ),
    )


@dataclass(frozen=True)
class Model:
    """A model that clients ask for by name."""

    name: str
    targets: tuple[Target, ...] = field(
        metadata=spec(
            ListOf(Record(Target), minimum=1, empty="needs at least one target"),
            "Who serves the model; requests are spread over the targets by weight.",
        )
    )
    fallbacks: tuple[Target, ...] = field(
        default=(),
        metadata=spec(
            ListOf(Record(Fallback)),
            "Who is asked next, in this order, when a target answers 429 or 5xx or does not answer.",
        ),
    )
    timeouts: Timeouts = field(
        default=Timeouts(), metadata=spec(Record(Timeouts), "How long to wait for the model's targets.")
    )
    retries: Retries | None = field(
        default=None,
        metadata=spec(
            Record(Retries),
            "Ask the last of the fallbacks, or the targets where there are none, again: when it answers 500, 502 or "
            "504, resets the connection or (where the model has nobody else) does not begin to answer in time, and "
            "when it answers with a C(Retry-After) that is short enough. Never after the first byte of an answer. All "
            "attempts and the waits between them take C(timeouts.idle) at most; with several targets or fallbacks "
            "those of the last one take C(timeouts.first_byte) at most. "
            "Without it the client gets a 429 at once, with its C(Retry-After).",
        ),
    )
    price: Price | None = field(
        default=None, metadata=spec(Record(Price), "What the model costs. Kept as information; nothing is charged.")
    )
    limits: SharedLimits | None = field(
        default=None,
        metadata=spec(Record(SharedLimits), "How often the model may be asked for, by all consumers together."),
    )
    protected: bool | None = field(default=None, metadata=spec(Flag(), PROTECTED))


@dataclass(frozen=True)
class Endpoint:
    """A part of the API whose paths carry no model, and who serves it."""

    name: str
    provider: str = field(metadata=spec(NAME, "The provider, by its name in C(gateway_providers)."))


@dataclass(frozen=True)
class ModelLimit:
    """How often a consumer may ask for a model; ``name`` may be a pattern, and is then the limit of each it matches."""

    name: str
    requests_per_minute: int | None = field(
        default=None,
        metadata=spec(REQUESTS, "The highest number of requests in a minute for the model."),
    )
    tokens_per_minute: int | None = field(
        default=None,
        metadata=spec(TOKENS, "The highest number of tokens in a minute for the model, sent and received."),
    )
    tokens_per_day: int | None = field(
        default=None,
        metadata=spec(TOKENS_OF_DAY, "With C(gateway_rate_limit_service) only: the same for a day."),
    )
    refused: ClassVar[Mapping[str, str]] = {"concurrent_requests": NOT_COUNTED}
    one_of: ClassVar[tuple[str, ...]] = ("requests_per_minute", "tokens_per_minute", "tokens_per_day")


@dataclass(frozen=True)
class Limits:
    """How much a consumer may use."""

    requests_per_minute: int | None = field(
        default=None,
        metadata=spec(REQUESTS, "The highest number of requests in a minute, over all models."),
    )
    tokens_per_minute: int | None = field(
        default=None,
        metadata=spec(TOKENS, "The highest number of tokens in a minute, sent and received, over all models."),
    )
    tokens_per_day: int | None = field(
        default=None,
        metadata=spec(TOKENS_OF_DAY, "With C(gateway_rate_limit_service) only: the same for a day."),
    )
    models: tuple[ModelLimit, ...] = field(
        default=(),
        metadata=spec(
            Named(ModelLimit, MODEL_PATTERN, "limit"),
            "Limits for models that the consumer may use, by their names; beside the one over all models. "
            "A name with asterisks sets the limit of each model that it matches, for itself; the limit of a model's "
            "own name goes before, and of several that match the lowest holds.",
        ),
    )
    refused: ClassVar[Mapping[str, str]] = {"concurrent_requests": NOT_COUNTED}


@dataclass(frozen=True)
class JwtIssuer:
    """Who makes tokens (JWT) that consumers may show instead of a key."""

    name: str
    issuer: str = field(metadata=spec(CLAIM_VALUE, "What the claim C(iss) of its tokens is, to the letter."))
    audiences: tuple[str, ...] = field(
        metadata=spec(
            ListOf(CLAIM_VALUE, minimum=1, empty="needs at least one audience"),
            "What the claim C(aud) of a token may be: a token that was made for another service is refused.",
        )
    )
    jwks: JwksSource = field(
        metadata=spec(
            Jwks(),
            "Its public keys (JWKS): a URL that Envoy reads them from, again every minute; a reference; an absolute "
            "path on the gateway host; or JSON text. The policy C(jwks_over_plain_http) allows a URL with http on "
            "loopback addresses only.",
        )
    )
    claim: str = field(
        metadata=spec(CLAIM_NAME, "The claim that says whose token it is, such as C(client_id), C(azp) or C(sub).")
    )


@dataclass(frozen=True)
class ConsumerJwt:
    """Which tokens are a consumer's."""

    issuer: str = field(metadata=spec(NAME, "The issuer, by its name in C(gateway_jwt_issuers)."))
    value: str = field(metadata=spec(CLAIM_VALUE, "The value of the issuer's C(claim) in the consumer's tokens."))


@dataclass(frozen=True)
class Consumer:
    """A client of the gateway, known by its keys or its tokens."""

    name: str
    models: tuple[str, ...] = field(
        metadata=spec(
            ListOf(MODEL_PATTERN, minimum=1, empty="allows no model; list the models that the consumer may use"),
            "The models that the consumer may use, by their names in C(gateway_models). "
            "An asterisk stands for any characters.",
        )
    )
    api_keys: tuple[Source, ...] = field(
        default=(),
        metadata=spec(
            ListOf(SourceKind(allow_path=False), minimum=1, empty="needs at least one key"),
            "References to the keys that the consumer authenticates with; several allow a rotation without a gap. "
            "Required without C(jwt).",
        ),
    )
    jwt: ConsumerJwt | None = field(
        default=None,
        metadata=spec(Record(ConsumerJwt), "The tokens that the consumer authenticates with, beside its keys if any."),
    )
    limits: Limits = field(default=Limits(), metadata=spec(Record(Limits), "How much the consumer may use."))
    endpoints: tuple[str, ...] = field(
        default=(),
        metadata=spec(
            ListOf(ENDPOINT_NAME),
            "The endpoints without a model that the consumer may use, by their names in C(gateway_endpoints). All of "
            "its requests there go to one account of the provider: who may use C(files) sees and deletes the files of "
            "everybody who may.",
        ),
    )
    protected: bool | None = field(default=None, metadata=spec(Flag(), PROTECTED))


@dataclass(frozen=True)
class Spec:
    """The whole spec; one field for each variable."""

    listeners: tuple[Listener, ...] = field(
        metadata=spec(
            Named(Listener, NAME, "listener", minimum=1),
            "The sockets that clients connect to, by name.",
            key="gateway_listeners",
        )
    )
    providers: tuple[Provider, ...] = field(
        metadata=spec(
            Named(Provider, NAME, "provider", minimum=1),
            "The services that models are served by, by name.",
            key="gateway_providers",
        )
    )
    models: tuple[Model, ...] = field(
        metadata=spec(
            Named(Model, MODEL_NAME, "model", minimum=1),
            "The models that clients ask for, by the name they send.",
            key="gateway_models",
        )
    )
    consumers: tuple[Consumer, ...] = field(
        default=(),
        metadata=spec(
            Named(Consumer, NAME, "consumer"), "The clients of the gateway, by name.", key="gateway_consumers"
        ),
    )
    jwt_issuers: tuple[JwtIssuer, ...] = field(
        default=(),
        metadata=spec(
            Named(JwtIssuer, NAME, "issuer"),
            "Who makes the tokens (JWT) that consumers may show instead of a key, by name.",
            key="gateway_jwt_issuers",
        ),
    )
    endpoints: tuple[Endpoint, ...] = field(
        default=(),
        metadata=spec(
            Named(Endpoint, ENDPOINT_NAME, "endpoint"),
            "The endpoints of the API that carry no model, such as C(files) and C(batches), by name. Consumers may "
            "use those in their C(endpoints); there are no others.",
            key="gateway_endpoints",
        ),
    )
    size: Size = field(
        default=SIZES[1],
        metadata=spec(
            Preset(Size, SIZES),
            "How much of a host the gateway gets: the name of a size, or a dictionary.",
            key="gateway_size",
        ),
    )
    limits_scope: str = field(
        default="fleet",
        metadata=spec(
            Choice(("fleet", "host")),
            "With V(fleet) each host enforces its share of every limit, so that all hosts together enforce the limit; "
            "with V(host) each host enforces the whole limit. "
            "Limits that C(gateway_rate_limit_service) keeps are the same for all hosts.",
            key="gateway_limits_scope",
        ),
    )
    rate_limit_service: RateLimitService | None = field(
        default=None,
        metadata=spec(
            Record(RateLimitService),
            "The service that keeps all limits on tokens, exactly and for all hosts together. Without it each host "
            "keeps its share.",
            key="gateway_rate_limit_service",
        ),
    )
    max_request_size: int = field(
        default=10 * 1024**2,
        metadata=spec(
            byte_size(64 * 1024, 128 * 1024**2, "10M"),
            "The largest body of a request, which is held in memory as long as it may be sent to a fallback. "
            "A larger one is refused.",
            key="gateway_max_request_size",
        ),
    )
    release_keep: int = field(
        default=5,
        metadata=spec(
            Integer(2, 1000), "How many releases stay on a host, to roll back to.", key="gateway_release_keep"
        ),
    )
    metrics: Metrics = field(
        default=Metrics(),
        metadata=spec(Record(Metrics), "Where the gateway offers its metrics.", key="gateway_metrics"),
    )
    drain: Drain = field(
        default=Drain(),
        metadata=spec(
            Record(Drain),
            "How long what has begun may take when a process stops, and how long a load balancer has to notice.",
            key="gateway_drain",
        ),
    )
    otlp: Otlp | None = field(
        default=None,
        metadata=spec(
            Record(Otlp),
            "The collector that traces and logs are sent to by OpenTelemetry's protocol. Without it none are sent.",
            key="gateway_otlp",
        ),
    )
    prompt_log: PromptLog | None = field(
        default=None,
        metadata=spec(
            Record(PromptLog),
            "Whose prompts and answers are written to a file of their own, and how long. Without it none ever are.",
            key="gateway_prompt_log",
        ),
    )
    nftables: Nftables | None = field(
        default=None,
        metadata=spec(
            Record(Nftables),
            "A packet filter for the host: clients reach the listeners, and nobody the metrics but who is named. "
            "Without it the gateway leaves filtering to others. Needs nftables and the service manager V(systemd).",
            key="gateway_nftables",
        ),
    )
    sysctls: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=spec(
            SYSCTLS,
            "Settings of the host's kernel, such as C(net.core.somaxconn), as texts. Needs the service manager "
            "V(systemd). One that is taken out keeps its value until the host starts again.",
            key="gateway_sysctls",
        ),
    )
    policies: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=spec(Severities(), "The severities of policies that differ from the default.", key="gateway_policies"),
    )
    policy_exceptions: tuple[PolicyException, ...] = field(
        default=(),
        metadata=spec(
            ListOf(Record(PolicyException)),
            "Places that may break a policy for a while, with who answers for it. One that is over, or that excepts "
            "nothing, is said.",
            key="gateway_policy_exceptions",
        ),
    )
    policy_rules: tuple[PolicyRule, ...] = field(
        default=(),
        metadata=spec(
            Named(PolicyRule, RULE_NAME, "rule"),
            "Policies of your own, by name: Jinja conditions on what the specification describes.",
            key="gateway_policy_rules",
        ),
    )
    provider_regions: tuple[str, ...] = field(
        default=(),
        metadata=spec(
            ListOf(NAME),
            "The regions that providers may be in, for the policy C(provider_region).",
            key="gateway_provider_regions",
        ),
    )
    workspace: str | None = field(
        default=None,
        metadata=spec(
            NAME,
            "The environment that this is the specification of. Hosts remember it: one that serves a workspace refuses "
            "the specification of another.",
            key="gateway_workspace",
        ),
    )

    @cached_property
    def model_names(self) -> ModelNames:
        """The names of all models, for matching patterns; made once for each spec."""
        return ModelNames(model.name for model in self.models)
