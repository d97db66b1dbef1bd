# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times as people write them: points, RFC 3339 text such as ``2026-03-01T12:00:00Z``, and lengths such as ``24h``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_LENGTH = re.compile(r"(\d{1,9})([smhd]?)\Z", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
#: Ten years: more than anybody means, and far from what no date can be.
_LONGEST = timedelta(days=3653)


def duration(text: str) -> timedelta:
    """The length that a text says, in whole seconds. Raises ValueError, also for more than ten years."""
    match = _LENGTH.match(text)
    length = timedelta(seconds=int(match.group(1)) * _SECONDS[match.group(2)]) if match else None
    if length is None or length > _LONGEST:
        raise ValueError("not a length of time")
    return length


def parse_time(text: str) -> datetime:
    """The time that a text says, in UTC. Raises ValueError, also for a leap second, which Python does not know."""
    if not _FORM.match(text):
        raise ValueError("not a time of RFC 3339")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None


def time_text(time: datetime) -> str:
    """A time in UTC, to the second, which is as exact as anything here needs to be."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
