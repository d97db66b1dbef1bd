# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a model's last provider is asked again: the part of the spec's model about retries."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import Integer, duration, spec


@dataclass(frozen=True)
class Retries:
    """How often the last who can be asked is asked again, and how long the gateway waits before; seconds."""

    attempts: int = field(metadata=spec(Integer(1, 10), "How often, after the first time."))
    max_wait: float = field(
        default=10.0,
        metadata=spec(
            duration(1000),
            "The longest C(Retry-After) that is waited for, in whole seconds; up to half as much is added, so that "
            "not all come back at once. An answer that asks for more goes to the client as it is.",
        ),
    )
