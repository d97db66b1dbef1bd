# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a consumer's key: the secret as it is, a wish and the time -> the secret as it should be. Pure.

A secret holds two keys, so that a client can move from one to the other while both are valid::

    current, current_created_at, previous, previous_expires_at

A key that there is none of is '', so that references to it stay right. Times are RFC 3339 text. Fields of others in the
same secret are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import end_of, time_of
from ansible_collections.gatewayops.openai.plugins.plugin_utils._times import time_text

CURRENT = "current"
PREVIOUS = "previous"
CREATED_AT = "current_created_at"
PREVIOUS_ENDS = "previous_expires_at"
REVOKED_AT = "revoked_at"
#: Nothing writes it here. Where somebody did, the key it belongs to takes it along.
_CURRENT_ENDS = "current_expires_at"

PRESENT, ROTATED, ABSENT = "present", "rotated", "absent"

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Wish:
    """What a user wants; `state` is PRESENT, ROTATED or ABSENT.

    `grace` is how long a key that was replaced stays valid. `max_age` replaces one that is older. With `force` a
    rotation does not wait until the previous key has ended.
    """

    state: str
    grace: timedelta
    max_age: timedelta | None = None
    force: bool = False


@dataclass(frozen=True)
class Decision:
    """`fields` is what to write, None for nothing; `message` says why, and shows no key."""

    fields: Fields | None = field(repr=False)
    message: str


def decide(
    fields: Fields | None, wish: Wish, now: datetime, mint: Callable[[], str], *, started_from: str | None = None
) -> Decision:
    """What to write; `fields` is None for a secret that is not there, and `mint` makes a key.

    `started_from` is what `current` was when somebody else was faster: their new key is the one that was wished for.
    Raises SecretError, which names the field, when the secret holds what is no key or no time.
    """
    if wish.state == ABSENT:
        return _revoked(fields or {}, now)
    before = dict(fields or {})
    _check(before)
    booked = _booked(before, wish.grace, now)
    if not _is_valid(before, CURRENT, now):
        return Decision(_with_key(booked, mint(), now), "a key was made")
    is_new = started_from not in (None, before[CURRENT])
    if not _is_older(booked, wish.max_age, now) and (wish.state == PRESENT or is_new):
        return _unless_same(before, booked, "another run made the key" if is_new else "the key is there")
    if booked[PREVIOUS] and not wish.force:
        until = booked[PREVIOUS_ENDS]
        return _unless_same(before, booked, f"not rotated, since the previous key is valid until {until}")
    rotated = _with_key(_retired(booked, wish.grace, now), mint(), now)
    ends = rotated[PREVIOUS_ENDS]
    return Decision(rotated, f"rotated; the previous key is valid {f'until {ends}' if ends else 'no more'}")


def current_key(fields: Fields | None) -> str:
    """The current key, '' when there is none."""
    return str((fields or {}).get(CURRENT) or "")


def outline(fields: Fields | None) -> dict[str, str]:
    """What may be shown of a secret: which of our fields are there, and times."""
    known = fields or {}
    shown = {name: "(not shown)" if known[name] else "" for name in (CURRENT, PREVIOUS) if name in known}
    times = (CREATED_AT, _CURRENT_ENDS, PREVIOUS_ENDS, REVOKED_AT)
    return {**shown, **{name: _shown_time(known, name) for name in times if name in known}}


def _shown_time(fields: Fields, name: str) -> str:
    try:
        time = time_of(fields, name)
    except SecretError:
        # Whatever was written there by mistake may be a key.
        return "(not a time)"
    return time_text(time) if time else ""


def _check(fields: Fields) -> None:
    for name in (CURRENT, PREVIOUS):
        if not isinstance(fields.get(name, ""), str):
            raise SecretError(f"the field {name!r} is not text, so it is no key")


def _is_valid(fields: Fields, name: str, now: datetime) -> bool:
    end = end_of(fields, name)
    return bool(fields.get(name)) and (end is None or now < end)


def _is_older(fields: Fields, age: timedelta | None, now: datetime) -> bool:
    created = time_of(fields, CREATED_AT)
    return age is not None and created is not None and now - created >= age


def _booked(fields: Fields, grace: timedelta, now: datetime) -> dict[str, Any]:
    """The secret with all that belongs to its keys: a previous key that has ended goes, one without an end gets one."""
    booked = {name: value for name, value in fields.items() if name != REVOKED_AT}
    booked.setdefault(CURRENT, "")
    if not time_of(booked, CREATED_AT):
        booked[CREATED_AT] = time_text(now)
    if booked.get(PREVIOUS) and not end_of(booked, PREVIOUS):
        booked[PREVIOUS_ENDS] = time_text(now + grace)
    if not _is_valid(booked, PREVIOUS, now):
        booked.update({PREVIOUS: "", PREVIOUS_ENDS: ""})
    return booked


def _with_key(fields: Fields, key: str, now: datetime) -> dict[str, Any]:
    kept = {name: value for name, value in fields.items() if name != _CURRENT_ENDS}
    return {**kept, CURRENT: key, CREATED_AT: time_text(now)}


def _retired(fields: Fields, grace: timedelta, now: datetime) -> dict[str, Any]:
    """The secret whose current key is the previous one."""
    end = min(now + grace, end_of(fields, CURRENT) or now + grace)
    if end <= now:
        return {**fields, PREVIOUS: "", PREVIOUS_ENDS: ""}
    return {**fields, PREVIOUS: fields[CURRENT], PREVIOUS_ENDS: time_text(end)}


def _revoked(fields: Fields, now: datetime) -> Decision:
    """Nothing that is wrong in the secret keeps a key from being taken back."""
    if not fields.get(CURRENT) and not fields.get(PREVIOUS):
        return Decision(None, "there is no key")
    kept = {name: value for name, value in fields.items() if name != _CURRENT_ENDS}
    none = {CURRENT: "", CREATED_AT: "", PREVIOUS: "", PREVIOUS_ENDS: ""}
    return Decision({**kept, **none, REVOKED_AT: time_text(now)}, "revoked")


def _unless_same(before: Fields, after: Fields, message: str) -> Decision:
    if before == after:
        return Decision(None, message)
    what = [name for name in (CREATED_AT, PREVIOUS, PREVIOUS_ENDS) if before.get(name) != after[name]]
    return Decision(after, f"{message}; written: {', '.join(what) or f'no {REVOKED_AT}'}")
