# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies that users write: Jinja conditions on the resources of a spec, evaluated on the controller.

They are asked in Jinja's sandbox with Ansible's own filters and tests, and see nothing but the spec as it may be shown:
references in the place of secrets, no other variable, no lookup. So a rule that holds offline holds everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from ansible.plugins.filter.core import FilterModule
from ansible.plugins.filter.mathstuff import FilterModule as MathFilters
from ansible.plugins.test.core import TestModule
from ansible.plugins.test.mathstuff import TestModule as MathTests
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError, SpecProblem
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import severity_of
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import Place, Rule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_rules import SUBJECTS, PolicyRule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources

_VARIABLE = "gateway_policy_rules"
# Their values are the resource itself, which has one key.
_PLAIN = {"gateway_limits_scope": "scope", "gateway_max_request_size": "size", "gateway_workspace": "name"}
#: Filters and tests that reach beyond the spec: to files, to the environment of the process, to passwords of vaults.
_OUTSIDE = frozenset(
    ["expanduser", "expandvars", "fileglob", "realpath", "relpath", "unvault", "vault", "vaulted_file"]
)

Scope = dict[str, Any]
Condition = Callable[..., Any]


def own_rules(spec: Spec) -> tuple[Rule, ...]:
    """Return the spec's own policies as rules whose places are known. Raises SpecError with all that cannot be asked.

    One whose severity is ``off`` is read, but not asked.
    """
    problems: list[SpecProblem] = []
    rules = []
    view = _view(spec) if spec.policy_rules else {}
    for own in spec.policy_rules:
        rule = Rule(own.name, own.severity, own.message, lambda asked: ())
        conditions = _compiled(own, problems)
        if conditions is not None and severity_of(rule, spec) != "off":
            places = tuple(_places(own, conditions, view, problems))
            rule = Rule(own.name, own.severity, own.message, partial(_known, places))
        rules.append(rule)
    if problems:
        raise SpecError(problems)
    return tuple(rules)


def _known(places: tuple[Place, ...], asked: Spec) -> tuple[Place, ...]:
    """Stand in for a rule's check: it was asked already, since that can fail."""
    return places


def _compiled(rule: PolicyRule, problems: list[SpecProblem]) -> dict[str, list[tuple[str, Condition]]] | None:
    """Return the conditions by key, each with its path; None where one cannot be read."""
    before = len(problems)
    found: dict[str, list[tuple[str, Condition]]] = {"when": [], "that": []}
    for key, conditions in (("when", rule.when), ("that", rule.that)):
        for index, text in enumerate(conditions):
            path = f"{_VARIABLE}.{rule.name}.{key}" + (f"[{index}]" if len(conditions) > 1 else "")
            try:
                found[key].append((path, _environment().compile_expression(text, undefined_to_none=False)))
            # One that is nested too deeply is an error of Python's.
            except (TemplateError, RecursionError, SyntaxError, ValueError) as error:
                problems.append(SpecProblem(path, f"is no Jinja expression: {_reason(error)}"))
    return found if len(problems) == before else None


def _places(
    rule: PolicyRule,
    conditions: Mapping[str, list[tuple[str, Condition]]],
    view: Mapping[str, Any],
    problems: list[SpecProblem],
) -> Iterator[Place]:
    """Yield where the rule does not hold. What cannot be asked is noted once for each condition and reason."""
    failed: dict[tuple[str, str], list[str]] = {}

    def all_true(key: str, scope: Scope, address: str) -> bool | None:
        for path, condition in conditions[key]:
            try:
                if not condition(**scope):
                    return False
            # What a condition does with values is its author's, and may fail in any way.
            except Exception as error:
                failed.setdefault((path, _reason(error)), []).append(address)
                return None
        return True

    for address, scope in _scopes(rule, view):
        if all_true("when", scope, address) and all_true("that", scope, address) is False:
            yield Place(address, rule.message, rule.fix)
    for (path, reason), addresses in failed.items():
        others = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
        asked = "" if rule.subject == "spec" else f" of {addresses[0]}{others}"
        problems.append(SpecProblem(path, f"cannot be asked{asked}: {reason}"))


def _scopes(rule: PolicyRule, view: Mapping[str, Any]) -> Iterator[tuple[str, Scope]]:
    """Yield the resources that a rule is for: the address of each and what its conditions see."""
    if rule.subject == "spec":
        yield f"{_VARIABLE}.{rule.name}", {"name": rule.name, "resource": view, "spec": view}
        return
    for name, resource in view[rule.subject].items():
        scope = {"name": name, "resource": resource, SUBJECTS[rule.subject]: resource, "spec": view}
        yield f"gateway_{rule.subject}.{name}", scope


def _view(spec: Spec) -> dict[str, Any]:
    """Return a spec as conditions see it: by the names of its variables without ``gateway_``, safe to show."""
    view: dict[str, Any] = {kind: {} for kind in SUBJECTS if kind != "spec"}
    for address, resource in spec_resources(spec).items():
        variable, _dot, name = address.partition(".")
        key = variable.removeprefix("gateway_")
        if name:
            view[key][name] = resource
        else:
            view[key] = resource[_PLAIN[variable]] if variable in _PLAIN else resource
    return {**view, "release_keep": spec.release_keep, "provider_regions": list(spec.provider_regions)}


@cache
def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(undefined=StrictUndefined)
    for plugins, target in (
        ((FilterModule().filters(), MathFilters().filters()), environment.filters),
        ((TestModule().tests(), MathTests().tests()), environment.tests),
    ):
        for found in plugins:
            for name, function in found.items():
                if name not in _OUTSIDE:
                    target[name] = target[f"ansible.builtin.{name}"] = function
    return environment


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
