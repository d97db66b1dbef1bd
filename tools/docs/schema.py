"""The JSON Schemas of the spec, for editors: what can be said of a file without looking at other places of it.

What only shows between places (references, duplicates, sockets, ranges of quantities) is the parser's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.jwks import Jwks
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    SEVERITIES,
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
    Scalar,
    Severities,
    SourceKind,
    Text,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.moments import Moment
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.policy_rules import RULE_NAME, Severity
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import render_value
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import (
    LAYERS,
    SHARED,
    WORKSPACES,
    SpecField,
    fields_of,
    one_of,
    variables,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import Url
from tools.docs.text import plain

_TEMPLATE = r"\{\{"
_NULL = {"type": "null"}


@dataclass(frozen=True)
class Flavour:
    """Which files a schema is for: ``complete`` where each entry has the keys that are required of it."""

    title: str
    description: str
    complete: bool


FILE = Flavour(
    "Variables of gatewayops.openai",
    "A file of variables (group_vars, host_vars) with gateway_* variables, and any others.",
    complete=True,
)
LAYER = Flavour(
    "Variables of gatewayops.openai, as a layer",
    "A file of variables whose entries complete or change those of another layer: no key is required.",
    complete=False,
)


def schema_text(flavour: Flavour) -> str:
    """Return the schema as it is written to a file."""
    return json.dumps(schema(flavour), indent=2, ensure_ascii=False) + "\n"


def schema(flavour: Flavour) -> dict[str, Any]:
    """Return the schema, of JSON Schema 2020-12."""
    definitions: dict[str, Any] = {"template": {"type": "string", "pattern": _TEMPLATE}}
    properties = {field.key: _property(field, flavour, definitions) for field in variables()}

    references = {key: {"$ref": f"#/properties/{key}"} for key in properties}
    layer: dict[str, Any] = {"type": ["object", "null"], "properties": references, "additionalProperties": False}
    workspaces = {"type": ["object", "null"], "additionalProperties": layer}
    layers: dict[str, dict[str, Any]] = {SHARED: layer, WORKSPACES: workspaces}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": flavour.title,
        "description": flavour.description,
        "type": "object",
        "properties": {
            **properties,
            **{name: {"description": plain(LAYERS[name]), **each} for name, each in layers.items()},
        },
        "additionalProperties": True,
        "$defs": dict(sorted(definitions.items())),
    }


def _property(field: SpecField, flavour: Flavour, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a key. A null is as good as no key, so it is allowed where the key is not required."""
    schema = _value(field.kind, flavour, definitions)
    if not field.required or isinstance(field.kind, Named) or not flavour.complete:
        schema = _or_null(schema)
    described: dict[str, Any] = {"description": plain(field.doc), **schema}
    if field.default is not None and not isinstance(field.kind, (Record, Named, Pairs, Severities)):
        described["default"] = _default(field)
    return described


def _default(field: SpecField) -> Any:
    if isinstance(field.kind, Preset):
        return field.default.name
    return render_value(field.kind, field.default)


def _value(kind: Kind, flavour: Flavour, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value, which may be a template instead."""
    if isinstance(kind, Scalar):
        return _scalar(kind)
    return {"anyOf": [*_containers(kind, flavour, definitions), {"$ref": "#/$defs/template"}]}


def _containers(kind: Kind, flavour: Flavour, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(kind, Record):
        return [_record(kind.type, flavour, definitions)]
    if isinstance(kind, Preset):
        return [{"enum": list(kind.choice.choices)}, _record(kind.type, flavour, definitions)]
    if isinstance(kind, ListOf):
        item = _value(kind.item, flavour, definitions)
        items = {"type": "array", "items": item, **({"minItems": kind.minimum} if kind.minimum else {})}
        return [item, items] if kind.or_one else [items]
    if isinstance(kind, Named):
        names = _names(kind.name)
        entry = _or_null(_value(Record(kind.type), flavour, definitions))
        return [{"type": "object", "propertyNames": names, "additionalProperties": entry}]
    if isinstance(kind, Pairs):
        return [
            {
                "type": "object",
                "propertyNames": _scalar(kind.key),
                "additionalProperties": _or_null(_scalar(kind.value)),
            }
        ]
    if isinstance(kind, Severities):
        severity = {"anyOf": [{"enum": [*SEVERITIES, False, None]}, {"$ref": "#/$defs/template"}]}
        rules = {rule.name: {"description": plain(rule.doc), "default": rule.severity, **severity} for rule in RULES}
        # The others are rules of one's own, which may be in another file.
        names = _names(RULE_NAME)
        return [{"type": "object", "propertyNames": names, "properties": rules, "additionalProperties": severity}]
    raise TypeError(f"no schema for {kind}")


def _names(kind: Text | Choice) -> dict[str, Any]:
    if isinstance(kind, Choice):
        return {"enum": list(kind.choices)}
    return {"pattern": kind.pattern, "maxLength": kind.max_length}


def _record(record: Any, flavour: Flavour, definitions: dict[str, Any]) -> dict[str, Any]:
    name = record.__name__.lower()
    if name not in definitions:
        fields = fields_of(record)
        definition: dict[str, Any] = {
            "type": "object",
            "properties": {field.key: _property(field, flavour, definitions) for field in fields},
            "additionalProperties": False,
        }
        if flavour.complete:
            required = [field.key for field in fields if field.required]
            conditions = [condition for field in fields for condition in _conditions(field)]
            definition.update({"required": required} if required else {})
            definition.update({"allOf": conditions} if conditions else {})
            stated = [{"required": [key], "properties": {key: {"not": _NULL}}} for key in one_of(record)]
            definition.update({"anyOf": stated} if stated else {})
        definitions[name] = definition
    return {"$ref": f"#/$defs/{name}"}


def _conditions(field: SpecField) -> list[dict[str, Any]]:
    """Say of a key that belongs to a value of another one that it is there, or not there."""
    if field.only_with is None:
        return []
    other, value = field.only_with
    there = {"required": [field.key], "properties": {field.key: {"not": _NULL}}}
    chosen = {"required": [other], "properties": {other: {"const": value}}}
    # A template may become either.
    unknown = {"properties": {other: {"type": "string", "pattern": _TEMPLATE}}}
    return [
        {"if": chosen, "then": there},
        {"if": {"not": {"anyOf": [chosen, unknown]}}, "then": {"properties": {field.key: _NULL}}},
    ]


def _scalar(kind: Scalar) -> dict[str, Any]:
    if isinstance(kind, Choice):
        words = [*kind.choices, *([False] if isinstance(kind, Severity) else [])]
        return {"anyOf": [{"enum": words}, {"$ref": "#/$defs/template"}]}
    if isinstance(kind, Flag):
        return {"type": ["boolean", "string"], "pattern": f"^([Tt]rue|[Ff]alse)$|{_TEMPLATE}"}
    if isinstance(kind, Integer):
        bounds = {"minimum": kind.minimum, "maximum": kind.maximum}
        return {"type": ["integer", "string"], **bounds, "pattern": f"^[0-9]{{1,15}}$|{_TEMPLATE}"}
    if isinstance(kind, Number):
        digits = r"^[0-9]{1,15}(\.[0-9]{1,15})?$"
        return {"type": ["number", "string"], "minimum": 0, "maximum": 1e15, "pattern": f"{digits}|{_TEMPLATE}"}
    if isinstance(kind, Address):
        return {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}, {"pattern": _TEMPLATE}]}
    if isinstance(kind, (Text, Quantity, SourceKind, Moment, Url, Jwks)):
        return {"type": "string", "pattern": f"{kind.pattern}|{_TEMPLATE}"}
    raise TypeError(f"no schema for {kind}")


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        schema = {**schema, "type": [*types, "null"]}
        # Formats and patterns say nothing about null, but one of several must hold.
        return {**schema, "anyOf": [*schema["anyOf"], _NULL]} if "anyOf" in schema else schema
    return {**schema, "anyOf": [*schema["anyOf"], _NULL]}
