# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where in the files of an inventory something stands, as Ansible remembers it of what it read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import SHARED, WORKSPACES
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.model import Where

_WORKSPACE = "gateway_workspace"

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # before ansible-core 2.19
    Origin = None


def where(path: str, variables: Mapping[str, Any]) -> Where | None:
    """Return where the place ``path`` of a spec stands, or the next one around it; None when Ansible does not say.

    ``variables`` are a host's, not rendered. What a template makes stands where the template does.
    """
    layers = variables.get(WORKSPACES)
    workspace = variables.get(_WORKSPACE)
    over = layers.get(workspace) if isinstance(layers, Mapping) and isinstance(workspace, str) else None
    candidates = [
        _walk(path, layer) for layer in (over, variables, variables.get(SHARED)) if isinstance(layer, Mapping)
    ]
    # The layer above goes first where several have it.
    return max(candidates, key=lambda found: found[0])[1]


def _walk(path: str, variables: Mapping[str, Any]) -> tuple[int, Where | None]:
    """Return how far down the path the variables have it, and the place of the last part that is there."""
    value: Any = variables
    rest, depth, found = path, 0, None
    while rest:
        step = _step(value, rest)
        if step is None:
            break
        entry, value, rest = step
        # The name of a variable is remembered from where it was written first, whoever set it last.
        entry = entry if depth else [value]
        depth += 1
        found = next((place for place in map(_origin, entry) if place is not None), found)
    return depth, found


def _step(value: Any, rest: str) -> tuple[Iterable[Any], Any, str] | None:
    """Return what has the place of the next part of a path, its value, and the rest of the path."""
    if rest.startswith("["):
        index, _bracket, after = rest[1:].partition("]")
        if isinstance(value, list) and index.isdecimal() and int(index) < len(value):
            item = value[int(index)]
            return [item], item, after.removeprefix(".")
        return None
    if not isinstance(value, Mapping):
        return None
    # Names have dots, too.
    keys = [key for key in value if isinstance(key, str) and _leads(key, rest)]
    if not keys:
        return None
    key = max(keys, key=len)
    return [key, value[key]], value[key], rest[len(key) :].removeprefix(".")


def _leads(key: str, rest: str) -> bool:
    return rest.startswith(key) and (len(rest) == len(key) or rest[len(key)] in ".[")


def _origin(value: Any) -> Where | None:
    if Origin is None:
        position = getattr(value, "ansible_pos", None)
        return Where(str(position[0]), position[1], position[2]) if position and position[0] else None
    tag = Origin.get_tag(value)
    if tag is None or tag.path is None:
        return None
    return Where(str(tag.path), tag.line_num or 0, tag.col_num or 0)
