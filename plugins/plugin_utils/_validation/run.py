# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate the specifications of many hosts, each different one once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import build_bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError, SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import severity_of
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES, Rule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import PREFIX, SPEC_OPTIONS, GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import Judged, parse_and_judge
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.envoy import Asked
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.model import (
    COMPILES,
    ENVOY,
    SPECIFICATION,
    Result,
    Validation,
    checks_of,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.origins import where

#: All that a release is made of.
_VARIABLES = tuple(PREFIX + name for name in (*SPEC_OPTIONS, *HOST_OPTIONS))
_BRACES = ("{{", "{%", "{#")
_STRICTEST = ("deny", "warn", "off")


@dataclass
class Found:
    """What was found of a specification, and the hosts that have it. ``compiled`` is whether it came so far."""

    judged: Judged | None
    results: tuple[Result, ...]
    compiled: bool
    hosts: list[str] = field(default_factory=list)


class Fleet:
    """The hosts that were validated so far."""

    def __init__(self, envoy: Asked) -> None:
        self._envoy = envoy
        self._began = time.monotonic()
        self._found: list[Found] = []
        self._known: dict[tuple[Spec, Host], Found] = {}
        self._refused: dict[tuple[Result, ...], Found] = {}
        # Variables without a template: hosts that have the same need no second look.
        self._plain: list[tuple[dict[str, Any], Found]] = []
        self._results: dict[Result, list[str]] = {}

    def add(self, name: str, action: GatewayAction) -> None:
        """Validate a host; ``action`` is one on it."""
        variables = {key: action.variables[key] for key in _VARIABLES if key in action.variables}
        found = next((known for same, known in self._plain if same == variables), None)
        if found is None:
            found = self._examined(action)
            if not _is_template(variables):
                self._plain.append((variables, found))
        found.hosts.append(name)
        for result in found.results:
            self._results.setdefault(replace(result, where=where(result.path, variables)), []).append(name)

    def validation(self, environment: str) -> Validation:
        """Return what was found in all."""
        parsed = [found.judged for found in self._found if found.judged is not None]
        rules = {rule.name: rule for judged in parsed for rule in judged.rules} or {rule.name: rule for rule in RULES}
        hosts = [host for found in self._found for host in found.hosts]
        severities = {name: _strictest(rule, parsed) for name, rule in rules.items()}
        absent = self._envoy.absent
        return Validation(
            environment=environment,
            hosts=tuple(hosts),
            specifications=len(self._found),
            checks=checks_of(
                rules.values(),
                severities,
                parsed=bool(parsed),
                compiled=any(found.compiled for found in self._found),
                envoy=absent,
            ),
            results=tuple(replace(result, hosts=tuple(names)) for result, names in self._results.items()),
            envoy=f"Envoy was not asked: {absent}" if absent else self._accepted,
            seconds=time.monotonic() - self._began,
        )

    @property
    def _accepted(self) -> str:
        """What Envoy said of them, in a few words."""
        refused = [found for found in self._found if any(each.check in (COMPILES, ENVOY) for each in found.results)]
        accepted = sum(found.compiled for found in self._found) - len(refused)
        if accepted == len(self._found):
            return f"{self._envoy.told} accepts {'it' if accepted == 1 else 'them'}"
        return f"{self._envoy.told} accepts {accepted} of {len(self._found)}"

    def _examined(self, action: GatewayAction) -> Found:
        wrong: list[Result] = []
        host = judged = None
        try:
            host = action.host(action.host_options())
        except GatewayError as error:
            wrong += [_of_line(line) for line in str(error).splitlines()]
        try:
            judged = parse_and_judge(action.raw_spec)
        except SpecError as error:
            wrong += [Result(SPECIFICATION, "deny", problem.path, problem.message) for problem in error.errors]
        except GatewayError as error:
            wrong += [_of_line(line) for line in str(error).splitlines()]
        if judged is None or host is None:
            results = (*wrong, *(_of_policies(judged) if judged else ()))
            if results not in self._refused:
                self._refused[results] = self._new(judged, results)
            return self._refused[results]
        key = (judged.spec, host)
        if key not in self._known:
            results = (*_of_policies(judged), *self._compiled(judged.spec, host))
            self._known[key] = self._new(judged, results, compiled=True)
        return self._known[key]

    def _new(self, judged: Judged | None, results: tuple[Result, ...], *, compiled: bool = False) -> Found:
        found = Found(judged, results, compiled)
        self._found.append(found)
        return found

    def _compiled(self, spec: Spec, host: Host) -> Iterator[Result]:
        try:
            bundle = build_bundle(spec, host)
        except GatewayError as error:
            yield Result(COMPILES, "deny", "", " ".join(str(error).split()))
            return
        refusal = self._envoy.refusal(bundle.digest, {file.path: file.content for file in bundle.files})
        if refusal:
            yield Result(ENVOY, "deny", "", f"{self._envoy.told} refuses it: {refusal}")


def _of_policies(judged: Judged) -> Iterator[Result]:
    for finding in judged.judgement.findings:
        yield Result(finding.rule, finding.severity, finding.path, finding.message, finding.remedy)
    for finding, exception in judged.judgement.excepted:
        yield Result(finding.rule, finding.severity, finding.path, finding.message, finding.remedy, exception=exception)


def _of_line(line: str) -> Result:
    """What is wrong with a variable before there is a specification: `gateway_models: 'x' is undefined`."""
    path, colon, message = line.partition(": ")
    if not colon or not path.removeprefix(PREFIX).removesuffix("_").isidentifier():
        return Result(SPECIFICATION, "deny", "", line)
    return Result(SPECIFICATION, "deny", path, message)


def _strictest(rule: Rule, parsed: Sequence[Judged]) -> str:
    given = {severity_of(rule, judged.spec) for judged in parsed} or {rule.severity}
    return next(severity for severity in _STRICTEST if severity in given)


def _is_template(value: Any) -> bool:
    """Whether any text in it is a template, which may be something else on each host."""
    if isinstance(value, Mapping):
        return any(_is_template(key) or _is_template(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return any(map(_is_template, value))
    return isinstance(value, str) and any(each in value for each in _BRACES)
