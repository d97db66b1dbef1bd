"""Words for the kinds of value, and Ansible's markup turned into what other readers understand."""

from __future__ import annotations

import re

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.jwks import Jwks
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Address,
    Choice,
    Flag,
    Integer,
    Kind,
    ListOf,
    Named,
    Number,
    Pairs,
    Preset,
    Quantity,
    Record,
    Severities,
    SourceKind,
    Text,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.moments import Moment
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import render_value
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import SpecField
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import Url

_MARKUP = re.compile(r"\b[CVOM]\(([^()#]*)(?:#role)?\)")


def plain(text: str) -> str:
    """Return a text without Ansible's markup."""
    return _MARKUP.sub(r"\1", text)


def markdown(text: str) -> str:
    """Return a text with Ansible's markup as Markdown's, fit for a cell of a table."""
    return _MARKUP.sub(r"`\1`", text).replace("|", r"\|")


def type_of(kind: Kind) -> str:
    """Name a kind in a few words."""
    if isinstance(kind, Choice):
        return "one of " + ", ".join(f"V({choice})" for choice in kind.choices)
    if isinstance(kind, Integer):
        return f"integer, {kind.minimum} to {kind.maximum}"
    if isinstance(kind, Quantity):
        return f"quantity such as V({kind.example})"
    if isinstance(kind, ListOf):
        item = type_of(kind.item)
        return f"{item}, or a list of them" if kind.or_one else f"list ({item})"
    if isinstance(kind, Preset):
        return type_of(kind.choice) + ", or a dictionary"
    names: tuple[tuple[type[Kind], str], ...] = (
        (Text, "string"),
        (Number, "number"),
        (Flag, "boolean"),
        (Moment, "time"),
        (Address, "IP address"),
        (SourceKind, "source"),
        (Url, "URL"),
        (Jwks, "URL or source"),
        (Named, "dictionary of names"),
        (Severities, "dictionary of names"),
        (Pairs, "dictionary of strings"),
        (Record, "dictionary"),
    )
    return next(name for type_, name in names if isinstance(kind, type_))


def default_of(field: SpecField) -> str:
    """Return a field's default in the notation of a spec, or an empty string where it has none to show."""
    if field.default is None or isinstance(field.kind, (Record, Named, Pairs, Severities)):
        return ""
    if isinstance(field.kind, Preset):
        return str(field.default.name)
    value = render_value(field.kind, field.default)
    if isinstance(field.kind, Flag):
        return str(value).lower()
    return "" if value == [] else str(value)


def requirement(field: SpecField) -> str:
    """Say when a key has to be there, or an empty string where it never has to."""
    if field.only_with is not None:
        other, value = field.only_with
        return f"Required for the {other} V({value}), not allowed for others."
    return "Required." if field.required else ""
