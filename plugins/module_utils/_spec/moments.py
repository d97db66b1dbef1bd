# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Points in time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import KindError, Scalar, plain_text, show


@dataclass(frozen=True)
class Moment(Scalar):
    """A time in UTC, which the model holds in seconds since the epoch. YAML's own timestamps are taken, too."""

    pattern: ClassVar[str] = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z$"

    def convert(self, value: object) -> int:
        if isinstance(value, datetime):
            aware = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
            return int(aware.timestamp())
        if isinstance(value, date):
            return int(datetime(value.year, value.month, value.day, tzinfo=timezone.utc).timestamp())
        text = plain_text(value)
        form = "%Y-%m-%dT%H:%MZ" if len(text) == len("2026-12-31T00:00Z") else "%Y-%m-%dT%H:%M:%SZ"
        try:
            if re.match(self.pattern, text) is None or text.endswith("\n"):
                raise ValueError
            return int(datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp())
        except ValueError:
            raise KindError(f"{show(text)} must be a time in UTC such as '2026-12-31T00:00Z'") from None

    def render(self, value: int) -> str:
        moment = datetime.fromtimestamp(value, tz=timezone.utc)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ" if moment.second else "%Y-%m-%dT%H:%MZ")
