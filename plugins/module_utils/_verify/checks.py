# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask a gateway the way a client would ask, and report what was wrong.

Every check runs, whatever became of the others. Nothing here is retried: a gateway that answers now and then is not
right.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Client, Endpoint
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.contract import CONTRACT
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import (
    Asking,
    Check,
    Expectation,
    Question,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.smoke import SMOKE

PROFILES: Mapping[str, tuple[Question, ...]] = {"smoke": SMOKE, "contract": CONTRACT}


def run_checks(endpoint: Endpoint, key: str, expected: Expectation, profile: str = "smoke") -> tuple[Check, ...]:
    """Ask the gateway everything, in a fixed order. Raises VerifyError only for a URL that is none.

    No outcome holds the key, not even where an answer repeats it.
    """
    asking = Asking(Client(endpoint, key), expected)
    return tuple(_run(question, asking, key) for question in PROFILES[profile])


def report(checks: Sequence[Check], where: str) -> dict[str, Any]:
    """The result of a task; a failure has a message that names every failed check, those of one reason together."""
    result = {"changed": False, "url": where, "checks": [check.as_dict() for check in checks]}
    failed = [check for check in checks if not check.ok]
    if failed:
        head = f"{len(failed)} of {len(checks)} checks of {where} failed:"
        names: dict[str, list[str]] = {}
        for check in failed:
            names.setdefault(check.reason, []).append(check.name)
        lines = ["  {}: {}".format(", ".join(names[reason]), reason) for reason in names]
        result.update(failed=True, msg="\n".join([head, *lines]))
    return result


def _run(question: Question, asking: Asking, key: str) -> Check:
    began = time.monotonic()
    ok, skipped = True, None
    try:
        skipped = question.ask(asking)
    except VerifyError as error:
        ok, reason = False, str(error).replace(key, "***")
    else:
        reason = skipped or ""
    seconds = round(time.monotonic() - began, 3)
    return Check(question.name, ok, skipped is not None, seconds, reason, question.paid)
