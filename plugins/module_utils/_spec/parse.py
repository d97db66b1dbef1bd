# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parse the variables of the role into a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.checks import check_draft
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.draft import Draft, draft_record, finished
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import type_name
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.problems import Problems
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import SHARED

# The deepest key of a spec has five dictionaries above it. YAML anchors can make a dictionary that contains itself.
_DEEPEST_MERGE = 8


def parse_spec(raw: Mapping[str, Any]) -> Spec:
    """Parse ``raw``, a dictionary from variables' names (``gateway_models``, …) to what Ansible made of them.

    ``gateway_shared`` holds a layer of the same variables under the others. Values may be Ansible's tagged strings
    and numbers; the result has plain ones. Raises :class:`SpecError` with everything that is wrong.
    """
    problems = Problems()
    draft = draft_record(Spec, _layered(raw, problems), "", problems)
    if isinstance(draft, Draft):
        check_draft(draft, problems)
    if problems:
        raise SpecError(problems.sorted())
    spec: Spec = finished(draft)
    return spec


def _layered(raw: Mapping[str, Any], problems: Problems) -> Mapping[str, Any]:
    """Return ``raw`` laid over its shared layer."""
    shared = raw.get(SHARED)
    over = {key: value for key, value in raw.items() if key != SHARED}
    if shared is None:
        return over
    if not isinstance(shared, Mapping):
        problems.add(SHARED, f"must be a dictionary, not {type_name(shared)}")
        return over
    return merged(shared, over)


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
