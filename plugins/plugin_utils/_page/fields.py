# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fields of a resource: what is written for a value, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import (
    ABSENT,
    CREATE,
    DELETE,
    FieldChange,
    ResourceChange,
    flow,
    is_given,
    is_set,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.tfjson import LITERAL

#: A value of a field is shown as so many lines of so many letters at most.
_LINES = 40
_LETTERS = 400


@dataclass(frozen=True)
class Line:
    """A line of a value. ``mark`` is what became of it: an action, or '' for one that is told as it is.

    ``remark`` is whether it is said in place of something that is not shown.
    """

    text: str
    mark: str = ""
    remark: bool = False


@dataclass(frozen=True)
class Field:
    """A field, and its value on both sides; no lines where there is none."""

    path: str
    before: tuple[Line, ...]
    after: tuple[Line, ...]


def fields_of(change: ResourceChange) -> tuple[Field, ...]:
    """Return the fields of a change that say something: what is not set in a new resource says nothing."""
    if change.action == CREATE:
        return tuple(Field(each.path, (), _lines(each.after)) for each in change.fields if is_given(each.after))
    if change.action == DELETE:
        return tuple(Field(each.path, _lines(each.before), ()) for each in change.fields if is_given(each.before))
    return tuple(Field(each.path, *_sides(each)) for each in change.fields)


def _sides(field: FieldChange) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    if is_set(field.before) and is_set(field.after):
        gone = [item for item in field.before if item not in field.after]
        new = [item for item in field.after if item not in field.before]
        stay = len(field.before) - len(gone)
        if (gone or new) and stay:
            rest = (Line(f"{stay} as before", remark=True),)
            return (*_marked(gone, DELETE), *rest), (*_marked(new, CREATE), *rest)
        return _marked(field.before, DELETE if gone else ""), _marked(field.after, CREATE if new else "")
    return _lines(field.before), _lines(field.after)


def _marked(items: Any, mark: str) -> tuple[Line, ...]:
    return _few([_line(item, mark) for item in items])


def _lines(value: Any) -> tuple[Line, ...]:
    """The lines of a value: one for each item of a list of objects, or of references."""
    if value is ABSENT or not is_given(value):
        return ()
    if isinstance(value, (list, tuple)) and (_has_objects(value) or LITERAL in value):
        return _few([_line(item) for item in value])
    return (_line(value),)


def _has_objects(value: Any) -> bool:
    return any(isinstance(item, Mapping) for item in value)


def _line(value: Any, mark: str = "") -> Line:
    if value == LITERAL:
        return Line("a value in the specification, not shown", mark, remark=True)
    text = flow(value)
    return Line(text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…", mark)


def _few(lines: list[Line]) -> tuple[Line, ...]:
    more = len(lines) - _LINES
    return (*lines[:_LINES], Line(f"and {more} more, see plan.json", remark=True)) if more > 0 else tuple(lines)
