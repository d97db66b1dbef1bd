# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What changes between two sets of resources, in the words of the spec: which model, which consumer, which field.

Resources are what `_spec/resources.py` makes: an address such as `gateway_models.gpt-5` and a plain JSON object in
which secrets are references. So a diff never holds a secret either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CREATE = "create"
UPDATE = "update"
DELETE = "delete"

_SIGNS = {CREATE: "+", UPDATE: "~", DELETE: "-"}
#: A value is shown on one line of at most so many characters.
_WIDTH = 120
#: Beyond so many new resources only their addresses are shown.
_CREATED_IN_FULL = 20
_PLAIN = re.compile(r"[^\s\"'\\{}\[\],#]+(#[^\s\"'\\{}\[\],#]+)?\Z")


class _Absent:
    """The value of a field that is not there, as opposed to one that is null."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


@dataclass(frozen=True)
class FieldChange:
    """One field that differs; `keys` leads to it through objects (str) and lists (int). ABSENT: it is not there."""

    keys: tuple[str | int, ...]
    before: Any
    after: Any

    @property
    def path(self) -> str:
        """The field as it is written in a message: `targets[1].weight`."""
        text = ""
        for key in self.keys:
            text += "[%d]" % key if isinstance(key, int) else ("." if text else "") + key
        return text

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task's result; a side that is absent is left out."""
        sides = {"before": self.before, "after": self.after}
        return {"path": self.path, **{side: value for side, value in sides.items() if value is not ABSENT}}


@dataclass(frozen=True)
class ResourceChange:
    """One resource that is created, updated or deleted. `before` or `after` is empty where it does not exist."""

    address: str
    action: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    fields: tuple[FieldChange, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task's result."""
        return {
            "address": self.address,
            "action": self.action,
            "fields": [field.as_dict() for field in self.fields],
        }


def diff_resources(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[ResourceChange, ...]:
    """Compare two mappings of address -> JSON object; the answer is sorted by address."""
    changes = []
    for address in sorted(set(before) | set(after)):
        if address not in before:
            action, old, new = CREATE, {}, after[address]
        elif address not in after:
            action, old, new = DELETE, before[address], {}
        elif before[address] != after[address]:
            action, old, new = UPDATE, before[address], after[address]
        else:
            continue
        changes.append(ResourceChange(address, action, old, new, tuple(_differences(old, new, ()))))
    return tuple(changes)


def _differences(old: Any, new: Any, keys: tuple[str | int, ...]) -> Iterator[FieldChange]:
    """The smallest fields that differ. A list is entered only where its objects changed in place."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(set(old) | set(new)):
            yield from _differences(old.get(key, ABSENT), new.get(key, ABSENT), (*keys, key))
    elif _same_shape(old, new):
        for index, (left, right) in enumerate(zip(old, new)):
            yield from _differences(left, right, (*keys, index))
    elif old is ABSENT or new is ABSENT or old != new:
        yield FieldChange(keys, old, new)


def _same_shape(old: Any, new: Any) -> bool:
    return (
        isinstance(old, (list, tuple))
        and isinstance(new, (list, tuple))
        and len(old) == len(new)
        and all(isinstance(item, Mapping) for item in (*old, *new))
    )


def summarize(changes: Sequence[ResourceChange]) -> str:
    """The line that ends a plan, in the words of Terraform."""
    counts = {action: sum(change.action == action for change in changes) for action in _SIGNS}
    return "Plan: %d to add, %d to change, %d to remove" % (counts[CREATE], counts[UPDATE], counts[DELETE])


def render_diff(changes: Sequence[ResourceChange]) -> str:
    """The text of `--diff`: a line for each resource and each of its fields, and the summary."""
    return "\n".join([*render_changes(changes), summarize(changes)]) + "\n"


def render_changes(changes: Sequence[ResourceChange]) -> list[str]:
    """The lines of the changes, in their order: one for each resource, and below it one for each of its fields."""
    in_full = sum(change.action == CREATE for change in changes) <= _CREATED_IN_FULL
    lines: list[str] = []
    for change in changes:
        lines.append(f"  {_SIGNS[change.action]} {change.address}")
        if change.action == UPDATE:
            lines.extend(f"      {field.path}: {_transition(field)}" for field in change.fields)
        elif change.action == CREATE and in_full:
            lines.extend(
                f"      {field.path}: {_text(field.after)}" for field in change.fields if is_given(field.after)
            )
    return lines


def is_given(value: Any) -> bool:
    """Whether a value says something: a new resource's unset fields do not."""
    return value not in (None, [], (), {})


def _transition(field: FieldChange) -> str:
    if is_set(field.before) and is_set(field.after):
        removed = [_text(item) for item in field.before if item not in field.after]
        added = [_text(item) for item in field.after if item not in field.before]
        if removed or added:
            return _shorten(" ".join(["-" + item for item in removed] + ["+" + item for item in added]))
    return f"{_text(field.before)} -> {_text(field.after)}"


def is_set(value: Any) -> bool:
    """Whether a list reads best as what was added and what was removed."""
    return (
        isinstance(value, (list, tuple))
        and all(isinstance(item, (str, int, float)) for item in value)
        and len(set(value)) == len(value)
    )


def _text(value: Any) -> str:
    return _shorten(flow(value))


def flow(value: Any) -> str:
    """A value on one line, with as few signs as YAML's flow style needs."""
    if value is ABSENT or value is None:
        return "(none)"
    if isinstance(value, Mapping):
        return "{{{}}}".format(", ".join(f"{key}: {flow(value[key])}" for key in sorted(value)))
    if isinstance(value, (list, tuple)):
        return "[{}]".format(", ".join(flow(item) for item in value))
    if isinstance(value, str) and _PLAIN.match(value):
        return value
    if isinstance(value, float) and value.is_integer():
        return "%d" % value
    return json.dumps(value, ensure_ascii=False)


def _shorten(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
