# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exceptions from policies: who answers for one, why, and until when."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import Text, spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.moments import Moment

_SENTENCE = Text(r"^\S.*$", "a text on one line", max_length=500)


@dataclass(frozen=True)
class PolicyException:
    """A place that may break a policy for a while."""

    policy: str = field(metadata=spec(_SENTENCE, "The policy, by its name."))
    path: str = field(
        metadata=spec(
            _SENTENCE,
            "The place in the variables, as the finding names it, such as C(gateway_consumers.batch). What is below it "
            "is excepted, too; an asterisk stands for any characters.",
        )
    )
    owner: str = field(metadata=spec(_SENTENCE, "Who answers for it."))
    reason: str = field(metadata=spec(_SENTENCE, "Why it is needed."))
    expires: int = field(
        metadata=spec(Moment(), "The time in UTC, such as C(2026-12-31T00:00Z), from which on the policy holds again.")
    )
