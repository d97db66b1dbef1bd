# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A spec as resources: the same notation as the variables, complete with defaults, and safe to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kernel import Nftables
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import Kind, ListOf, Named, Pairs, Record
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Drain, Metrics, Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.rate_limit_service import RateLimitService
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.sizes import Size
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import fields_of
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.telemetry import Otlp, PromptLog


def spec_resources(spec: Spec) -> dict[str, dict[str, Any]]:
    """Return what a spec describes, by address.

    Addresses are ``gateway_models.gpt-5`` for named things, and ``gateway_size``, ``gateway_limits_scope``,
    ``gateway_max_request_size`` and ``gateway_metrics``; ``gateway_drain``, ``gateway_otlp``,
    ``gateway_rate_limit_service``, ``gateway_prompt_log``, ``gateway_nftables``, ``gateway_sysctls`` and
    ``gateway_workspace`` where they are set. Values are plain JSON in the notation of a spec, without what is not set;
    secrets are their references, and ``(literal)`` stands for a value that is written in the spec.
    """
    resources: dict[str, dict[str, Any]] = {}
    for kind in ("listeners", "providers", "models", "endpoints", "consumers", "jwt_issuers"):
        for entry in getattr(spec, kind):
            resources[f"gateway_{kind}.{entry.name}"] = _rendered(entry, type(entry))
    resources["gateway_size"] = {"name": spec.size.name, **_rendered(spec.size, Size)}
    resources["gateway_limits_scope"] = {"scope": spec.limits_scope}
    resources["gateway_max_request_size"] = {"size": _text_of("max_request_size", spec.max_request_size)}
    resources["gateway_metrics"] = _rendered(spec.metrics, Metrics)
    if spec.drain != Drain():
        resources["gateway_drain"] = _rendered(spec.drain, Drain)
    if spec.otlp is not None:
        resources["gateway_otlp"] = _rendered(spec.otlp, Otlp)
    if spec.rate_limit_service is not None:
        resources["gateway_rate_limit_service"] = _rendered(spec.rate_limit_service, RateLimitService)
    if spec.prompt_log is not None:
        resources["gateway_prompt_log"] = _rendered(spec.prompt_log, PromptLog)
    if spec.nftables is not None:
        resources["gateway_nftables"] = _rendered(spec.nftables, Nftables)
    if spec.sysctls:
        resources["gateway_sysctls"] = dict(spec.sysctls)
    if spec.workspace is not None:
        resources["gateway_workspace"] = {"name": spec.workspace}
    return resources


def spec_variables(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that :func:`spec_resources` makes these resources of; what is no resource is not there.

    A value that is written in the spec cannot be had back: ``(literal)`` stands in its place.
    """
    raw: dict[str, Any] = {}
    for address, value in resources.items():
        variable, _dot, name = address.partition(".")
        if name:
            raw.setdefault(variable, {})[name] = value
        else:
            raw[variable] = value
    if "gateway_limits_scope" in raw:
        raw["gateway_limits_scope"] = raw["gateway_limits_scope"]["scope"]
    if "gateway_max_request_size" in raw:
        raw["gateway_max_request_size"] = raw["gateway_max_request_size"]["size"]
    if "gateway_workspace" in raw:
        raw["gateway_workspace"] = raw["gateway_workspace"]["name"]
    if "gateway_size" in raw:
        size = dict(raw["gateway_size"])
        preset = size.pop("name")
        raw["gateway_size"] = size if preset == "custom" else preset
    return raw


def render_value(kind: Kind, value: Any) -> Any:
    """Return a value of the model in the notation of a spec."""
    if isinstance(kind, Record):
        return _rendered(value, kind.type)
    if isinstance(kind, Named):
        return {entry.name: _rendered(entry, kind.type) for entry in value}
    if isinstance(kind, Pairs):
        return {kind.key.render(key): kind.value.render(item) for key, item in value}
    if isinstance(kind, ListOf):
        return [render_value(kind.item, item) for item in value]
    scalar: Any = kind
    return scalar.render(value)


def _text_of(attribute: str, value: Any) -> Any:
    """Return the value of a variable in the notation of a spec."""
    return next(render_value(field.kind, value) for field in fields_of(Spec) if field.attribute == attribute)


def _rendered(entry: Any, record: Any) -> dict[str, Any]:
    rendered = {}
    for field in fields_of(record):
        value = getattr(entry, field.attribute)
        # No names are as good as no key.
        if value is not None and not (isinstance(field.kind, (Named, Pairs)) and not value):
            rendered[field.key] = render_value(field.kind, value)
    return rendered
