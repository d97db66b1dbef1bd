# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access groups: consumers with equal patterns of models are one group, so that ten thousand cost what a few do.

A group is named by a hash of its patterns. So whether a group may use a model depends on these two names alone: old
and new configuration agree on it, which is what lets a running gateway change from one to the other in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.access import allowed_models
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec


@dataclass(frozen=True)
class Access:
    """Who may use what.

    ``members`` pairs each consumer with its group, ``models`` gives the models of each group, ``groups`` the groups
    of each model; names are sorted throughout.
    """

    members: tuple[tuple[str, str], ...]
    models: dict[str, tuple[str, ...]]
    groups: dict[str, tuple[str, ...]]


def access_of(spec: Spec) -> Access:
    """Return who may use what by ``spec``."""
    names: dict[tuple[str, ...], str] = {}
    members: list[tuple[str, str]] = []
    models: dict[str, tuple[str, ...]] = {}
    for consumer in spec.consumers:
        group = names.get(consumer.models)
        if group is None:
            group = names[consumer.models] = digest(canonical_json(sorted(set(consumer.models))))[:16]
            models[group] = allowed_models(spec, consumer)
        members.append((consumer.name, group))
    groups: dict[str, list[str]] = {model.name: [] for model in spec.models}
    for group in sorted(models):
        for name in models[group]:
            groups[name].append(group)
    return Access(tuple(members), models, {name: tuple(found) for name, found in groups.items()})
