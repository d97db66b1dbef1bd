# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much a change deserves to be looked at: what takes something away from clients comes first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import (
    ABSENT,
    CREATE,
    DELETE,
    FieldChange,
    ResourceChange,
)

HIGH = "high"
MEDIUM = "medium"
LOW = "low"
LEVELS = (HIGH, MEDIUM, LOW)


@dataclass(frozen=True)
class Risk:
    """A level, and what may happen to whom."""

    level: str
    reason: str


_NO_RISK = Risk(LOW, "")
_FEWER = "fewer requests are let through"
_REMOVED = {
    "gateway_consumers": "its requests are refused from then on",
    "gateway_models": "requests for it are answered 404 from then on",
    "gateway_providers": "it gets no more requests",
    "gateway_listeners": "its clients cannot connect from then on",
    "gateway_nftables": "the gateway keeps nobody from the host any more",
}
_FILTERED = Risk(HIGH, "who is not named cannot connect from then on")


def risk_of(change: ResourceChange) -> Risk:
    """Return the risk of a change: the highest level of its fields, with all reasons for it."""
    kind = change.address.partition(".")[0]
    if change.action == DELETE:
        return Risk(HIGH, _REMOVED.get(kind, "it goes back to its default"))
    if change.action == CREATE:
        return _FILTERED if kind == "gateway_nftables" else _NO_RISK
    check = _CHECKS.get(kind, _any)
    found = [check(field) for field in change.fields if field.keys]
    level = next(level for level in LEVELS if level == LOW or any(risk.level == level for risk in found))
    return Risk(level, "; ".join(dict.fromkeys(risk.reason for risk in found if risk.level == level)))


def _any(field: FieldChange) -> Risk:
    return _NO_RISK


def _listener(field: FieldChange) -> Risk:
    if field.keys[0] in ("address", "port"):
        return Risk(HIGH, "clients of the old address cannot connect from then on")
    if field.keys[0] == "tls":
        return Risk(HIGH, "clients that do not fit the new TLS settings cannot connect")
    return Risk(MEDIUM, "its connections are drained")


def _provider(field: FieldChange) -> Risk:
    if field.keys[0] in ("base_url", "type", "api_version"):
        return Risk(HIGH, "requests, with their prompts, go elsewhere")
    if field.keys[0] == "api_key":
        return Risk(HIGH, "another key is sent")
    if field.keys[0] == "concurrent_requests":
        return Risk(MEDIUM, _FEWER) if _is_lower(field) else _NO_RISK
    return Risk(MEDIUM, "it is asked in another way")


def _model(field: FieldChange) -> Risk:
    if field.keys[0] in ("targets", "fallbacks"):
        return Risk(MEDIUM, "others answer its requests, or get another share")
    if field.keys[0] == "limits" and _is_lower(field):
        return Risk(MEDIUM, _FEWER)
    return _NO_RISK


def _consumer(field: FieldChange) -> Risk:
    if field.keys[0] == "models" and _lost(field):
        return Risk(HIGH, f"it may no longer use {', '.join(map(str, _lost(field)))}")
    if field.keys[0] == "api_keys" and _lost(field):
        return Risk(HIGH, "a key of it is refused from then on")
    if field.keys[0] == "limits" and _is_lower(field):
        return Risk(MEDIUM, "fewer of its requests are let through")
    return _NO_RISK


def _nftables(field: FieldChange) -> Risk:
    return _FILTERED if field.keys[0] == "others" or _lost(field) else _NO_RISK


def _workspace(field: FieldChange) -> Risk:
    return Risk(HIGH, "the host becomes one of another environment")


_CHECKS: Mapping[str, Callable[[FieldChange], Risk]] = {
    "gateway_listeners": _listener,
    "gateway_providers": _provider,
    "gateway_models": _model,
    "gateway_consumers": _consumer,
    "gateway_nftables": _nftables,
    "gateway_workspace": _workspace,
}


def _lost(field: FieldChange) -> list[Any]:
    before, after = (value if isinstance(value, (list, tuple)) else () for value in (field.before, field.after))
    return [item for item in before if item not in after]


def _is_lower(field: FieldChange) -> bool:
    if field.before is ABSENT:
        return True
    numbers = isinstance(field.before, (int, float)) and isinstance(field.after, (int, float))
    return numbers and field.after < field.before
