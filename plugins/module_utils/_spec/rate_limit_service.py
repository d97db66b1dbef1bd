# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service that keeps limits on tokens for all hosts: the part of the spec's model about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Choice,
    Integer,
    Record,
    SourceKind,
    Text,
    duration,
    spec,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Source

HOST = Text(
    r"^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)$",
    "the name or the address of a host",
)
DOMAIN = Text(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", "letters, digits, '_', '.' and '-', beginning with a letter or digit")


@dataclass(frozen=True)
class RateLimitTls:
    """How the service shows who it is."""

    ca: Source | None = field(
        default=None,
        metadata=spec(
            SourceKind(allow_path=True),
            "The CA of the service's certificate: an absolute path on the gateway host, or PEM text. Without it those "
            "that the host trusts are.",
        ),
    )


@dataclass(frozen=True)
class RateLimitService:
    """A service that speaks Envoy's rate limit protocol over gRPC, such as envoyproxy/ratelimit."""

    address: str = field(metadata=spec(HOST, "The name or the address of the service's host."))
    port: int = field(default=8081, metadata=spec(Integer(1, 65535), "The TCP port of its gRPC."))
    domain: str = field(
        default="openai-gateway",
        metadata=spec(DOMAIN, "The domain of the limits there, so that others can use the service, too."),
    )
    timeout: float = field(
        default=0.02, metadata=spec(duration(), "The longest wait for an answer of the service, for each limit.")
    )
    on_failure: str = field(
        default="allow",
        metadata=spec(
            Choice(("allow", "deny")),
            "What becomes of a request that has limits on tokens when the service does not answer in time: with "
            "V(allow) it is served as if it had none, with V(deny) it is answered 503.",
        ),
    )
    tls: RateLimitTls | None = field(
        default=None,
        metadata=spec(
            Record(RateLimitTls),
            "Speak TLS with the service, whose certificate must be for its C(address). Of a service on another host "
            "without it the policy C(rate_limit_service_without_tls) warns.",
        ),
    )
