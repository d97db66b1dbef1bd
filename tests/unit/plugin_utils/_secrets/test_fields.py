# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a field of a secret ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import EndedError, field_of

KEY = "canary-55e1"
REFERENCE = Reference("vault", "kv/consumers/search", "previous")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def previous(now: datetime = NOW, **fields: Any) -> str | SecretError:
    return field_of(REFERENCE, {"previous": KEY, **fields}, "the secret", now=now)


@given(
    now=st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    left=st.timedeltas(timedelta(days=-900), timedelta(days=900)) | st.just(timedelta(0)),
    offset=OFFSETS,
)
def test_it_is_valid_until_its_end_whatever_the_time_zone(now: datetime, left: timedelta, offset: timezone) -> None:
    end = (now + left).astimezone(offset)
    answer = previous(now, previous_expires_at=end.isoformat())
    if left > timedelta(0):
        assert answer == KEY
    else:
        assert isinstance(answer, EndedError)
        assert KEY not in str(answer)


@pytest.mark.parametrize(
    "end", ["2026-03-01T12:00:01Z", "2026-03-01t13:00:01.5+01:00", "2026-03-01 12:00:00.000000001-00:01", ""]
)
def test_forms_of_an_end_that_is_to_come(end: str) -> None:
    assert previous(previous_expires_at=end) == KEY


@pytest.mark.parametrize(
    "end",
    [
        "2026-03-01", "2026-03-01T12:00:00", "2026-03-01T12:00Z", "20260301T120000Z", "2026-02-30T12:00:00Z", " ",
        "2026-03-01T12:00:00Z\n", "1772366400", 1772366400, None, True, [], "tomorrow", "2026-W09-7T12:00:00Z",
        "2026-03-01T12:00:60Z", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "٢٠٢٦-03-01T12:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_an_error_that_names_the_field_and_not_an_end(end: Any) -> None:
    answer = previous(previous_expires_at=end)
    assert isinstance(answer, SecretError)
    assert not isinstance(answer, EndedError)
    assert str(answer) == (
        "vault://kv/consumers/search#previous: the field 'previous_expires_at' is not a time such as "
        "2026-03-01T12:00:00Z (RFC 3339) in the secret"
    )


@given(end=st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"))
@example("0001-01-01T00:00:00+23:59")
def test_no_text_breaks_it_or_is_repeated(end: str) -> None:
    answer = previous(previous_expires_at=end)
    assert answer == KEY or isinstance(answer, SecretError)
    if isinstance(answer, SecretError) and not isinstance(answer, EndedError) and len(end) > 3:
        assert end not in str(answer)


def test_the_end_of_another_field_is_none_of_its_business() -> None:
    assert previous(expires_at="2000-01-01T00:00:00Z", current_expires_at="nonsense") == KEY


def test_without_a_time_given_it_is_now() -> None:
    soon, past = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (60, -60))
    for end, ended in ((soon, False), (past, True)):
        secret = {"previous": KEY, "previous_expires_at": end.isoformat()}
        assert isinstance(field_of(REFERENCE, secret, "the secret"), EndedError) is ended
