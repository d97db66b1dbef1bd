# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold a spec against the policies: with the severities that it chooses, and the exceptions that it makes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import Finding
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES, Place, Rule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_exceptions import PolicyException

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
    findings: list[Finding] = []
    excepted: list[tuple[Finding, PolicyException]] = []
    for rule in rules:
        severity = severity_of(rule, spec)
        for place in rule.check(spec) if severity != "off" else ():
            matching = [
                index
                for index, each in enumerate(spec.policy_exceptions)
                if each.policy == rule.name and covers(each.path, place.path)
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


def covers(pattern: str, path: str) -> bool:
    """Say whether a place is what a pattern names, or below it; ``*`` stands for any characters."""
    # Brackets are those of lists: only the asterisk is special.
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    return any(fnmatchcase(path, literal + below) for below in ("", ".*", "[[]*"))


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
