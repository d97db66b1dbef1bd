# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any path of Vault or OpenBao that answers with data: credentials of a database, a certificate, a decrypted text."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import (
    DeniedError,
    FailedError,
    MissingError,
    RejectedError,
)

if TYPE_CHECKING:
    from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.keeper import Lease
    from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_visit import Visit

#: A lease counts as ended this long before it does, in seconds, or after nine tenths of a life that is shorter.
_MARGIN = 10.0
#: Texts shorter than this are no secrets, and would make holes in every sentence.
_SHORT = 4
#: So many characters of a longer text tell that it is repeated.
_TELLING = 8


class Request(NamedTuple):
    """A request: GET, or POST when there is a ``body`` (JSON)."""

    path: str
    body: str | None

    @property
    def key(self) -> str:
        return json.dumps(["request", self.path, self.body])


def ask(visit: Visit, request: Request) -> dict[str, Any]:
    """The answer's data, and the lease that it comes with, if any. Raises SecretError and StoreError."""
    body = None if request.body is None else json.loads(request.body)
    try:
        answer = visit.client.get_any(request.path) if body is None else visit.client.post(request.path, body)
    except DeniedError:
        wanted = '"read"' if body is None else '"update" (or "create")'
        raise SecretError(f"denies it: a policy must allow {wanted} on {request.path}") from None
    except MissingError:
        raise SecretError("has nothing there") from None
    except (RejectedError, FailedError) as error:
        said = without(str(error), body)
        raise SecretError("rejected the request" + (f": {said}" if said else "")) from None
    if not isinstance(answer.get("data"), dict):
        raise SecretError("answers with no data" + (", but with a token" if answer.get("auth") else ""))
    entry: dict[str, Any] = {"data": answer["data"]}
    if answer.get("lease_id"):
        lease: Lease = {
            "id": str(answer["lease_id"]),
            "seconds": float(answer.get("lease_duration") or 0),
            "renewable": bool(answer.get("renewable")),
        }
        visit.hold(lease)
        entry |= {"lease": lease, "login": visit.login, "until": _until(visit, lease)}
    return entry


def renewed(visit: Visit, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry with a longer lease, or None when that has ended. The keeper may have renewed it meanwhile."""
    lease: Lease = entry["lease"]
    if not lease["renewable"] or entry["login"] != visit.login:
        return None
    try:
        answer = visit.client.post("sys/leases/renew", {"lease_id": lease["id"]})
        granted: Lease = {**lease, "seconds": float(answer["lease_duration"])}
    except (DeniedError, MissingError, RejectedError, KeyError, TypeError):
        return None
    visit.hold(granted)
    return {**entry, "until": _until(visit, granted)}


def _until(visit: Visit, lease: Lease) -> float | None:
    """When to ask again, by the monotonic clock; a lease ends with the token that it was got with."""
    ends = []
    if lease["seconds"]:
        ends.append(time.monotonic() + lease["seconds"] - min(_MARGIN, lease["seconds"] / 10))
    if visit.token_until is not None:
        ends.append(visit.token_until)
    return min(ends, default=None)


def without(text: str, body: object) -> str:
    """What the store said, without the texts that were sent and are repeated in it, be they cut off."""
    for value in sorted(_texts(body), key=len, reverse=True):
        if len(value) >= _SHORT:
            text = text.replace(value, "…")
        begin = text.find(value[:_TELLING]) if len(value) > _TELLING else -1
        if begin >= 0:
            text = f"{text[:begin]}…"
    return text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
