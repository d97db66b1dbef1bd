# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only shows when several places of a spec are looked at: references between them, duplicates, empty sums."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.draft import UNREADABLE, Draft, segment
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.endpoint_checks import (
    check_endpoint,
    check_endpoints,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import KindError, did_you_mean, show
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import (
    LARGEST_OVER_HTTP3,
    MODEL_PATTERN,
    Metrics,
    ModelLimit,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.patterns import ModelNames
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.problems import Problems
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.provider_checks import (
    check_duplicates,
    check_provider,
    check_provider_of,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.rate_limit_checks import (
    check_rate_limit_service,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.telemetry_checks import check_telemetry


def check_draft(spec: Draft, problems: Problems) -> None:
    """Note what is wrong between the places of a draft; what could not be read is left out."""
    providers = spec.get("providers")
    models = spec.get("models")
    metrics = spec.get("metrics", Draft(Metrics, "gateway_metrics", {}))
    _check_http3(_entries(spec, "listeners"), spec.get("max_request_size"), problems)
    _check_listeners(_entries(spec, "listeners"), metrics, problems)
    for provider in _entries(spec, "providers"):
        check_provider(provider, problems)
    for model in _entries(spec, "models"):
        _check_model(model, providers, problems)
    for endpoint in _entries(spec, "endpoints"):
        check_endpoint(endpoint, providers, problems)
    _check_consumers(_entries(spec, "consumers"), models, problems)
    check_endpoints(_entries(spec, "consumers"), spec.get("endpoints", {}), problems)
    _check_tokens(spec, problems)
    check_telemetry(spec, problems)
    _check_nftables(spec.get("nftables"), metrics, problems)
    check_rate_limit_service(spec, problems)
    _check_policies(spec, problems)


def _check_nftables(nftables: Any, metrics: Draft | None, problems: Problems) -> None:
    if not isinstance(nftables, Draft):
        return
    if nftables.states("ports") and not nftables.states("others"):
        problems.add(f"{nftables.path}.ports", "is for others: drop; without it other ports are left to other rules")
    if not nftables.get("metrics_from") or not isinstance(metrics, Draft):
        return
    address = metrics.get("address", Metrics.address)
    if address and ip_address(address).is_loopback:
        problems.add(
            f"{nftables.path}.metrics_from",
            f"cannot be: the metrics are offered on {address} only; set gateway_metrics.address, or leave it out",
        )


def _entries(spec: Draft, attribute: str) -> list[Draft]:
    named = spec.get(attribute) or {}
    return [entry for entry in named.values() if isinstance(entry, Draft)]


def _check_http3(listeners: Iterable[Draft], largest: int | None, problems: Problems) -> None:
    for listener in listeners:
        if not listener.get("http3"):
            continue
        if not listener.states("tls"):
            problems.add(f"{listener.path}.http3", "needs tls: there is no HTTP/3 without it")
        if largest is not None and largest > LARGEST_OVER_HTTP3:
            problems.add(f"{listener.path}.http3", "needs a gateway_max_request_size of 16M at most")


def _check_listeners(listeners: Iterable[Draft], metrics: Draft | None, problems: Problems) -> None:
    """Find sockets that cannot be bound together; an IPv6 wildcard does not take IPv4 along."""
    taken: dict[int, list[tuple[str, str]]] = {}
    defaults = Metrics()
    places = [(listener.path, listener.get("address"), listener.get("port")) for listener in listeners]
    if metrics is not None:
        places.append((metrics.path, metrics.get("address", defaults.address), metrics.get("port", defaults.port)))
    for path, address, port in places:
        if address is None or port is None:
            continue
        for other, other_address in taken.setdefault(port, []):
            if _overlap(address, other_address):
                problems.add(
                    f"{path}.port",
                    f"{_socket(address, port)} is already used by {other}"
                    + ("" if address == other_address else f" ({_socket(other_address, port)})"),
                )
                break
        taken[port].append((path, address))


def _overlap(one: str, other: str) -> bool:
    if (":" in one) != (":" in other):
        return False
    return one == other or any(ip_address(address).is_unspecified for address in (one, other))


def _socket(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _check_model(model: Draft, providers: Any, problems: Problems) -> None:
    places: list[tuple[str, Draft]] = []
    for attribute in ("targets", "fallbacks"):
        for index, target in enumerate(model.get(attribute) or ()):
            if isinstance(target, Draft):
                places.append((f"{attribute}[{index}]", target))
    seen: dict[tuple[Any, Any], str] = {}
    for place, target in places:
        check_provider_of(target, providers, problems)
        provider, name = target.get("provider"), target.get("model")
        if provider is None or name is None:
            continue
        first = seen.setdefault((provider, name), place)
        if first != place:
            problems.add(target.path, f"is the same target as {first}")
    _check_countable(model, [target for _place, target in places], providers, problems)
    targets = model.get("targets")
    if targets and all(isinstance(target, Draft) and target.get("weight") == 0 for target in targets):
        problems.add(f"{model.path}.targets", "the weights add up to 0; at least one target needs a weight above 0")


def _check_countable(model: Draft, targets: Iterable[Draft], providers: Any, problems: Problems) -> None:
    """Note a model whose requests go to two clusters, and are counted in neither as a whole."""
    limits = model.get("limits")
    if not isinstance(limits, Draft) or limits.get("concurrent_requests") is None:
        return
    # Who has no weight gets nothing.
    asked = [target for target in targets if target.get("weight") != 0]
    named = [(providers or {}).get(target.get("provider")) for target in asked]
    kinds = {provider.get("type") == "anthropic" for provider in named if isinstance(provider, Draft)}
    if len(kinds) > 1:
        problems.add(
            f"{limits.path}.concurrent_requests",
            "is not possible for a model of providers of the type anthropic and others",
        )


def _check_tokens(spec: Draft, problems: Problems) -> None:
    """Note what leaves open whose token one is, and consumers that could not prove themselves at all."""
    issuers = spec.get("jwt_issuers", {})
    named: dict[str, str] = {}
    for issuer in _entries(spec, "jwt_issuers"):
        claimed = issuer.get("issuer")
        first = named.setdefault(claimed, issuer.path) if claimed is not None else issuer.path
        if first != issuer.path:
            problems.add(f"{issuer.path}.issuer", f"is the same issuer as that of {first}")
    owners: dict[tuple[str, str], str] = {}
    for consumer in _entries(spec, "consumers"):
        jwt = consumer.get("jwt")
        if not consumer.states("jwt") and not consumer.states("api_keys"):
            problems.add(f"{consumer.path}.api_keys", "needs at least one key, or jwt in its place")
        if not isinstance(jwt, Draft):
            continue
        name, value = jwt.get("issuer"), jwt.get("value")
        if name is not None and issuers is not None and name not in issuers:
            near = problems.nearest("gateway_jwt_issuers", name, issuers)
            problems.add(f"{jwt.path}.issuer", f"no issuer named {show(name)}{did_you_mean(near)}")
        if name is None or value is None:
            continue
        first = owners.setdefault((name, value), jwt.path)
        if first != jwt.path:
            problems.add(f"{jwt.path}.value", f"is the same token's as {first}")


def _check_consumers(consumers: Iterable[Draft], models: Any, problems: Problems) -> None:
    names = ModelNames(models or ())
    allowed: dict[tuple[str, ...], frozenset[str]] = {}
    keys: dict[Any, str] = {}
    for consumer in consumers:
        for index, key in enumerate(consumer.get("api_keys") or ()):
            if key is UNREADABLE:
                continue
            path = f"{consumer.path}.api_keys[{index}]"
            first = keys.setdefault(key, path)
            if first != path:
                problems.add(path, f"is the same key as {first}")
        patterns = [
            (index, pattern) for index, pattern in enumerate(consumer.get("models") or ()) if pattern is not UNREADABLE
        ]
        check_duplicates(patterns, f"{consumer.path}.models", "pattern", problems)
        for index, pattern in patterns:
            if names and not names.matching(pattern):
                _add_unmatched(pattern, f"{consumer.path}.models[{index}]", names, problems)
        limits = consumer.get("limits")
        limited = limits.get("models") if isinstance(limits, Draft) else None
        for entry in (limited or {}).values():
            if isinstance(entry, Draft) and not any(map(entry.states, ModelLimit.one_of)):
                problems.add(entry.path, f"needs {' or '.join(ModelLimit.one_of)}")
        if names and limited:
            chosen = tuple(pattern for _index, pattern in patterns)
            if chosen not in allowed:
                # What a consumer may use is not known where something is wrong with it.
                known = len(chosen) == len(consumer.get("models") or (None,)) and all(map(names.matching, chosen))
                allowed[chosen] = frozenset(names.matching_any(chosen) if known else names)
            _check_limited(limited, f"{limits.path}.models", allowed[chosen], names, problems)


def _check_limited(
    limited: Iterable[str], path: str, allowed: frozenset[str], names: ModelNames, problems: Problems
) -> None:
    """Note the limits that are of no use, since the consumer cannot ask for what they limit."""
    for pattern in limited:
        if pattern in allowed or not _is_pattern(pattern):
            continue
        matching = names.matching(pattern)
        if not matching:
            _add_unmatched(pattern, f"{path}.{segment(pattern)}", names, problems)
        elif allowed.isdisjoint(matching):
            problems.add(f"{path}.{segment(pattern)}", "is no model that the consumer may use")


def _is_pattern(name: str) -> bool:
    try:
        MODEL_PATTERN.convert(name)
    except KindError:
        return False
    return True


def _add_unmatched(pattern: str, path: str, names: ModelNames, problems: Problems) -> None:
    near = did_you_mean(problems.nearest("gateway_models", pattern, names))
    what = "no model matches" if "*" in pattern else "no model named"
    problems.add(path, f"{what} {show(pattern)}{near}")


def _check_policies(spec: Draft, problems: Problems) -> None:
    built_in = [rule.name for rule in RULES]
    for rule in _entries(spec, "policy_rules"):
        if rule.get("name") in built_in:
            problems.add(rule.path, "is the name of a policy that is built in; choose another")
    own = spec.get("policy_rules", {})
    if own is None:
        return
    known = [*built_in, *own]
    for name, _severity in spec.get("policies") or ():
        if name not in known:
            near = problems.nearest("gateway_policies", name, known)
            problems.add(f"gateway_policies.{segment(name)}", f"no policy named {show(name)}{did_you_mean(near)}")
    for exception in spec.get("policy_exceptions") or ():
        name = exception.get("policy") if isinstance(exception, Draft) else None
        if name is not None and name not in known:
            near = problems.nearest("gateway_policies", name, known)
            problems.add(f"{exception.path}.policy", f"no policy named {show(name)}{did_you_mean(near)}")
