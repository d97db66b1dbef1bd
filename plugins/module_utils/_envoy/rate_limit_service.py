# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits on tokens that a rate limit service keeps, for all hosts together.

Each kind of limit has a filter of its own, which names the limit to who is refused: before a request it asks the
service whether anything is left, and takes nothing; when the request is done it tells what that has cost. Descriptors
are those of :func:`rate_limit_config`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.transport import host_tls, is_ip
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.limits import (
    TOKENS_PER_DAY,
    TOKENS_PER_MINUTE,
    ModelLimits,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.rate_limit_service import RateLimitService
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import HostPath, Literal

# A unit of the service to the limit of it.
UNITS = {"minute": TOKENS_PER_MINUTE, "day": TOKENS_PER_DAY}
_UNIT = "tokens_per"
# The namespace of what the script notes: a name for each kind of limit, and the model.
_NOTES = "gw.tokens"


@dataclass(frozen=True)
class _Kind:
    """Limits of a kind: whose they are as a client is told, ``{}`` being the unit, and what descriptors begin with.

    Entries are the keys and which note has the value; an empty one is that of the kind.
    """

    name: str
    whose: str
    entries: tuple[tuple[str, str], ...]


_CONSUMER = f"'%REQ({xds.CONSUMER})%'"
_MODEL = f"the model '%REQ({xds.MODEL})%'"
# What is a consumer's own comes first.
_KINDS = (
    _Kind("pair", f"{_CONSUMER} on tokens per {{}} for {_MODEL}", (("consumer", ""), ("model", "model"))),
    _Kind("consumer", f"{_CONSUMER} on tokens per {{}}", (("consumer", ""),)),
    _Kind("model", f"{_MODEL} on tokens per {{}} of all consumers", (("model", ""),)),
)


def compile_service_filters(spec: Spec, service: RateLimitService, host: Host) -> list[xds.Config]:
    """Return the filters that ask the service, in their order; none where nothing is limited."""
    limited = list(_limited(spec))
    if not limited:
        return []
    used = {kind for kind, _name in limited}
    script = {"inline_string": lua.service_tokens_script(limited)}
    (cluster,) = compile_service_cluster(service, host)
    return [
        xds.extension("token_cost", "extensions.filters.http.lua.v3.Lua", default_source_code=script),
        *(
            _filter(kind, unit, service, cluster["name"])
            for kind in _KINDS
            for unit in UNITS
            if f"{kind.name}-{unit}" in used
        ),
    ]


def compile_service_cluster(service: RateLimitService | None, host: Host) -> list[xds.Config]:
    """Return the cluster of the service, if there is one."""
    if service is None:
        return []
    options = xds.typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={
            # A connection that has gone silent is noticed.
            "http2_protocol_options": {"connection_keepalive": {"interval": "10s", "timeout": "2s"}}
        },
    )
    content: xds.Config = {
        "connect_timeout": "1s",
        "circuit_breakers": xds.BREAKERS,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        **(
            {"type": "STATIC"}
            if is_ip(service.address)
            else {"cluster_type": xds.dns(all_addresses_in_single_endpoint=False)}
        ),
    }
    if service.tls is not None:
        # Servers of gRPC insist on being asked for HTTP/2.
        content["transport_socket"] = host_tls(service.address, _authorities(service, host), alpn_protocols=["h2"])
    address = {"socket_address": {"address": service.address, "port_value": service.port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return [xds.cluster("rate_limit", "service", {**content, "load_assignment": {"endpoints": endpoints}})]


def rate_limit_config(spec: Spec, service: RateLimitService) -> xds.Config:
    """Return the limits of a spec as the configuration that envoyproxy/ratelimit reads."""
    consumers: dict[str, dict[str, xds.Config]] = {}
    owners = [*spec.consumers]
    for unit, what in UNITS.items():
        limits = ModelLimits(spec, what)
        for consumer in owners:
            own = consumers.setdefault(consumer.name, {"own": {}, "models": {}})
            if (limit := getattr(consumer.limits, what)) is not None:
                own["own"][unit] = limit
            for model, rate in limits.of(consumer):
                own["models"].setdefault(model, {})[unit] = rate
    found = []
    for name, own in consumers.items():
        models = [_descriptor("model", model, _rates(rates)) for model, rates in sorted(own["models"].items())]
        if inner := [*_rates(own["own"]), *models]:
            found.append(_descriptor("consumer", name, inner))
    for each in spec.models:
        shared = {unit: getattr(each.limits, what) for unit, what in UNITS.items() if each.limits is not None}
        if inner := _rates({unit: rate for unit, rate in shared.items() if rate is not None}):
            found.append(_descriptor("model", each.name, inner))
    return {"domain": service.domain, "descriptors": found}


def _rates(rates: dict[str, int]) -> list[xds.Config]:
    return [
        {"key": _UNIT, "value": unit, "rate_limit": {"unit": unit, "requests_per_unit": rate}}
        for unit, rate in rates.items()
    ]


def _descriptor(key: str, value: str, inner: list[xds.Config]) -> xds.Config:
    return {"key": key, "value": value, "descriptors": inner}


def _limited(spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield pairs of a kind of limit with its unit, and the consumer or model that has one."""
    for unit, what in UNITS.items():
        limits = ModelLimits(spec, what)
        for consumer in spec.consumers:
            if limits.of(consumer):
                yield f"pair-{unit}", consumer.name
            if getattr(consumer.limits, what) is not None:
                yield f"consumer-{unit}", consumer.name
        for model in spec.models:
            if model.limits is not None and getattr(model.limits, what) is not None:
                yield f"model-{unit}", model.name


def _filter(kind: _Kind, unit: str, service: RateLimitService, cluster: str) -> xds.Config:
    # The script notes the names for who has such a limit; without one the service is not asked.
    actions = [
        *(_noted(key, of or f"{kind.name}-{unit}") for key, of in kind.entries),
        {"generic_key": {"descriptor_key": _UNIT, "descriptor_value": unit}},
    ]
    return xds.extension(
        f"{kind.name}_tokens_per_{unit}",
        "extensions.filters.http.ratelimit.v3.RateLimit",
        domain=service.domain,
        stat_prefix=f"{kind.name}_tokens_per_{unit}",
        timeout=xds.seconds(service.timeout),
        failure_mode_deny=service.on_failure == "deny",
        status_on_error={"code": "ServiceUnavailable"},
        rate_limit_service={
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
        },
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        disable_x_envoy_ratelimited_header=True,
        # Of all that Envoy answers by itself, this is for limits on tokens only; the client gets another.
        rate_limited_status={"code": "PaymentRequired"},
        response_headers_to_add=[{"header": {"key": xds.SPENT_LIMIT, "value": kind.whose.format(unit)}}],
        rate_limits=[
            {"actions": actions, "hits_addend": {"number": 0}},
            {
                "actions": actions,
                "apply_on_stream_done": True,
                "hits_addend": {"format": f"%DYNAMIC_METADATA({xds.METADATA}:charge)%"},
            },
        ],
    )


def _noted(key: str, name: str) -> xds.Config:
    """Return the action that puts a note of the script into a descriptor."""
    path = {"key": _NOTES, "path": [{"key": name}]}
    return {"metadata": {"descriptor_key": key, "metadata_key": path, "source": "DYNAMIC"}}


def _authorities(service: RateLimitService, host: Host) -> xds.Config:
    ca = service.tls.ca if service.tls is not None else None
    if isinstance(ca, Literal):
        return {"inline_string": ca.value}
    return {"filename": ca.path if isinstance(ca, HostPath) else host.ca_file}
