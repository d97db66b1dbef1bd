# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of the domain: every one's text is written for the person who runs the play.

Only modules call ``fail_json`` and only actions raise ``AnsibleActionFail``; everything below them raises one of these.
No error carries a secret's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class GatewayError(Exception):
    """Base of all errors that a user is told about; ``str()`` is the whole message."""


@dataclass(frozen=True)
class SpecProblem:
    """One thing that is wrong in a spec.

    ``path`` names the place in role variables (``gateway_models.gpt-5.targets[1].provider``).
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SpecError(GatewayError):
    """A spec cannot be parsed; carries every problem that was found, in the order of the spec."""

    def __init__(self, errors: Sequence[SpecProblem]) -> None:
        self.errors: tuple[SpecProblem, ...] = tuple(errors)
        super().__init__("\n".join(str(problem) for problem in self.errors))


@dataclass(frozen=True)
class Finding:
    """One place where a spec breaks a policy.

    ``severity`` is ``deny`` or ``warn``; ``remedy`` says what to write instead.
    """

    rule: str
    severity: str
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}; {self.remedy} (policy {self.rule})"


class PolicyError(GatewayError):
    """A valid spec breaks policies whose severity is ``deny``."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings: tuple[Finding, ...] = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class CompileError(GatewayError):
    """A valid spec cannot be turned into a bundle for this host."""


class ReleaseError(GatewayError):
    """A release cannot be staged, validated, activated or pruned on the host."""


class SecretError(GatewayError):
    """A secret cannot be resolved or delivered; names the reference and the store, never a value."""


class VerifyError(GatewayError):
    """A gateway does not serve what its spec says."""
