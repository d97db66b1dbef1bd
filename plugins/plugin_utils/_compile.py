# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what the user wrote to what is shipped: parse, check, compile. No host and no secret is needed for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle, build_bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import consumers_without_key
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import (
    Finding,
    GatewayError,
    PolicyError,
    SecretError,
    SpecError,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import Judgement, judge
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES, Rule
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Literal, Reference
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources
from ansible_collections.gatewayops.openai.plugins.plugin_utils._own_rules import own_rules
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession


class RefusedSpecError(GatewayError):
    """A spec that nothing is done with: the first line counts what is wrong, each further line says one thing."""


@dataclass(frozen=True)
class Judged:
    """A spec that could be read, the rules that it was held against, and what they found."""

    spec: Spec
    rules: tuple[Rule, ...]
    judgement: Judgement


@dataclass(frozen=True)
class Resolved:
    """The secret files by name, with their values in them, and what is worth a warning."""

    files: dict[str, str] = field(repr=False)
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Compiled:
    """A spec that may be applied. `findings` are those that only warn."""

    spec: Spec
    findings: tuple[Finding, ...]
    bundle: Bundle

    @cached_property
    def resources(self) -> dict[str, Any]:
        """The resources as a host gives them back: plain JSON."""
        resources: dict[str, Any] = json.loads(canonical_json(spec_resources(self.spec)))
        return resources

    @property
    def spec_digest(self) -> str:
        """What identifies the spec, whatever it is compiled to."""
        return digest(canonical_json(self.resources))

    def resolve(self, session: SecretSession) -> Resolved:
        """The secret files with their values. A key of a consumer that has ended is left out. Raises SecretError."""
        sources = dict.fromkeys(source for file in self.bundle.secrets for source in file.references)
        needed = {source for file in self.bundle.secrets if not file.may_end for source in file.references}
        values: dict[Any, str] = {source: source.value for source in sources if isinstance(source, Literal)}
        references = [source for source in sources if isinstance(source, Reference)]
        try:
            values.update(session.resolve(references, may_end={each for each in references if each not in needed}))
        except SecretError as error:
            raise SecretError(_with_head("secrets cannot be had; nothing was changed", str(error))) from None
        return Resolved(
            {file.name: file.render(values) for file in self.bundle.secrets},
            tuple(
                f"gateway_consumers.{name}: every key of it has ended, so its requests are refused"
                for name in consumers_without_key(self.spec, values)
            ),
        )


def parse_and_judge(raw: Mapping[str, Any]) -> Judged:
    """Parse a spec and hold it against all policies. Raises SpecError with everything that is wrong."""
    spec = parse_spec(raw)
    rules = (*RULES, *own_rules(spec))
    return Judged(spec, rules, judge(spec, rules))


def parse_and_check(raw: Mapping[str, Any]) -> tuple[Spec, tuple[Finding, ...]]:
    """Parse a spec and hold it against the policies. Raises RefusedSpecError with everything that is wrong."""
    try:
        judged = parse_and_judge(raw)
    except SpecError as error:
        raise RefusedSpecError(_refusal("has {} error{}", str(error))) from None
    findings = judged.judgement.findings
    denied = [finding for finding in findings if finding.severity == "deny"]
    if denied:
        raise RefusedSpecError(_refusal("breaks policies in {} place{}", str(PolicyError(denied))))
    return judged.spec, tuple(finding for finding in findings if finding.severity == "warn")


def compile_gateway(raw: Mapping[str, Any], host: Host) -> Compiled:
    """Parse, check and compile. Raises RefusedSpecError or CompileError."""
    spec, findings = parse_and_check(raw)
    return Compiled(spec, findings, build_bundle(spec, host))


def _refusal(how: str, text: str) -> str:
    count = len(text.splitlines())
    what = how.format(count, "" if count == 1 else "s")
    return _with_head(f"the specification {what}; nothing was changed", text)


def _with_head(head: str, text: str) -> str:
    return "\n".join([head, *(f"  {line}" for line in text.splitlines())])
