# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a consumer's keys."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._keys import (
    ABSENT,
    PRESENT,
    ROTATED,
    Decision,
    Wish,
    current_key,
    decide,
    outline,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import EndedError, field_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_TEXT = "2026-03-01T12:00:00Z"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TOMORROW = "2026-03-02T12:00:00Z"
YESTERDAY = "2026-02-28T12:00:00Z"
NONE = {"current": "", "current_created_at": "", "previous": "", "previous_expires_at": ""}
ONE = {**NONE, "current": "k0", "current_created_at": YESTERDAY}
TWO = {**ONE, "previous": "k-1", "previous_expires_at": TOMORROW}


def wish(state: str = PRESENT, **changes: Any) -> Wish:
    return Wish(**{"state": state, "grace": DAY, **changes})


def minting() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"k{next(numbers)}"


def decided(fields: dict[str, Any] | None, state: str = PRESENT, *, from_key: str | None = None, **changes: Any) -> Any:
    """What is written, or None."""
    return decide(fields, wish(state, **changes), NOW, minting(), started_from=from_key).fields


def message(fields: dict[str, Any] | None, state: str = PRESENT, **changes: Any) -> str:
    return decide(fields, wish(state, **changes), NOW, minting()).message


class TestPresent:
    @pytest.mark.parametrize("state", [PRESENT, ROTATED])
    def test_it_is_made_where_there_is_none(self, state: str) -> None:
        made = {**NONE, "current": "k1", "current_created_at": NOW_TEXT}
        assert decided(None, state) == decided({}, state) == decided(NONE, state) == made
        assert decided({"owner": 1, "revoked_at": YESTERDAY, **NONE}, state) == {"owner": 1, **made}

    def test_one_that_is_there_is_left(self) -> None:
        assert decided(ONE) is decided(TWO) is None
        assert message(TWO) == "the key is there"

    def test_a_previous_key_that_has_ended_goes(self) -> None:
        assert decided({**TWO, "previous_expires_at": NOW_TEXT}) == ONE
        assert message({**TWO, "previous_expires_at": NOW_TEXT}) == (
            "the key is there; written: previous, previous_expires_at"
        )

    def test_a_secret_that_was_made_by_hand_is_taken_over(self) -> None:
        assert decided({"current": "k0", "note": [1]}) == {**ONE, "current_created_at": NOW_TEXT, "note": [1]}
        by_hand = {"current": "k0", "previous": "k-1"}
        assert decided(by_hand) == {**TWO, "current_created_at": NOW_TEXT}, "the previous key gets an end"
        assert decided({**ONE, "revoked_at": YESTERDAY}) == ONE

    def test_one_that_is_too_old_is_rotated(self) -> None:
        assert decided(ONE, max_age=DAY + timedelta(seconds=1)) is None
        assert decided(ONE, max_age=DAY) == {
            "current": "k1", "current_created_at": NOW_TEXT, "previous": "k0", "previous_expires_at": TOMORROW
        }  # fmt: skip
        assert decided(TWO, max_age=DAY) is None
        assert message(TWO, max_age=DAY) == f"not rotated, since the previous key is valid until {TOMORROW}"

    def test_one_that_has_an_end_of_its_own(self) -> None:
        assert decided({**ONE, "current_expires_at": TOMORROW}) is None
        ended = {**TWO, "current_expires_at": NOW_TEXT}
        assert decided(ended) == decided(ended, ROTATED) == {**TWO, "current": "k1", "current_created_at": NOW_TEXT}


class TestRotated:
    def test_the_current_key_becomes_the_previous(self) -> None:
        rotated = {
            "current": "k1", "current_created_at": NOW_TEXT, "previous": "k0", "previous_expires_at": TOMORROW, "n": 1
        }  # fmt: skip
        assert decided({**ONE, "n": 1}, ROTATED) == rotated
        assert decided({"current": "k0", "n": 1}, ROTATED) == rotated
        assert decided({**TWO, "previous_expires_at": YESTERDAY, "n": 1}, ROTATED) == rotated
        assert message(ONE, ROTATED) == f"rotated; the previous key is valid until {TOMORROW}"

    def test_not_while_the_previous_key_is_valid_unless_forced(self) -> None:
        assert decided(TWO, ROTATED) is None
        assert decided({"current": "k0", "previous": "k-1"}, ROTATED) == {**TWO, "current_created_at": NOW_TEXT}
        assert decided(TWO, ROTATED, force=True)["previous"] == "k0"

    def test_without_grace_the_key_ends_at_once(self) -> None:
        assert decided(ONE, ROTATED, grace=timedelta(0)) == {**ONE, "current": "k1", "current_created_at": NOW_TEXT}
        assert message(ONE, ROTATED, grace=timedelta(0)) == "rotated; the previous key is valid no more"

    def test_a_key_does_not_live_longer_for_being_replaced(self) -> None:
        soon = "2026-03-01T12:30:00Z"
        rotated = decided({**ONE, "current_expires_at": soon}, ROTATED)
        assert rotated["previous_expires_at"] == soon
        assert "current_expires_at" not in rotated


class TestAbsent:
    @pytest.mark.parametrize("fields", [ONE, TWO, {"current": "k0"}, {**NONE, "previous": "k-1"}])
    def test_both_keys_are_taken_back_and_references_stay_right(self, fields: dict[str, Any]) -> None:
        assert decided({**fields, "n": 1}, ABSENT) == {**NONE, "n": 1, "revoked_at": NOW_TEXT}

    @pytest.mark.parametrize("fields", [None, {}, NONE, {"n": 1}, {**NONE, "revoked_at": YESTERDAY}])
    def test_where_there_is_none_nothing_is_written(self, fields: dict[str, Any] | None) -> None:
        assert decided(fields, ABSENT) is None

    def test_nothing_that_is_wrong_prevents_it(self) -> None:
        wrong = {"current": {"a": "b"}, "previous": 1, "previous_expires_at": "x", "current_expires_at": 1}
        assert decided(wrong, ABSENT) == {**NONE, "revoked_at": NOW_TEXT}


class TestLostRace:
    """Somebody else wrote between the read and the write."""

    def test_their_new_key_is_the_one_that_was_wished_for(self) -> None:
        theirs = {**ONE, "current": "theirs", "previous": "k0", "previous_expires_at": TOMORROW}
        for state in (PRESENT, ROTATED):
            for force in (True, False):
                assert decided(theirs, state, from_key="k0", force=force) is None
                assert decided(theirs, state, from_key="", force=force) is None
        assert decided({**ONE, "current": "theirs"}, ROTATED, from_key="k0", grace=timedelta(0)) is None

    def test_something_else_that_they_wrote_does_not_count(self) -> None:
        assert decided({**ONE, "n": 2}, ROTATED, from_key="k0")["current"] == "k1"
        assert decided(NONE, PRESENT, from_key="k0")["current"] == "k1"
        assert decided({**ONE, "current": "theirs"}, ABSENT, from_key="k0")["current"] == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [("current", 1), ("current", None), ("previous", ["x"]), ("previous_expires_at", "soon"),
     ("current_expires_at", 5), ("current_created_at", "2026-01-01")],
)  # fmt: skip
def test_what_is_no_key_and_no_time_is_named_and_not_shown(field: str, value: Any) -> None:
    for state in (PRESENT, ROTATED):
        with pytest.raises(SecretError, match=f"^the field '{field}' is not ") as caught:
            decided({**TWO, field: value}, state, max_age=DAY)
        assert "soon" not in str(caught.value)


def test_an_outline_shows_times_and_no_keys() -> None:
    assert outline({**TWO, "api_key": "canary", "revoked_at": "canary"}) == {
        "current": "(not shown)", "previous": "(not shown)", "current_created_at": YESTERDAY,
        "previous_expires_at": TOMORROW, "revoked_at": "(not a time)",
    }  # fmt: skip
    assert outline(None) == {}
    assert "k0" not in repr(Decision(ONE, "x"))
    assert (current_key(None), current_key(NONE), current_key(ONE)) == ("", "", "k0")


TIMES = st.none() | st.just("") | st.timedeltas(-3 * DAY, 3 * DAY).map(lambda delta: (NOW + delta).isoformat())
KEYS = st.sampled_from(["", "a", "b"])
FIELDS = st.none() | st.dictionaries(
    st.sampled_from(["current", "previous"]), KEYS
).flatmap(
    lambda keys: st.dictionaries(
        st.sampled_from(
            ["current_created_at", "previous_expires_at", "current_expires_at", "revoked_at", "foreign"]
        ),
        TIMES.filter(lambda time: time is not None),
    ).map(lambda times: {**times, **keys})
)  # fmt: skip
GRACES = st.sampled_from([timedelta(0), timedelta(seconds=1), HOUR, DAY])
AGES = st.none() | st.sampled_from([DAY, 30 * DAY])
WISHES = st.builds(Wish, st.sampled_from([PRESENT, ROTATED, ABSENT]), GRACES, AGES, st.booleans())


@given(fields=FIELDS, wished=WISHES)
def test_a_decision_is_settled_and_mints_at_most_once(fields: dict[str, Any] | None, wished: Wish) -> None:
    minted: list[str] = []

    def mint() -> str:
        minted.append(f"new{len(minted)}")
        return minted[-1]

    decision = decide(fields, wished, NOW, mint)
    after = fields if decision.fields is None else decision.fields
    assert len(minted) <= 1
    assert bool(minted) == (current_key(after) in minted)
    assert "new" not in decision.message
    if wished.state != ABSENT:
        assert current_key(after)
        assert set(NONE) <= set(after or {})
    assert (after or {}).get("foreign") == (fields or {}).get("foreign")

    again = decide(after, wished, NOW, mint, started_from=current_key(fields))
    if minted:
        assert again.fields is None, "who lost the race to this one writes nothing"
    at_once = decide(after, wished, NOW, mint)
    if wished.state != ROTATED or (not wished.force and (after or {}).get("previous")):
        assert at_once.fields is None, "the same wish again changes nothing"


class Life(RuleBasedStateMachine):
    """A secret in the hands of several runs; a key that was given out is good for as long as was promised."""

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.fields: dict[str, Any] | None = None
        self.mint = minting()
        #: Until when each key was promised to be valid; None: for as long as it is the current one.
        self.promised: dict[str, datetime | None] = {}

    @rule(state=st.sampled_from([PRESENT, ROTATED]), grace=GRACES, max_age=AGES)
    def run(self, state: str, grace: timedelta, max_age: timedelta | None) -> None:
        before = current_key(self.fields)
        decision = decide(self.fields, Wish(state, grace, max_age), self.now, self.mint)
        if decision.fields is not None:
            self.fields = dict(decision.fields)
        after = current_key(self.fields)
        if after != before:
            self.promised[after] = None
            if before:
                self.promised[before] = self.now + grace

    @rule()
    def revoke(self) -> None:
        decision = decide(self.fields, Wish(ABSENT, DAY), self.now, self.mint)
        if decision.fields is not None:
            self.fields = dict(decision.fields)
        self.promised = dict.fromkeys(self.promised, self.now)

    @rule(step=st.sampled_from([timedelta(seconds=1), HOUR, DAY, 31 * DAY]))
    def wait(self, step: timedelta) -> None:
        self.now += step

    @invariant()
    def a_key_is_valid_exactly_as_long_as_promised(self) -> None:
        fields = self.fields or {}
        valid = set()
        for name in ("current", "previous"):
            value = field_of(Reference("vault", "kv/a", name), {"x": "", **fields}, "it", now=self.now)
            if isinstance(value, str):
                valid.add(value)
            elif self.fields is not None:
                assert isinstance(value, EndedError), "a reference to a key that has ended stays right"
        assert valid == {key for key, end in self.promised.items() if end is None or self.now < end}


TestLife = Life.TestCase
