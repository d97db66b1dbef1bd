# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan that was saved: what makes it trustworthy, and whether it still holds."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, HostPlan
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.tfjson import PLAN_VERSION, host_document

_OURS = "gateway"
_SIGNATURE = "signature"
#: What a host's part of a plan is made of, and what is said when it is not so any more.
_HOST = {
    "spec_digest": "the specification has changed since",
    "active": "the host serves release {now} now, and served {then} when the plan was made",
    "release": "the specification makes release {now} now, and made {then} when the plan was made",
    "envoy_version": "the host has Envoy {now} now, and had {then} when the plan was made",
    "drift": "files on the host were changed since: {now}; when the plan was made: {then}",
    "process": "what happens to Envoy would be '{now}' now, and was '{then}' when the plan was made",
}


class PlanError(GatewayError):
    """A saved plan cannot be trusted, or does not hold any more."""


def signed(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a plan with its signature: HMAC-SHA256 (RFC 2104) of its canonical JSON without the signature."""
    return {**document, _OURS: {**document[_OURS], _SIGNATURE: _digest(document, key)}}


def verify(document: Any, key: str) -> None:
    """Raise PlanError when a document is no plan of ours, or was changed since it was signed."""
    ours = document.get(_OURS) if isinstance(document, dict) else None
    if not isinstance(ours, dict) or ours.get("version") != PLAN_VERSION:
        raise PlanError("this is no plan that this version of the collection has made")
    given = ours.get(_SIGNATURE)
    if not isinstance(given, str):
        raise PlanError("the plan is not signed; set gateway_plan_key where plans are made")
    if not hmac.compare_digest(given.encode(), _digest(document, key).encode()):
        raise PlanError("the plan was changed after it was made, or signed with another key")


def _digest(document: Mapping[str, Any], key: str) -> str:
    ours = {name: value for name, value in document[_OURS].items() if name != _SIGNATURE}
    content = canonical_json({**document, _OURS: ours})
    return hmac.new(key.encode(), content, hashlib.sha256).hexdigest()


def what_moved(document: Mapping[str, Any], now: FleetPlan, unreachable: Collection[str] = ()) -> tuple[str, ...]:
    """Return why a plan does not hold any more, by the plan that would be made now; empty when it does.

    Times of RFC 3339 in UTC are compared as text, as the collection writes them. Hosts that are `unreachable` now are
    not changed, whatever the plan says.
    """
    return tuple(_moved(document[_OURS], now, unreachable))


def _moved(then: Mapping[str, Any], now: FleetPlan, unreachable: Collection[str]) -> Iterator[str]:
    if then["environment"] != now.environment:
        yield f"the plan is of the environment '{then['environment']}', this is '{now.environment}'"
    if then["workspace"] != now.workspace:
        yield f"the plan is of the workspace '{then['workspace']}', this is '{now.workspace}'"
    if now.created_at > then["expires_at"]:
        yield f"the plan expired at {then['expires_at']}"
    if then["collection_version"] != now.collection_version:
        yield f"the plan was made by version {then['collection_version']} of the collection, this is " + (
            now.collection_version
        )
    hosts = {host.host: host for host in now.hosts}
    unknown = dict(now.unknown)
    for name in sorted({*then["hosts"], *hosts}):
        if name not in then["hosts"]:
            yield f"{name}: is not in the plan"
        elif name in unreachable:
            continue
        elif name not in hosts:
            yield f"{name}: is in the plan, and {unknown.get(name, 'is not in this inventory')}"
        else:
            yield from (f"{name}: {what}" for what in _host_moved(then["hosts"][name], hosts[name]))


def _host_moved(then: Mapping[str, Any], now: HostPlan) -> Iterator[str]:
    is_now = host_document(now)
    for name, words in _HOST.items():
        if then[name] != is_now[name]:
            yield words.format(then=_said(then[name]), now=_said(is_now[name]))
            # A release is made of the specification.
            if name == "spec_digest":
                return


def _said(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value) or "none"
