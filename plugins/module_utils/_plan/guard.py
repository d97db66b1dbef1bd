# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a run from taking away what was not meant: protected resources, a cap on removals, workspaces. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: The resource that names the workspace of a host.
WORKSPACE = "gateway_workspace"


@dataclass(frozen=True)
class Guard:
    """How much one run may remove: `most` resources, `percent` of those that are served; None for any number.

    `replaces` is the workspace whose hosts may become those of another.
    """

    most: int | None = None
    percent: int | None = None
    replaces: str | None = None


def removed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses of the named resources that are in `before` and no longer in `after`."""
    return tuple(sorted(address for address in before if address not in after and _is_named(address)))


def refusals(before: Mapping[str, Any], after: Mapping[str, Any], guard: Guard) -> tuple[str, ...]:
    """Why the step from the resources `before` to those `after` is not taken; empty when nothing is against it."""
    return (*_of_another(before, after, guard), *_refusals(before, removed(before, after), guard))


def _of_another(before: Mapping[str, Any], after: Mapping[str, Any], guard: Guard) -> Iterator[str]:
    serves, wanted = (each.get(WORKSPACE, {}).get("name") for each in (before, after))
    if serves not in (None, wanted, guard.replaces):
        this = f"this is '{wanted}'" if wanted else "this is none"
        yield f"the host serves the workspace '{serves}', {this}; gateway_workspace_replaces={serves} would allow it"


def _refusals(before: Mapping[str, Any], gone: tuple[str, ...], guard: Guard) -> Iterator[str]:
    for address in gone:
        if before[address].get("protected"):
            yield f"{address} is protected; take `protected` from it in a change of its own, then remove it"
    total = sum(map(_is_named, before))
    if guard.most is not None and len(gone) > guard.most:
        yield f"{len(gone)} resources would be removed, and gateway_removals_max is {guard.most}"
    if guard.percent is not None and total and len(gone) * 100 > guard.percent * total:
        share = f"{len(gone)} of {total} resources would be removed"
        yield f"{share}, and gateway_removals_max_percent is {guard.percent}"


def _is_named(address: str) -> bool:
    """Settings such as `gateway_size` are not removed, they go back to their defaults."""
    return "." in address
