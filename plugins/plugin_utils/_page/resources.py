# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading resources that a host has told: whatever is not as a specification makes it counts as not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def part(value: Any, key: str) -> Mapping[str, Any]:
    """Return the object at a key, empty where there is none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def parts(value: Any, key: str) -> tuple[Mapping[str, Any], ...]:
    """Return the objects of the list at a key."""
    return tuple(item for item in _items(value, key) if isinstance(item, Mapping))


def texts(value: Any, key: str) -> tuple[str, ...]:
    """Return the strings of the list at a key."""
    return tuple(item for item in _items(value, key) if isinstance(item, str))


def text(value: Any, key: str) -> str:
    """Return the string at a key, empty where there is none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""


def count(value: Any, key: str) -> int | None:
    """Return the whole number at a key."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def named(resources: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the resources of a kind such as `gateway_models`, by their names."""
    prefix = f"{kind}."
    return {address[len(prefix) :]: value for address, value in resources.items() if address.startswith(prefix)}


def _items(value: Any, key: str) -> list[Any] | tuple[Any, ...]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, (list, tuple)) else ()
