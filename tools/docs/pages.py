"""docs/spec.md: the reference of the spec, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.endpoints import ENDPOINTS
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Choice,
    ListOf,
    Named,
    Preset,
    Quantity,
    Record,
    Text,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Timeouts
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import FORMS
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import render_value
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.sizes import SIZES, Size
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import (
    LAYERS,
    SpecField,
    fields_of,
    refused_keys,
    variables,
)
from tools.docs.arguments import host_options, role_defaults, store_options
from tools.docs.text import default_of, markdown, requirement, type_of

_HERE = Path(__file__).resolve().parent


def spec_page(root: Path) -> str:
    """Return docs/spec.md: spec.md.in with the tables in their places."""
    defaults = role_defaults(root)
    examples = root / "docs" / "examples"
    parts = {
        "variables": _table(("Variable", "What", "Default"), _variables()),
        "keys": "\n\n".join(section for field in variables() for section in _section(field)),
        "endpoints": _table(("Endpoint", "Methods", "Path below `/v1/`"), _endpoints()),
        "quantities": _table(("Of", "Units", "From", "To", "Example"), _quantities()),
        **{f"{scheme} form": form.replace("|", "\\|") for scheme, form in FORMS.items()},
        "policies": _table(("Policy", "Default", "It is broken when"), _policies()),
        "later": "\n".join(f"- `{path}`" for path in _later()),
        "host": _table(("Variable", "Type", "Default", "What"), _options(host_options(), defaults)),
        "vault": _table(("Variable", "Type", "Default", "What"), _options(store_options(), defaults)),
        **{f"example {path.stem}": _code(path) for path in sorted(examples.glob("*.yml"))},
    }
    text = (_HERE / "spec.md.in").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"@@{name}@@", part)
    return text


def _variables() -> Iterator[tuple[str, ...]]:
    for field in variables():
        default = default_of(field)
        name = f"[`{field.key}`](#{field.key})" if any(_section(field)) else f"`{field.key}`"
        yield (name, markdown(field.doc), f"`{default}`" if default else "")
    yield from ((f"`{name}`", markdown(doc), "") for name, doc in LAYERS.items())


def _section(field: SpecField) -> Iterator[str]:
    """Yield the section of a variable that has keys."""
    record = getattr(field.kind, "type", None)
    if record is None:
        return
    yield f"### {field.key}\n\n{markdown(field.doc)}"
    if isinstance(field.kind, Named):
        yield _name_of(field.kind.name)
    if isinstance(field.kind, Preset):
        rows = [(f"`{size.name}`", *(_rendered(size, key) for key in fields_of(record))) for size in SIZES]
        yield _table(("Name", *(f"`{key.key}`" for key in fields_of(record))), iter(rows))
    yield _table(("Key", "Type", "Default", "What"), _keys(record, ""))


def _name_of(kind: Text | Choice) -> str:
    if isinstance(kind, Choice):
        return "A name is " + markdown(type_of(kind)) + "."
    return f"A name is {kind.form.replace('a name of', 'made of')}. It has {kind.max_length} characters at most."


def _rendered(record: Any, field: SpecField) -> str:
    return f"`{render_value(field.kind, getattr(record, field.attribute))}`"


def _keys(record: Any, prefix: str) -> Iterator[tuple[str, ...]]:
    for field in fields_of(record):
        inner = field.kind.item if isinstance(field.kind, ListOf) else field.kind
        path = prefix + field.key + ("[]" if inner is not field.kind and isinstance(inner, Record) else "")
        default = default_of(field)
        what = " ".join(filter(None, (field.doc, requirement(field))))
        yield (f"`{path}`", markdown(type_of(field.kind)), f"`{default}`" if default else "", markdown(what))
        if isinstance(inner, (Record, Named)):
            yield from _keys(inner.type, f"{path}.*." if isinstance(inner, Named) else f"{path}.")


def _policies() -> Iterator[tuple[str, ...]]:
    for rule in RULES:
        yield (f"`{rule.name}`", f"`{rule.severity}`", markdown(rule.doc))


def _endpoints() -> Iterator[tuple[str, ...]]:
    for name, paths in ENDPOINTS.items():
        for index, (methods, path) in enumerate(paths):
            yield ("" if index else f"`{name}`", methods, f"`{path.replace('*', 'ID')}`")


def _quantities() -> Iterator[tuple[str, ...]]:
    kinds = {field.key: field.kind for record in (Timeouts, Size) for field in fields_of(record)}
    rows = (("time", "idle"), ("memory, in powers of 1024", "memory_max"), ("processors, in parts of one", "cpu_quota"))
    for what, key in rows:
        kind = kinds[key]
        assert isinstance(kind, Quantity)
        units = ", ".join(f"`{suffix}`" for suffix, _size in kind.units)
        yield (what, units, *(f"`{bound}`" for bound in kind.bounds), f"`{kind.example}`")


def _later() -> Iterator[str]:
    """Yield the keys of later releases."""
    for field in variables():
        record = getattr(field.kind, "type", None)
        for inner in fields_of(record) if record else ():
            yield from _refused(inner, f"{field.key}.*.")


def _refused(field: SpecField, prefix: str) -> Iterator[str]:
    if isinstance(field.kind, (Record, Named)):
        path = prefix + field.key + (".*." if isinstance(field.kind, Named) else ".")
        yield from (path + key for key in refused_keys(field.kind.type))
        for inner in fields_of(field.kind.type):
            yield from _refused(inner, path)


def _options(options: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, option in options.items():
        texts = option["description"] if isinstance(option["description"], list) else [option["description"]]
        type_ = ", ".join(f"`{choice}`" for choice in option["choices"]) if "choices" in option else option["type"]
        default = defaults.get(name, option.get("default"))
        yield (f"`{name}`", type_, "" if default is None else markdown(f"`{default}`"), markdown(" ".join(texts)))


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _code(path: Path) -> str:
    """Return an example as code, without the start of the document."""
    return "```yaml\n" + path.read_text(encoding="utf-8").removeprefix("---\n") + "```"
