# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take one field out of a secret that has several.

The field ``NAME_expires_at`` says when the field ``NAME`` ends, as RFC 3339 text; '' says that it does not end. A field
that is '' has ended as well: that is how a key is taken back without breaking the references to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._times import parse_time, time_text

EXPIRES_AT = "_expires_at"
_SHOWN = 20
_REMEDY = "write a new key there, or refer to a field with one that is valid"


class EndedError(SecretError):
    """The key is there, and is not to be used any more."""


def field_of(
    reference: Reference, secret: Mapping[str, Any], where: str, *, now: datetime | None = None
) -> str | SecretError:
    """The text of the field that ``reference`` names, or an error that names the fields there are, never a value.

    EndedError for a field that has ended at ``now``, which is the present when not given.
    """
    name = reference.field or ""
    if name not in secret:
        return SecretError(f"{reference.text}: {where} has no field {name!r}; it has {_names(secret)}")
    value = secret[name]
    if not isinstance(value, str):
        return SecretError(f"{reference.text}: the field {name!r} in {where} is not text")
    if not value:
        return EndedError(f"{reference.text}: is empty, which stands for a key that has ended: {_REMEDY}")
    try:
        end = end_of(secret, name)
    except SecretError as error:
        return SecretError(f"{reference.text}: {error} in {where}")
    if end is not None and end <= (now or datetime.now(UTC)):
        return EndedError(f"{reference.text}: ended at {time_text(end)} ({name}{EXPIRES_AT}): {_REMEDY}")
    return value


def end_of(secret: Mapping[str, Any], name: str) -> datetime | None:
    """When the field ``name`` ends, None when it does not. Raises as `time_of`."""
    return time_of(secret, name + EXPIRES_AT)


def time_of(secret: Mapping[str, Any], name: str) -> datetime | None:
    """The time in the field ``name``, None when it is '' or missing. Raises SecretError, which repeats no wrong one."""
    text = secret.get(name, "")
    try:
        if not isinstance(text, str):
            raise ValueError
        return parse_time(text) if text else None
    except ValueError:
        raise SecretError(f"the field {name!r} is not a time such as 2026-03-01T12:00:00Z (RFC 3339)") from None


def _names(secret: Mapping[str, Any]) -> str:
    names = sorted(secret)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more if names else "none"
