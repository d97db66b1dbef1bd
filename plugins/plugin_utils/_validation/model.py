# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a validation finds, before it is told in any form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import Rule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.moments import Moment
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_exceptions import PolicyException

#: The checks that are no policies; no policy can have such a name.
SPECIFICATION, COMPILES, ENVOY = "valid-specification", "compiled-release", "accepted-by-envoy"
_CHECKS = {
    SPECIFICATION: "The variables are a specification: every key is known, every value can be read, and what one place "
    "names is there in another.",
    COMPILES: "The specification can be turned into the files of a gateway.",
    ENVOY: "Envoy accepts its configuration.",
}
_MARKUP = re.compile(r"[A-Z]\(([^()]*)\)")


@dataclass(frozen=True)
class Where:
    """A place in a file; lines and columns count from 1, and are 0 where they are not known."""

    file: str
    line: int
    column: int


@dataclass(frozen=True)
class Result:
    """One thing that was found on some hosts. ``severity`` is ``deny`` or ``warn``."""

    check: str
    severity: str
    path: str
    message: str
    remedy: str = ""
    hosts: tuple[str, ...] = ()
    where: Where | None = None
    exception: PolicyException | None = None

    @property
    def text(self) -> str:
        """The whole of it in a line, without the hosts."""
        place = f"{self.path}: " if self.path else ""
        fix = f"; {self.remedy}" if self.remedy else ""
        policy = "" if self.check in _CHECKS else f" (policy {self.check})"
        return f"{place}{self.message}{fix}{policy}"

    @property
    def excuse(self) -> str:
        """Who answers for it, why and until when; '' where nobody does."""
        if self.exception is None:
            return ""
        made = self.exception
        return f"{made.reason} ({made.owner}, until {Moment().render(made.expires)})"


@dataclass(frozen=True)
class Check:
    """A check of an environment. ``severity`` is the strictest that any host gives it; ``skipped`` says why it was
    not made at all."""

    name: str
    severity: str
    doc: str
    skipped: str = ""

    @property
    def is_policy(self) -> bool:
        """Whether it can be set and excepted."""
        return self.name not in _CHECKS


@dataclass(frozen=True)
class Validation:
    """What was found in an environment; ``envoy`` says which Envoy was asked, or why none was."""

    environment: str
    hosts: tuple[str, ...]
    specifications: int
    checks: tuple[Check, ...]
    results: tuple[Result, ...]
    envoy: str
    seconds: float

    @property
    def errors(self) -> tuple[Result, ...]:
        """What refuses the specification."""
        return tuple(each for each in self.results if each.severity == "deny" and each.exception is None)

    @property
    def warnings(self) -> tuple[Result, ...]:
        """What only warns."""
        return tuple(each for each in self.results if each.severity == "warn" and each.exception is None)

    @property
    def excepted(self) -> tuple[Result, ...]:
        """What somebody answers for."""
        return tuple(each for each in self.results if each.exception is not None)

    @property
    def summary(self) -> str:
        """All of it in a line."""
        counts = [
            _counted(len(self.errors), "error"),
            _counted(len(self.warnings), "warning"),
            *([_counted(len(self.excepted), "exception")] if self.excepted else []),
        ]
        same = "" if self.specifications == 1 else f" with {self.specifications} specifications"
        return f"Validate: {', '.join(counts)}, on {_counted(len(self.hosts), 'host')}{same}; {self.envoy}"


def checks_of(
    rules: Iterable[Rule], severities: Mapping[str, str], *, parsed: bool, compiled: bool, envoy: str
) -> tuple[Check, ...]:
    """Return all checks.

    ``parsed`` says whether any specification could be read, ``compiled`` whether any host could as well, and ``envoy``
    why Envoy was not asked.
    """
    unread = "" if parsed else "no specification could be read"
    uncompiled = unread or ("" if compiled else "the settings of no host could be read")
    off = "off in this environment"
    return (
        Check(SPECIFICATION, "deny", _CHECKS[SPECIFICATION]),
        *(
            Check(rule.name, severity, plain(rule.doc), unread or (off if severity == "off" else ""))
            for rule in rules
            for severity in (severities.get(rule.name, rule.severity),)
        ),
        Check(COMPILES, "deny", _CHECKS[COMPILES], uncompiled),
        Check(ENVOY, "deny", _CHECKS[ENVOY], uncompiled or envoy),
    )


def plain(doc: str) -> str:
    """Return a text of the documentation without its markup: ``C(tls)`` becomes ``tls``."""
    return _MARKUP.sub(r"\1", doc)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
