# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong between a collector or a prompt log and the rest of a spec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.draft import UNREADABLE, Draft
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import did_you_mean, show
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.patterns import ModelNames
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.problems import Problems
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.provider_checks import check_duplicates
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference


def check_telemetry(spec: Draft, problems: Problems) -> None:
    """Note what is wrong with ``gateway_otlp`` and ``gateway_prompt_log``."""
    otlp = spec.get("otlp")
    prompts = spec.get("prompt_log")
    if isinstance(prompts, Draft):
        _check_consumers(prompts, spec.get("consumers", {}), problems)
    if isinstance(otlp, Draft):
        _check_otlp(otlp, spec.get("providers"), problems)


def _check_otlp(otlp: Draft, providers: Any, problems: Problems) -> None:
    traces = otlp.get("traces")
    if not otlp.states("traces") and otlp.get("logs", False) is False:
        problems.add(otlp.path, "sends nothing; set traces or logs, or leave it out")
    if isinstance(otlp.get("ca"), Reference):
        problems.add(f"{otlp.path}.ca", "must be an absolute path on the host or PEM text: it is no secret")
    if isinstance(traces, Draft):
        named = list(_readable(traces.get("propagate_to")))
        for index, name in named:
            path = f"{traces.path}.propagate_to[{index}]"
            if providers is not None and name not in providers:
                near = problems.nearest("gateway_providers", name, providers)
                problems.add(path, f"no provider named {show(name)}{did_you_mean(near)}")
        check_duplicates(named, f"{traces.path}.propagate_to", "provider", problems)


def _check_consumers(prompts: Draft, consumers: Any, problems: Problems) -> None:
    patterns = list(_readable(prompts.get("consumers")))
    names = ModelNames(consumers or ())
    for index, pattern in patterns:
        if names and not names.matching(pattern):
            near = did_you_mean(problems.nearest("gateway_consumers", pattern, names))
            what = "no consumer matches" if "*" in pattern else "no consumer named"
            problems.add(f"{prompts.path}.consumers[{index}]", f"{what} {show(pattern)}{near}")
    check_duplicates(patterns, f"{prompts.path}.consumers", "pattern", problems)


def _readable(items: Any) -> Iterable[tuple[int, Any]]:
    return [(index, item) for index, item in enumerate(items or ()) if item is not UNREADABLE]
