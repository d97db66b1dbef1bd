# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the headers of a gateway's answers may say.

The names of OpenAI's headers are those of https://platform.openai.com/docs/api-reference/debugging-requests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Answer

REQUEST_ID = "x-request-id"
# Of one connection only (RFC 9110, 7.6.1), of the gateway's inside, or of the account at the provider.
_UNEXPECTED = re.compile(
    "keep-alive|te|trailer|upgrade|proxy-.*|x-gw-.*|x-envoy-.*|x-ratelimit-(limit|remaining|reset)"
    "|set-cookie|openai-organization|openai-project"
)
_NUMBER = "[0-9]+"
# As Go writes durations: 120ms, 8.64s, 6m0s.
_DURATION = r"(?:[0-9]+h)?(?:[0-9]+m)?(?:[0-9]+(?:\.[0-9]+)?(?:ms|s))?"
_KINDS = ("requests", "tokens")


def check_request_ids(answers: Sequence[Answer], given: str) -> None:
    """Raise VerifyError where an answer lacks an id of its own. `given` is the one that the client sent with each."""
    ids = [answer.headers.get(REQUEST_ID, "") for answer in answers]
    if not all(ids):
        raise VerifyError(f"header {REQUEST_ID}: expected one, got none")
    if given in ids:
        raise VerifyError(f"header {REQUEST_ID}: expected the gateway's own, got the one that the client sent")
    if len(set(ids)) < len(ids):
        raise VerifyError(f"header {REQUEST_ID}: expected another for each request, got the same")


def check_headers(answer: Answer) -> None:
    """Raise VerifyError for headers that no client should get."""
    found = sorted(name for name in answer.headers if _UNEXPECTED.fullmatch(name))
    if found:
        raise VerifyError("headers: expected none of the connection or the provider's account, got " + ", ".join(found))
    for name, allowed in (("connection", ("close", "keep-alive")), ("transfer-encoding", ("chunked",))):
        value = answer.headers.get(name)
        if value is not None and value.lower() not in allowed:
            raise VerifyError(f"header {name}: expected {' or '.join(map(repr, allowed))}, got {value!r}")
    if not answer.headers.get(REQUEST_ID):
        raise VerifyError(f"header {REQUEST_ID}: expected one, got none")


def check_server(own: Answer, provided: Answer) -> None:
    """Raise VerifyError where a provider's `server` reaches the client instead of the gateway's (or a balancer's)."""
    wanted, found = own.headers.get("server"), provided.headers.get("server")
    if wanted != found:
        raise VerifyError(f"header server: expected {wanted!r}, as without a provider, got {found!r}")


def check_rate_limits(answer: Answer) -> str | None:
    """Raise VerifyError for limits in another form than OpenAI's; return why there is nothing to check, or None."""
    found = [kind for kind in _KINDS if any(name.endswith("-" + kind) for name in _limits(answer))]
    if not found:
        return "no limit holds for the key"
    for kind in found:
        for name, form in (("limit", _NUMBER), ("remaining", _NUMBER), ("reset", _DURATION)):
            header = f"x-ratelimit-{name}-{kind}"
            value = answer.headers.get(header)
            if not value or re.fullmatch(form, value) is None:
                wanted = "a number" if form == _NUMBER else "a duration such as 8.64s"
                raise VerifyError(f"header {header}: expected {wanted}, got {value!r}")
    return None


def _limits(answer: Answer) -> list[str]:
    return [name for name in answer.headers if name.startswith("x-ratelimit-")]
