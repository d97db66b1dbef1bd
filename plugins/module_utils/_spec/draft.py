# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what Ansible hands over to drafts of the model, with every problem noted and none in the way of another.

A draft holds what could be read of a record. Checks that look at several places work on drafts, so that one wrong value
does not hide what else is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Kind,
    KindError,
    ListOf,
    Named,
    Pairs,
    Preset,
    Record,
    Scalar,
    Severities,
    did_you_mean,
    plain_text,
    show,
    type_name,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.problems import Problems
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import fields_of, refused_keys

# What stands for a value that could not be read: it keeps its place, and no record is made from it.
UNREADABLE = object()

_LONGEST_SEGMENT = 64


@dataclass(frozen=True)
class Draft:
    """A record of the model that may lack attributes or hold unreadable ones."""

    type: Any
    path: str
    values: Mapping[str, Any]

    def states(self, attribute: str) -> bool:
        """Say whether the spec states the attribute, be it readable or not."""
        return attribute in self.values

    def get(self, attribute: str, default: Any = None) -> Any:
        """Return the attribute's value: ``default`` where the spec states none, None where it could not be read."""
        value = self.values.get(attribute, default)
        return None if value is UNREADABLE else value


def segment(key: object) -> str:
    """Return a key as part of a path: as it is, or quoted and cut where it would garble a message."""
    if isinstance(key, str) and key.isprintable() and 0 < len(key) <= _LONGEST_SEGMENT:
        return str.__str__(key)
    return show(key)


def draft_record(record: Any, raw: object, path: str, problems: Problems, name: str | None = None) -> Any:
    """Return the draft of a record, or UNREADABLE for what is not a dictionary. A null is as good as no key."""
    if not isinstance(raw, Mapping):
        problems.add(path, f"must be a dictionary, not {type_name(raw)}")
        return UNREADABLE
    values: dict[str, Any] = {} if name is None else {"name": name}
    prefix = f"{path}." if path else ""
    unread = {key for key, value in raw.items() if value is not None}
    missing = []
    for field in fields_of(record):
        if field.key not in unread:
            if field.required:
                missing.append(field)
            continue
        unread.discard(field.key)
        values[field.attribute] = draft_value(field.kind, raw[field.key], f"{prefix}{field.key}", problems)
    meant = _unknown_keys(record, unread, prefix, problems) if unread else set()
    for field in missing:
        if field.key not in meant:
            problems.add(f"{prefix}{field.key}", _missing(field.kind))
    draft = Draft(record, path, values)
    _check_only_with(draft, prefix, problems)
    return draft


def draft_value(kind: Kind, raw: object, path: str, problems: Problems) -> Any:
    """Return what ``raw`` is in the model (records as drafts), or UNREADABLE."""
    if isinstance(kind, Record):
        return draft_record(kind.type, raw, path, problems)
    if isinstance(kind, ListOf):
        return _list(kind, raw, path, problems)
    if isinstance(kind, Named):
        return _named(kind, raw, path, problems)
    if isinstance(kind, Pairs):
        return _pairs(kind, raw, path, problems)
    if isinstance(kind, Preset):
        return _preset(kind, raw, path, problems)
    if isinstance(kind, Severities):
        return _severities(kind, raw, path, problems)
    return _scalar(cast("Scalar", kind), raw, path, problems)


def finished(value: Any) -> Any:
    """Return the records that drafts without problems stand for; lists become tuples, sorted names a tuple too."""
    if isinstance(value, Draft):
        record = getattr(value.type, "becomes", value.type)
        return record(**{attribute: finished(item) for attribute, item in value.values.items()})
    if isinstance(value, list):
        return tuple([finished(item) for item in value])
    if isinstance(value, dict):
        return tuple([finished(value[name]) for name in sorted(value)])
    return value


def _scalar(kind: Scalar, raw: object, path: str, problems: Problems) -> Any:
    try:
        return kind.convert(raw)
    except KindError as error:
        problems.add(path, str(error))
        return UNREADABLE


def _list(kind: ListOf, raw: object, path: str, problems: Problems) -> Any:
    if not isinstance(raw, (list, tuple)):
        if kind.or_one:
            value = draft_value(kind.item, raw, path, problems)
            return UNREADABLE if value is UNREADABLE else [value]
        problems.add(path, f"must be a list, not {type_name(raw)}")
        return UNREADABLE
    if len(raw) < kind.minimum:
        problems.add(path, kind.empty)
        return UNREADABLE
    return [draft_value(kind.item, item, f"{path}[{index}]", problems) for index, item in enumerate(raw)]


def _named(kind: Named, raw: object, path: str, problems: Problems) -> Any:
    if not isinstance(raw, Mapping):
        problems.add(path, f"must be a dictionary of names, not {type_name(raw)}")
        return UNREADABLE
    drafts: dict[str, Any] = {}
    for key, item in raw.items():
        if item is None:
            continue
        entry = f"{path}.{segment(key)}"
        name = _scalar(kind.name, key, entry, problems)
        if name is UNREADABLE:
            name = segment(key)
        drafts[name] = draft_record(kind.type, item, entry, problems, name)
    if len(drafts) < kind.minimum:
        problems.add(path, f"needs at least one {kind.what}")
    return drafts


def _pairs(kind: Pairs, raw: object, path: str, problems: Problems) -> Any:
    if not isinstance(raw, Mapping):
        problems.add(path, f"must be a dictionary, not {type_name(raw)}")
        return UNREADABLE
    pairs: dict[Any, Any] = {}
    for key, item in raw.items():
        if item is None:
            continue
        entry = f"{path}.{segment(key)}"
        name, value = _scalar(kind.key, key, entry, problems), _scalar(kind.value, item, entry, problems)
        if name is UNREADABLE or value is UNREADABLE:
            continue
        if name in pairs:
            problems.add(entry, f"is a {kind.what} that is there already")
        pairs[name] = value
    return tuple(sorted(pairs.items()))


def _preset(kind: Preset, raw: object, path: str, problems: Problems) -> Any:
    if isinstance(raw, Mapping):
        return draft_record(kind.type, raw, path, problems, "custom")
    if not isinstance(raw, str):
        names = ", ".join(kind.choice.choices)
        problems.add(path, f"must be one of {names} or a dictionary, not {type_name(raw)}")
        return UNREADABLE
    name = _scalar(kind.choice, raw, path, problems)
    return UNREADABLE if name is UNREADABLE else kind.named(name)


def _severities(kind: Severities, raw: object, path: str, problems: Problems) -> Any:
    if not isinstance(raw, Mapping):
        problems.add(path, f"must be a dictionary of names, not {type_name(raw)}")
        return UNREADABLE
    severities = {}
    for key, item in raw.items():
        if item is None:
            continue
        entry = f"{path}.{segment(key)}"
        try:
            severities[plain_text(key)] = kind.convert(item)
        except KindError as error:
            problems.add(entry, str(error))
    return tuple(sorted(severities.items()))


def _unknown_keys(record: Any, unread: set[Any], prefix: str, problems: Problems) -> set[str]:
    """Note the keys that are left over; return the known keys that they are probably meant to be."""
    refused = refused_keys(record)
    known = [field.key for field in fields_of(record)]
    meant = set()
    for key in sorted(unread, key=str):
        path = f"{prefix}{segment(key)}"
        if isinstance(key, str) and key in refused:
            problems.add(path, refused[key])
            continue
        near = problems.nearest(record.__name__, key, known) if isinstance(key, str) else ""
        meant.add(near)
        problems.add(path, "is not a known key" + (did_you_mean(near) or "; known are " + ", ".join(known)))
    return meant


def _check_only_with(draft: Draft, prefix: str, problems: Problems) -> None:
    """Note the keys that another key's value requires, or does not allow."""
    for field in fields_of(draft.type):
        if field.only_with is None:
            continue
        other, wanted = field.only_with
        chosen = draft.get(other)
        if chosen == wanted and not draft.states(field.attribute):
            problems.add(f"{prefix}{field.key}", f"is required for the {other} {wanted}")
        elif chosen not in (None, wanted) and draft.states(field.attribute):
            problems.add(f"{prefix}{field.key}", f"is not allowed for the {other} {chosen}")


def _missing(kind: Kind) -> str:
    if isinstance(kind, Named):
        return f"needs at least one {kind.what}"
    return kind.empty if isinstance(kind, ListOf) else "is required"
