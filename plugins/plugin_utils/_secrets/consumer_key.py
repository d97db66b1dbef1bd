# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A consumer's key in the store: what `_keys` decides, done with check-and-set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._keys import (
    Decision,
    Fields,
    Wish,
    current_key,
    decide,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.kv2 import Kv2Secret, LostRaceError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._times import time_text

#: How often somebody else may be faster. A key of theirs is taken for ours, so more than once is rare.
_ATTEMPTS = 10


@dataclass(frozen=True)
class Outcome:
    """What was done, or in check mode would be: the secret before and after, and the version that it has."""

    decision: Decision
    before: Fields | None
    version: int

    @property
    def after(self) -> Fields:
        """The secret as it is now."""
        return (self.before if self.decision.fields is None else self.decision.fields) or {}


def settle(secret: Kv2Secret, wish: Wish, mint: Callable[[], str], *, check: bool) -> Outcome:
    """Read, decide, and write over what was read; anew as often as somebody else is faster. Raises SecretError."""
    started_from: str | None = None
    for _attempt in range(_ATTEMPTS):
        held = secret.read()
        decision = decide(held.fields, wish, datetime.now(UTC), mint, started_from=started_from)
        if decision.fields is None:
            return Outcome(decision, held.fields, held.version)
        if check:
            return Outcome(decision, held.fields, held.version + 1)
        if started_from is None:
            started_from = current_key(held.fields)
        try:
            return Outcome(decision, held.fields, secret.write(decision.fields, over=held.version))
        except LostRaceError:
            continue
    raise SecretError(f"was changed by others {_ATTEMPTS} times while this run tried to; try again later")


def wrapped(secret: Kv2Secret, outcome: Outcome, seconds: int) -> dict[str, str]:
    """A token with the current key in it, and until when it can be unwrapped. Raises SecretError and StoreError."""
    try:
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        token = secret.wrap({"api_key": current_key(outcome.after)}, seconds)
    except SecretError as error:
        done = outcome.decision.fields is not None
        raise SecretError(f"{error}. The key itself {'was written' if done else 'is there'}: try again") from None
    return {"wrapped_token": token, "wrapped_until": time_text(until)}
