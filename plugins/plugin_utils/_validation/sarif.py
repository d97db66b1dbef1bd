# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A validation in SARIF 2.1.0, which services for code show beside the lines that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.plugin_utils._provenance import collection_version
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.model import (
    Check,
    Result,
    Validation,
    Where,
)

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"deny": "error", "warn": "warning", "off": "note"}
#: What files are relative to: the root of the repository.
_ROOT = "%SRCROOT%"


def sarif_document(validation: Validation) -> dict[str, Any]:
    """Return the log, as plain JSON."""
    index = {check.name: number for number, check in enumerate(validation.checks)}
    notes = [
        {"level": "note", "message": {"text": f"{check.name}: {check.skipped}"}}
        for check in validation.checks
        if check.skipped and check.severity != "off"
    ]
    run = {
        "tool": {
            "driver": {
                "name": "gatewayops.openai.validate",
                "version": collection_version(),
                "rules": [_rule(check) for check in validation.checks],
            }
        },
        "automationDetails": {"id": f"gatewayops.openai.validate/{validation.environment}/"},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "columnKind": "unicodeCodePoints",
        "results": [_result(result, index) for result in validation.results],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(check: Check) -> dict[str, Any]:
    enabled = check.severity != "off"
    help_text = check.doc
    if check.is_policy:
        help_text += (
            f" gateway_policies.{check.name} sets its severity (deny, warn or off), and an entry of "
            "gateway_policy_exceptions lets a place break it until a day."
        )
    return {
        "id": check.name,
        "name": "".join(part.capitalize() for part in check.name.replace("-", "_").split("_")),
        "shortDescription": {"text": check.doc},
        "help": {"text": help_text},
        "defaultConfiguration": {"enabled": enabled, "level": _LEVELS[check.severity]},
    }


def _result(result: Result, index: Mapping[str, int]) -> dict[str, Any]:
    fix = f"; {result.remedy}" if result.remedy else ""
    place = f"{result.path}: " if result.path else ""
    location: dict[str, Any] = {}
    if result.where is not None:
        location["physicalLocation"] = _physical(result.where)
    if result.path:
        location["logicalLocations"] = [{"fullyQualifiedName": result.path, "kind": "member"}]
    found: dict[str, Any] = {
        "ruleId": result.check,
        "ruleIndex": index[result.check],
        "level": _LEVELS[result.severity],
        "message": {"text": f"{place}{result.message}{fix}"},
        "locations": [location] if location else [],
        # The same finding after the file has changed above it.
        "partialFingerprints": {"gatewayPath/v1": _fingerprint(result)},
        "properties": {"hosts": list(result.hosts)},
    }
    if result.exception is not None:
        found["suppressions"] = [{"kind": "external", "status": "accepted", "justification": result.excuse}]
    return found


def _fingerprint(result: Result) -> str:
    text = "\0".join((result.check, result.path, "" if result.path else result.message))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _physical(place: Where) -> dict[str, Any]:
    # An inventory may have its files by links: what is edited is the file itself.
    path = Path(place.file).resolve()
    root = next((above for above in path.parents if (above / ".git").exists()), Path.cwd())
    artifact: dict[str, str] = {"uri": path.as_uri()}
    if path.is_relative_to(root):
        artifact = {"uri": (Path("/") / path.relative_to(root)).as_uri().removeprefix("file:///"), "uriBaseId": _ROOT}
    found: dict[str, Any] = {"artifactLocation": artifact}
    if place.line:
        found["region"] = {"startLine": place.line, **({"startColumn": place.column} if place.column else {})}
    return found
