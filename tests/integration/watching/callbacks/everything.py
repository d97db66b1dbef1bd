# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: everything
type: aggregate
short_description: Writes down all that a callback is told
description:
  - Stands for the callbacks that keep runs in a database.
options: {}
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "everything"
    CALLBACK_NEEDS_ENABLED = True

    def v2_on_any(self, *arguments: Any, **keywords: Any) -> None:
        with Path(os.environ["EVERYTHING"]).open("a") as file:
            for value in (*arguments, *keywords.values()):
                parts = [getattr(value, name, None) for name in ("_result", "_task_fields", "processed", "custom")]
                print(repr(value), *map(repr, parts), getattr(value, "_uuid", ""), file=file)
