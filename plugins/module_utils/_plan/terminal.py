# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import render_changes
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, HostPlan

PROCESS = {
    "none": "",
    "start": "Envoy is started",
    "reload": "reload: Envoy reads its files again",
    "replace": "replace the process: another Envoy takes over, the old one is drained",
}


def render_terminal(plan: FleetPlan) -> str:
    """Return the plan as text: each group of hosts with what changes there, what is not known, and the summary."""
    lines: list[str] = []
    for group in plan.changing:
        lines += [f"{group.title}:", *render_changes(group.plan.changes), *_besides(group.plan), ""]
    same = [host for group in plan.groups if not group.plan.changed for host in group.hosts]
    if same and plan.changed:
        lines += [f"{', '.join(same)}: no changes", ""]
    if plan.unknown:
        lines += ["Nothing is known of:", *(f"  {host}: {why}" for host, why in plan.unknown), ""]
    return "\n".join([*lines, plan.summary])


def notes(plan: HostPlan) -> list[str]:
    """What changes on a host beside its resources, each in a sentence without an end."""
    found = [f"changed on the host: {what}" for what in plan.drift]
    found += [f"{what}: another one in its store" for what in plan.secrets or ()]
    what = process_note(plan.process, plan.process_why)
    return [*found, what] if what else found


def process_note(process: str, why: Sequence[str]) -> str:
    """What happens to Envoy, and why; '' when nothing does."""
    what = PROCESS.get(process, process)
    return f"{what} ({', '.join(why)})" if what and why else what


def _besides(plan: HostPlan) -> Iterator[str]:
    for note in notes(plan):
        yield f"  {note}"
