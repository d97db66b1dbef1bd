# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has used the gateway lately, from the end of its access log."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

#: What is looked at of a log, which may be of any length.
_MOST_BYTES = 32 * 1024 * 1024
#: What counts as lately.
WINDOW = timedelta(hours=1)


def requests_of(consumers: Collection[str], log: Path, now: datetime) -> dict[str, int]:
    """How many requests each of `consumers` sent within the WINDOW before `now`; those that sent none are left out.

    Of a log with more than 32 MB in that time only the end is counted. Without a readable log nothing is known.
    """
    if not consumers:
        return {}
    since = (now.astimezone(timezone.utc) - WINDOW).strftime("%Y-%m-%dT%H:%M:%S")
    marks = [f'"{name}"'.encode() for name in consumers]
    found: Counter[str] = Counter()
    for line in _end_of(log):
        if any(mark in line for mark in marks):
            entry = _entry(line)
            if entry.get("consumer") in consumers and str(entry.get("time", "")) >= since:
                found[entry["consumer"]] += 1
    return dict(sorted(found.items()))


def _end_of(log: Path) -> list[bytes]:
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _MOST_BYTES))
            return file.read().splitlines()
    except OSError:
        return []


def _entry(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
