# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies that users write themselves: conditions on what a spec describes."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    SEVERITIES,
    Choice,
    ListOf,
    Text,
    spec,
)

#: What a rule can be for, and what its conditions call one of them.
SUBJECTS = {
    "listeners": "listener",
    "providers": "provider",
    "models": "model",
    "endpoints": "endpoint",
    "consumers": "consumer",
    "jwt_issuers": "jwt_issuer",
    "spec": "spec",
}
#: As the policies that are built in are named.
RULE_NAME = Text(
    r"^[a-z][a-z0-9_]*$", "a name of small letters, digits and '_', beginning with a letter", max_length=64
)
# Templates in braces were rendered before the rule is read, or never would be.
_CONDITION = Text(
    r"^(?![\s\S]*\{[{%])\S[\s\S]*$",
    "a Jinja expression without braces around it, such as 'model.fallbacks | length > 0'",
    max_length=2000,
)
_SENTENCE = Text(r"^\S.*$", "a text on one line", max_length=500)


class Severity(Choice):
    """A severity; YAML 1.1 reads an unquoted ``off`` as false."""

    def convert(self, value: object) -> str:
        return "off" if value is False else super().convert(value)


@dataclass(frozen=True)
class PolicyRule:
    """A policy that is not built in."""

    name: str
    subject: str = field(
        metadata=spec(
            Choice(tuple(SUBJECTS)),
            "What the rule is for: it is asked for each of these; with V(spec) once.",
            key="for",
        )
    )
    that: tuple[str, ...] = field(
        metadata=spec(
            ListOf(_CONDITION, minimum=1, or_one=True, empty="needs at least one condition"),
            "What has to be true of each, a Jinja expression or a list of them. They see the C(name), the thing itself "
            "by its name in the singular (C(model), C(consumer), C(jwt_issuer), …) and as C(resource), and C(spec), "
            "all of the specification with its defaults.",
        )
    )
    message: str = field(metadata=spec(_SENTENCE, "What is the matter with one for which it is not true."))
    fix: str = field(metadata=spec(_SENTENCE, "What to write instead."))
    when: tuple[str, ...] = field(
        default=(),
        metadata=spec(
            ListOf(_CONDITION, or_one=True),
            "Which of them the rule is for, a Jinja expression or a list of which all are true; without it all.",
        ),
    )
    severity: str = field(
        default="deny",
        metadata=spec(
            Severity(SEVERITIES), "The severity where C(gateway_policies) sets none; V(off) where others turn it on."
        ),
    )
