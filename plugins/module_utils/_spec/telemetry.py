# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of requests beside the access log and the metrics: the part of the spec's model about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Flag,
    KindError,
    ListOf,
    Pairs,
    Quantity,
    Record,
    SourceKind,
    Text,
    byte_size,
    spec,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.moments import Moment
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Source
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl, Url


@dataclass(frozen=True)
class CollectorHeader(Text):
    """The name of a header for a collector, in lower case."""

    def convert(self, value: object) -> str:
        name = super().convert(value).lower()
        if name in _OF_THE_EXPORT or name.startswith("x-envoy-"):
            raise KindError("cannot be set: it belongs to the export itself")
        return name


_OF_THE_EXPORT = (
    *("connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
)
COLLECTOR_HEADER = CollectorHeader(
    r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
    "the name of a header: letters, digits, '-' and '_', beginning with a letter or digit",
    max_length=64,
)
CONSUMER_PATTERN = Text(r"^[A-Za-z0-9*][A-Za-z0-9_.*-]*$", "a consumer's name or a pattern such as 'team-*'")
SERVICE_NAME = Text(r"^[!-~]+(?: [!-~]+)*$", "printable ASCII characters")
PROVIDER_NAME = Text(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", "the name of a provider", max_length=64)


@dataclass(frozen=True)
class OtlpTraces:
    """Which requests become spans."""

    sampling: int = field(
        default=100,
        metadata=spec(
            Quantity((("%", 1),), 0, 100, "10%"),
            "The share of requests that begin a trace. A request with a C(traceparent) goes by what that says: it is "
            "traced when its caller's trace is.",
        ),
    )
    propagate_to: tuple[str, ...] = field(
        default=(),
        metadata=spec(
            ListOf(PROVIDER_NAME),
            "The providers that get C(traceparent), C(tracestate) and C(baggage), such as servers of your own. Others "
            "get none of them, also not those that a client sends.",
        ),
    )


@dataclass(frozen=True)
class Otlp:
    """A collector of OpenTelemetry."""

    endpoint: BaseUrl = field(
        metadata=spec(
            Url(),
            "The URL of the collector for OTLP over HTTP, such as C(https://collector.example.com:4318), which "
            "C(/v1/traces) and C(/v1/logs) follow.",
        )
    )
    headers: tuple[tuple[str, Source], ...] = field(
        default=(),
        metadata=spec(
            Pairs(COLLECTOR_HEADER, SourceKind(allow_path=False), "header"),
            "Headers that the collector wants, by name: references, or words that are no secret. C(Bearer) is put "
            "before a value of C(authorization) that is a single word.",
        ),
    )
    ca: Source | None = field(
        default=None,
        metadata=spec(
            SourceKind(allow_path=True),
            "The CA of the collector's certificate: an absolute path on the gateway host, or PEM text. Without it "
            "those that the host trusts are.",
        ),
    )
    service_name: str = field(
        default="openai-gateway",
        metadata=spec(SERVICE_NAME, "What the gateway is called there (C(service.name))."),
    )
    traces: OtlpTraces | None = field(
        default=None, metadata=spec(Record(OtlpTraces), "Send a span for each request, or for a share of them.")
    )
    logs: bool = field(default=False, metadata=spec(Flag(), "Send what the access log has, too."))


@dataclass(frozen=True)
class PromptLog:
    """Whose prompts and answers are written to a file, and how long."""

    consumers: tuple[str, ...] = field(
        metadata=spec(
            ListOf(CONSUMER_PATTERN, minimum=1, empty="names no consumer; leave gateway_prompt_log out instead"),
            "The consumers, by their names in C(gateway_consumers). An asterisk stands for any characters.",
        )
    )
    until: int = field(
        metadata=spec(
            Moment(),
            "The time in UTC, such as C(2026-12-31T00:00Z), from which on nothing is written. The gateway looks at its "
            "host's clock, so it needs no run to stop.",
        )
    )
    retention: int = field(
        default=7,
        metadata=spec(Quantity((("d", 1),), 1, 366, "7d"), "How many days the files stay on the host."),
    )
    max_size: int = field(
        default=64 * 1024,
        metadata=spec(
            byte_size(1024, 1024**2, "64K"),
            "How much is written of a prompt, and of an answer; the rest is cut off.",
        ),
    )
