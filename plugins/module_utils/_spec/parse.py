# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parse the variables of the role into a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.checks import check_draft
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.draft import (
    Draft,
    draft_record,
    finished,
    segment,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    KindError,
    did_you_mean,
    nearest,
    show,
    type_name,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.names import NAME
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.problems import Problems
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import LAYERS, SHARED, WORKSPACES

# The deepest key of a spec has five dictionaries above it. YAML anchors can make a dictionary that contains itself.
_DEEPEST_MERGE = 8
_WORKSPACE = "gateway_workspace"


def parse_spec(raw: Mapping[str, Any]) -> Spec:
    """Parse ``raw``, a dictionary from variables' names (``gateway_models``, …) to what Ansible made of them.

    ``gateway_shared`` holds a layer of the same variables under the others, ``gateway_workspaces`` those over them.
    Values may be Ansible's tagged strings and numbers; the result has plain ones. Raises :class:`SpecError` with
    everything that is wrong.
    """
    problems = Problems()
    draft = draft_record(Spec, layered(raw, problems), "", problems)
    if isinstance(draft, Draft):
        check_draft(draft, problems)
    if problems:
        raise SpecError(problems.sorted())
    spec: Spec = finished(draft)
    return spec


def layered(raw: Mapping[str, Any], problems: Problems) -> Mapping[str, Any]:
    """Return ``raw`` laid over its shared layer, and below the layer of its workspace.

    Raises :class:`SpecError` when it cannot be said which workspace that is: the rest would be no mistakes.
    """
    shared = raw.get(SHARED)
    over: Mapping[str, Any] = {key: value for key, value in raw.items() if key not in LAYERS}
    if shared is not None and not isinstance(shared, Mapping):
        problems.add(SHARED, f"must be a dictionary, not {type_name(shared)}")
    elif shared is not None:
        _check_layer(SHARED, shared, problems)
        over = merged(shared, over)
    layers = raw.get(WORKSPACES)
    return over if layers is None else merged(over, _layer(layers, raw.get(_WORKSPACE), problems))


def _layer(layers: object, workspace: object, problems: Problems) -> Mapping[str, Any]:
    """Return the layer of the workspace of that name."""
    if not isinstance(layers, Mapping):
        problems.add(WORKSPACES, f"must be a dictionary, not {type_name(layers)}")
        raise SpecError(problems.sorted())
    for key, each in layers.items():
        path = f"{WORKSPACES}.{segment(key)}"
        if each is not None and not isinstance(each, Mapping):
            problems.add(path, f"must be a dictionary, not {type_name(each)}")
        elif each:
            _check_layer(path, each, problems)
    layer = layers.get(_chosen(layers, workspace, problems))
    return layer if isinstance(layer, Mapping) else {}


def _check_layer(path: str, layer: Mapping[Any, Any], problems: Problems) -> None:
    if _WORKSPACE in layer:
        problems.add(f"{path}.{_WORKSPACE}", "is what chooses a layer, so it is in none; set it beside them")


def _chosen(layers: Mapping[Any, Any], workspace: object, problems: Problems) -> str:
    known = [key for key in layers if isinstance(key, str)]
    try:
        if workspace is None:
            raise KindError(f"is required, since there is {WORKSPACES}; known are {', '.join(known)}")
        name: str = NAME.convert(workspace)
        if name not in known:
            near = did_you_mean(nearest(name, known)) or f"; known are {', '.join(known)}"
            raise KindError(f"no workspace named {show(name)} in {WORKSPACES}{near}")
    except KindError as error:
        problems.add(_WORKSPACE, str(error))
        raise SpecError(problems.sorted()) from None
    return name


def merged(under: Mapping[Any, Any], over: Mapping[Any, Any], depth: int = 0) -> dict[Any, Any]:
    """Return ``under`` with ``over`` laid over it: dictionaries are merged by key, null removes, the rest replaces."""
    result = dict(under)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and depth < _DEEPEST_MERGE:
            result[key] = merged(result[key], value, depth + 1)
        else:
            result[key] = value
    return result
