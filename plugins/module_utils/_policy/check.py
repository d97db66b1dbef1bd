# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold a spec against the policies: with the severities that it chooses, and the exceptions that it makes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import Finding
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES, Place, Rule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_exceptions import PolicyException
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_rules import SUBJECTS

_EXCEPTIONS = "gateway_policy_exceptions"


@dataclass(frozen=True)
class Judgement:
    """What breaks a policy: ``findings``, and those for which there is an exception, with it."""

    findings: tuple[Finding, ...]
    excepted: tuple[tuple[Finding, PolicyException], ...]


def check_policies(spec: Spec, now: float | None = None) -> tuple[Finding, ...]:
    """Return what breaks a policy that is built in, and is not excepted; see :func:`judge`."""
    return judge(spec, RULES, now).findings


def judge(spec: Spec, rules: Iterable[Rule], now: float | None = None) -> Judgement:
    """Return what breaks a policy that is not ``off``, in the order of the rules and of the spec.

    ``now`` is the time in seconds since 1970, the clock's if it is not given. An exception that excepts nothing is a
    finding itself, with the severity ``warn``.
    """
    moment = time.time() if now is None else now
    used: set[int] = set()
    names = _names(spec) if spec.policy_exceptions else {}
    findings: list[Finding] = []
    excepted: list[tuple[Finding, PolicyException]] = []
    for rule in rules:
        severity = severity_of(rule, spec)
        for place in rule.check(spec) if severity != "off" else ():
            matching = [
                index
                for index, each in enumerate(spec.policy_exceptions)
                if each.policy == rule.name and covers(each.path, place.path, _address(place.path, names))
            ]
            used.update(matching)
            made = [spec.policy_exceptions[index] for index in matching]
            holding = [each for each in made if each.expires > moment]
            message = place.message if holding else _message(place, made)
            finding = Finding(rule.name, severity, place.path, message, place.remedy)
            if holding:
                excepted.append((finding, holding[0]))
            else:
                findings.append(finding)
    return Judgement((*findings, *_useless(spec.policy_exceptions, used)), tuple(excepted))


def severity_of(rule: Rule, spec: Spec) -> str:
    """Return the severity that a spec gives to a rule."""
    return dict(spec.policies).get(rule.name, rule.severity)


def covers(pattern: str, path: str, address: str) -> bool:
    """Say whether a place is what a pattern names, or below it; ``*`` stands for any characters.

    ``address`` is that of the resource whose place it is, such as ``gateway_models.gpt-5.1``, which is not below
    ``gateway_models.gpt-5``.
    """
    # Brackets are those of lists: only the asterisk is special.
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    variable = len(path.partition(".")[0])
    ends = [end for end in range(len(path) + 1) if end == len(path) or path[end] in ".["]
    return any(fnmatchcase(path[:end], literal) for end in ends if not variable < end < len(address))


def _names(spec: Spec) -> dict[str, set[str]]:
    """Return the names of what has one, by variable."""
    kinds = [kind for kind in SUBJECTS if kind != "spec"]
    return {f"gateway_{kind}": {each.name for each in getattr(spec, kind)} for kind in kinds}


def _address(path: str, names: Mapping[str, set[str]]) -> str:
    """Return the address of the resource whose place it is; '' for that of a single variable."""
    variable, _dot, rest = path.partition(".")
    known = names.get(variable, set())
    found = [
        rest[:end] for end in range(len(rest) + 1) if rest[:end] in known and rest[end : end + 1] in ("", ".", "[")
    ]
    return f"{variable}.{max(found, key=len)}" if found else ""


def _message(place: Place, ended: Sequence[PolicyException]) -> str:
    if not ended:
        return place.message
    last = max(ended, key=lambda each: each.expires)
    day = datetime.fromtimestamp(last.expires, tz=timezone.utc).date().isoformat()
    return f"{place.message}; the exception of {last.owner} ended on {day}"


def _useless(exceptions: Sequence[PolicyException], used: set[int]) -> Iterator[Finding]:
    for index, each in enumerate(exceptions):
        if index not in used:
            path = f"{_EXCEPTIONS}[{index}]"
            yield Finding(each.policy, "warn", path, "excepts nothing that breaks the policy", "take it out")
