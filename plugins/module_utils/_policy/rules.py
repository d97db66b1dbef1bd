# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies: what a valid spec may still be refused or warned for."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Callable

from ansible_collections.gatewayops.openai.plugins.module_utils._policy.certificates import certificate_ends
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.access import allowed_models
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.endpoints import UNSEEN_MODELS
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.limits import (
    REQUESTS_PER_MINUTE,
    TOKENS_PER_DAY,
    TOKENS_PER_MINUTE,
    ModelLimits,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.moments import Moment
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Literal
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl

#: So many releases on a host are enough to go back to one that worked.
LEAST_RELEASES = 3
#: How many days before its end a certificate is to be renewed.
RENEWAL_DAYS = 30
#: How many days ahead the end of a prompt log may be.
MOST_PROMPT_DAYS = 90
# Parts of the names of headers that hold a secret, such as authorization and x-api-key.
_CREDENTIAL = re.compile(r"auth|key|token|secret|password|credential|cookie")


@dataclass(frozen=True)
class Place:
    """Where a spec breaks a rule, and how."""

    path: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Rule:
    """A policy: ``check`` yields the places of a spec that break it; ``severity`` holds where a spec sets none."""

    name: str
    severity: str
    doc: str
    check: Callable[[Spec], Iterable[Place]]


def _plain_http_outside_loopback(spec: Spec) -> Iterator[Place]:
    for listener in spec.listeners:
        if listener.tls is None and not ipaddress.ip_address(listener.address).is_loopback:
            yield Place(
                f"gateway_listeners.{listener.name}",
                f"serves plain HTTP on {listener.address}, where keys and prompts can be read by others",
                "give it tls, or a loopback address such as 127.0.0.1",
            )


def _tls_version(spec: Spec) -> Iterator[Place]:
    for listener in spec.listeners:
        if listener.tls is not None and listener.tls.min_version in ("1.0", "1.1"):
            yield Place(
                f"gateway_listeners.{listener.name}.tls.min_version",
                f"accepts TLS {listener.tls.min_version}, which RFC 8996 forbids",
                'set min_version to "1.2" or "1.3"',
            )


def _plain_secret(spec: Spec) -> Iterator[Place]:
    sources = [
        (f"gateway_listeners.{listener.name}.tls.private_key", listener.tls.private_key)
        for listener in spec.listeners
        if listener.tls is not None
    ]
    sources += [
        (f"gateway_providers.{provider.name}.api_key", provider.api_key)
        for provider in spec.providers
        if provider.api_key is not None
    ]
    sources += [
        (f"gateway_providers.{provider.name}.tls.private_key", provider.tls.private_key)
        for provider in spec.providers
        if provider.tls is not None and provider.tls.private_key is not None
    ]
    sources += [
        (f"gateway_consumers.{consumer.name}.api_keys[{index}]", key)
        for consumer in spec.consumers
        for index, key in enumerate(consumer.api_keys)
    ]
    if spec.otlp is not None:
        sources += [
            (f"gateway_otlp.headers.{name}", source)
            for name, source in spec.otlp.headers
            if _CREDENTIAL.search(name) is not None
        ]
    for path, source in sources:
        if isinstance(source, Literal):
            yield Place(
                path,
                "holds a secret itself instead of a reference to it",
                "store the secret and write a reference such as vault://MOUNT/PATH#FIELD; "
                "a value that was committed counts as disclosed",
            )


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=timezone.utc).date().isoformat()


def _certificate_expired(spec: Spec) -> Iterator[Place]:
    for path, end in certificate_ends(spec):
        if end <= time.time():
            yield Place(path, f"ended on {_day(end)}: nobody accepts it any more", "renew the certificate")


def _certificate_expires(spec: Spec) -> Iterator[Place]:
    for path, end in certificate_ends(spec):
        if time.time() < end <= time.time() + RENEWAL_DAYS * 86400:
            yield Place(path, f"ends on {_day(end)}", "renew the certificate before that day")


def _provider_without_tls(spec: Spec) -> Iterator[Place]:
    for provider in spec.providers:
        if any(url.scheme == "http" and not _is_loopback(url.host) for url in provider.base_urls):
            yield Place(
                f"gateway_providers.{provider.name}.base_url",
                "is asked over plain HTTP, where its key, prompts and answers can be read by others",
                "use https, or a provider on the host itself",
            )


def _jwks_over_plain_http(spec: Spec) -> Iterator[Place]:
    for issuer in spec.jwt_issuers:
        url = issuer.jwks
        if isinstance(url, BaseUrl) and url.scheme == "http" and not _is_loopback(url.host):
            yield Place(
                f"gateway_jwt_issuers.{issuer.name}.jwks",
                "is read over plain HTTP: whoever is on the way could put keys there and make tokens for everybody",
                "use an https URL",
            )


def _otlp_without_tls(spec: Spec) -> Iterator[Place]:
    if spec.otlp is not None and spec.otlp.endpoint.scheme == "http" and not _is_loopback(spec.otlp.endpoint.host):
        yield Place(
            "gateway_otlp.endpoint",
            "sends who asks for what, and the collector's headers, where others can read them",
            "use https, or a collector on the host itself",
        )


def _rate_limit_service_without_tls(spec: Spec) -> Iterator[Place]:
    service = spec.rate_limit_service
    if service is not None and service.tls is None and not _is_loopback(service.address):
        yield Place(
            "gateway_rate_limit_service",
            "is asked without TLS: whoever is on the way reads who uses how much, and can let in or refuse everybody",
            "give it tls, or a service on the host itself",
        )


def _prompt_logging(spec: Spec) -> Iterator[Place]:
    log = spec.prompt_log
    if log is None:
        return
    until = Moment().render(log.until)
    if log.until <= time.time():
        yield Place(
            "gateway_prompt_log",
            f"has ended at {until}: nothing is written any more",
            "take it out when the files may go",
        )
        return
    yield Place(
        "gateway_prompt_log",
        f"has prompts and answers of {', '.join(log.consumers)} written to a file until {until}",
        "take it out when they are not needed",
    )


def _prompt_logging_period(spec: Spec) -> Iterator[Place]:
    log = spec.prompt_log
    if log is not None and log.until > time.time() + MOST_PROMPT_DAYS * 86400:
        yield Place(
            "gateway_prompt_log.until",
            f"is more than {MOST_PROMPT_DAYS} days ahead",
            "name an earlier time, and renew it when it is still needed",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _consumer_without_limit(spec: Spec) -> Iterator[Place]:
    limits = [ModelLimits(spec, what) for what in (REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE, TOKENS_PER_DAY)]
    for consumer in spec.consumers:
        own = consumer.limits
        # Endpoints without a model have no tokens.
        of_tokens = own.tokens_per_minute is not None or own.tokens_per_day is not None
        whole = of_tokens and not consumer.endpoints
        if own.requests_per_minute is not None or whole:
            continue
        limited = {model for each in limits for model, _limit in each.of(consumer)}
        if consumer.endpoints or len(limited) < len(allowed_models(spec, consumer)):
            yield Place(
                f"gateway_consumers.{consumer.name}",
                "may send any number of requests",
                "set limits.requests_per_minute or limits.tokens_per_minute",
            )


def _unseen_models(spec: Spec) -> Iterator[Place]:
    for consumer in spec.consumers:
        unseen = [name for name in consumer.endpoints if name in UNSEEN_MODELS]
        if unseen and len(allowed_models(spec, consumer)) < len(spec.models):
            yield Place(
                f"gateway_consumers.{consumer.name}.endpoints",
                f"may use {', '.join(unseen)}, where any model of the provider can be named, but not every model",
                "let the consumer use every model, or leave these endpoints out; "
                "only the provider's own settings can keep it from a model there",
            )


def _wildcard_models(spec: Spec) -> Iterator[Place]:
    for consumer in spec.consumers:
        for index, pattern in enumerate(consumer.models):
            if "*" in pattern:
                yield Place(
                    f"gateway_consumers.{consumer.name}.models[{index}]",
                    f"'{pattern}' gives it models that are added later",
                    "name the models",
                )


def _release_retention(spec: Spec) -> Iterator[Place]:
    if spec.release_keep < LEAST_RELEASES:
        yield Place(
            "gateway_release_keep",
            f"keeps {spec.release_keep} releases on a host",
            f"keep {LEAST_RELEASES} or more",
        )


def _provider_region(spec: Spec) -> Iterator[Place]:
    for provider in spec.providers if spec.provider_regions else ():
        if provider.region not in spec.provider_regions:
            where = "says no region" if provider.region is None else f"is in {provider.region}"
            allowed = ", ".join(spec.provider_regions)
            yield Place(f"gateway_providers.{provider.name}", where, f"use one in {allowed}, and set its region")


def _fallback_across_trust_zones(spec: Spec) -> Iterator[Place]:
    zones = {provider.name: provider.trust_zone for provider in spec.providers}
    for model in spec.models:
        found = {zones[target.provider] or "none" for target in (*model.targets, *model.fallbacks)}
        if len(found) > 1:
            yield Place(
                f"gateway_models.{model.name}",
                f"is served in several trust zones: {', '.join(sorted(found))}",
                "keep its targets and fallbacks in one, or set the zone of its providers",
            )


RULES = (
    Rule(
        "plain_http_outside_loopback",
        "deny",
        "A listener without C(tls) has an address that is not a loopback address.",
        _plain_http_outside_loopback,
    ),
    Rule("tls_version", "deny", "A listener accepts a version of TLS below 1.2.", _tls_version),
    Rule("plain_secret", "deny", "A secret stands in the spec itself instead of a reference to it.", _plain_secret),
    Rule(
        "jwks_over_plain_http",
        "deny",
        "The keys of an issuer of tokens are read over plain HTTP from another host.",
        _jwks_over_plain_http,
    ),
    Rule(
        "provider_without_tls",
        "off",
        "A provider is asked over plain HTTP on another host, as servers in one's own network often are.",
        _provider_without_tls,
    ),
    Rule(
        "otlp_without_tls",
        "warn",
        "C(gateway_otlp) sends over plain HTTP to a host that is not a loopback address.",
        _otlp_without_tls,
    ),
    Rule(
        "rate_limit_service_without_tls",
        "warn",
        "C(gateway_rate_limit_service) has no C(tls) and an address that is not a loopback address.",
        _rate_limit_service_without_tls,
    ),
    Rule(
        "certificate_expired",
        "deny",
        "A certificate, or every CA of a bundle, that is written in the spec has ended. Those that a reference or a "
        "path names are not read.",
        _certificate_expired,
    ),
    Rule(
        "certificate_expires",
        "warn",
        f"A certificate, or every CA of a bundle, that is written in the spec ends within {RENEWAL_DAYS} days.",
        _certificate_expires,
    ),
    Rule(
        "prompt_logging",
        "warn",
        "C(gateway_prompt_log) is there; also when its time has come.",
        _prompt_logging,
    ),
    Rule(
        "prompt_logging_period",
        "deny",
        f"C(gateway_prompt_log) ends more than {MOST_PROMPT_DAYS} days ahead.",
        _prompt_logging_period,
    ),
    Rule(
        "consumer_without_limit",
        "warn",
        "A consumer has no limit, or only for some of what it may use.",
        _consumer_without_limit,
    ),
    Rule(
        "unseen_models",
        "warn",
        "A consumer that may not use every model may use an endpoint whose requests choose models that the gateway "
        "does not see: a batch is a file that names them. There neither C(models) nor the limits of models hold.",
        _unseen_models,
    ),
    Rule(
        "wildcard_models",
        "off",
        "A consumer may use models by a pattern, so that it gets those that are added later without a decision.",
        _wildcard_models,
    ),
    Rule(
        "release_retention",
        "warn",
        f"C(gateway_release_keep) is below {LEAST_RELEASES}, so that there is little to go back to.",
        _release_retention,
    ),
    Rule(
        "provider_region",
        "deny",
        "C(gateway_provider_regions) is set, and a provider is in none of these regions, or says none.",
        _provider_region,
    ),
    Rule(
        "fallback_across_trust_zones",
        "warn",
        "The targets and fallbacks of a model are at providers with different C(trust_zone), so that a prompt can go "
        "from one to the other without anybody having asked for it.",
        _fallback_across_trust_zones,
    ),
)
