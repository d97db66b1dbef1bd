# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The model's fields as a table, from which the parser, the schema and all documentation are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import Kind
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

SHARED = "gateway_shared"
SHARED_DOC = (
    "A layer of the same variables that lies under the others: dictionaries are merged by key, at every depth; "
    "anything else is replaced, and null removes an entry."
)
WORKSPACES = "gateway_workspaces"
WORKSPACES_DOC = (
    "Layers of the same variables by the name of a workspace. That of C(gateway_workspace) lies over the variables and "
    "is merged with them as they are with C(gateway_shared); the others are not used."
)
#: The layers of a specification, with what they are.
LAYERS = {SHARED: SHARED_DOC, WORKSPACES: WORKSPACES_DOC}


@dataclass(frozen=True)
class SpecField:
    """A key of the spec: where its value goes (``attribute``) and what it may be.

    ``default`` is the value in the model, not in the notation of the spec; it is None where ``required`` is set.
    """

    attribute: str
    key: str
    kind: Kind
    doc: str
    default: Any
    required: bool
    only_with: tuple[str, str] | None


@cache
def fields_of(record: Hashable) -> tuple[SpecField, ...]:
    """Return the fields of a dataclass of the model that a spec states, in their order."""
    table = []
    for item in dataclasses.fields(cast("type[Any]", record)):
        if "kind" not in item.metadata:
            continue
        required = item.default is dataclasses.MISSING
        table.append(
            SpecField(
                attribute=item.name,
                key=item.metadata["key"] or item.name,
                kind=item.metadata["kind"],
                doc=item.metadata["doc"],
                default=None if required else item.default,
                required=required,
                only_with=item.metadata["only_with"],
            )
        )
    return tuple(table)


def refused_keys(record: Any) -> Mapping[str, str]:
    """Return the keys that are known and refused, each with what to say of it."""
    refused: Mapping[str, str] = getattr(record, "refused", {})
    return refused


def one_of(record: Any) -> tuple[str, ...]:
    """Return the keys of which at least one is stated; none where that does not matter."""
    keys: tuple[str, ...] = getattr(record, "one_of", ())
    return keys


def variables() -> tuple[SpecField, ...]:
    """Return the variables of the spec, without the layers."""
    return fields_of(Spec)
