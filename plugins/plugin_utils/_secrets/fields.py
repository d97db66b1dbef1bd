# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take one field out of a secret that has several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference

_SHOWN = 20


def field_of(reference: Reference, secret: Mapping[str, Any], where: str) -> str | SecretError:
    """The text of the field that ``reference`` names, or an error that names the fields there are, never a value."""
    name = reference.field or ""
    if name not in secret:
        return SecretError(f"{reference.text}: {where} has no field {name!r}; it has {_names(secret)}")
    value = secret[name]
    if not isinstance(value, str):
        return SecretError(f"{reference.text}: the field {name!r} in {where} is not text")
    return value


def _names(secret: Mapping[str, Any]) -> str:
    names = sorted(secret)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more if names else "none"
