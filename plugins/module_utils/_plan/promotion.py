# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it would bring to one environment to become as another is, apart from what is meant to differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import (
    CREATE,
    DELETE,
    UPDATE,
    FieldChange,
    ResourceChange,
    diff_resources,
    render_changes,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import covers
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    Reference,
    SourceError,
    parse_source,
)

#: What environments have of their own: their name, their sizes, their hosts and those that they talk to.
EXPECTED = (
    "gateway_workspace",
    "gateway_size",
    "gateway_metrics",
    "gateway_listeners.*.address",
    "gateway_listeners.*.port",
    "gateway_listeners.*.tls.certificate",
    "gateway_listeners.*.tls.private_key",
    "gateway_listeners.*.tls.client_ca",
    "gateway_providers.*.base_url",
    "gateway_providers.*.proxy",
    "gateway_providers.*.tls.ca",
    "gateway_providers.*.tls.certificate",
    "gateway_providers.*.tls.private_key",
    "gateway_providers.*.tls.server_name",
    "gateway_jwt_issuers.*.issuer",
    "gateway_jwt_issuers.*.jwks",
    "gateway_otlp.endpoint",
    "gateway_otlp.ca",
    "gateway_rate_limit_service.address",
    "gateway_rate_limit_service.port",
    "gateway_rate_limit_service.tls",
    "gateway_nftables.metrics_from",
)

Resources = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Promotion:
    """The step of the environment `target` to what `source` is: what it `brings`, and what is `meant` to differ."""

    source: str
    target: str
    brings: tuple[ResourceChange, ...]
    meant: tuple[ResourceChange, ...]

    @property
    def summary(self) -> str:
        """The line that ends it."""
        counts = [sum(change.action == action for change in self.brings) for action in (CREATE, UPDATE, DELETE)]
        text = "Promotion: %d to add, %d to change, %d to remove" % tuple(counts) if self.brings else "No differences"
        return f"{text}; {len(self.meant)} meant to differ" if self.meant else text


def promotion(
    source: str, target: str, *, before: Resources, after: Resources, expected: Sequence[str] = ()
) -> Promotion:
    """Compare two environments: `before` are the resources of `target`, `after` those of `source`.

    A resource or field that a pattern of EXPECTED or of `expected` covers is meant to differ, and so is a field that is
    a reference in both, or references.
    """
    patterns = (*EXPECTED, *expected)
    brings, meant = [], []
    for change in diff_resources(before, after):
        if _is_covered(change, "", patterns):
            meant.append(change)
            continue
        own = tuple(field for field in change.fields if change.action == UPDATE and _is_meant(change, field, patterns))
        others = tuple(field for field in change.fields if field not in own)
        if own:
            meant.append(replace(change, fields=own))
        if others:
            brings.append(replace(change, fields=others))
    return Promotion(source, target, tuple(brings), tuple(meant))


def _is_meant(change: ResourceChange, field: FieldChange, patterns: Sequence[str]) -> bool:
    both_refer = _is_reference(field.before) and _is_reference(field.after)
    return both_refer or _is_covered(change, f".{field.path}", patterns)


def _is_covered(change: ResourceChange, below: str, patterns: Sequence[str]) -> bool:
    return any(covers(pattern, change.address + below, change.address) for pattern in patterns)


def _is_reference(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_reference, value))
    try:
        return isinstance(value, str) and isinstance(parse_source(value, allow_path=False), Reference)
    except SourceError:
        return False


def promotion_document(found: Promotion) -> dict[str, Any]:
    """Return it as plain JSON. `applyable` is whether a promotion would bring anything, as in a plan."""
    return {
        "from": found.source,
        "to": found.target,
        "applyable": bool(found.brings),
        "summary": found.summary,
        "changes": [change.as_dict() for change in found.brings],
        "expected": [change.as_dict() for change in found.meant],
    }


def render_promotion(found: Promotion) -> str:
    """Return it for the terminal."""
    return "\n".join([*_lines(found), found.summary])


def _lines(found: Promotion) -> Iterator[str]:
    if found.brings:
        yield f"To be as {found.source} is, {found.target} would change:"
        yield from render_changes(found.brings)
        yield ""
    if found.meant:
        yield "Meant to differ:"
        yield from render_changes(found.meant)
        yield ""
