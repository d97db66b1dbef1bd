# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan for a pull request, in GitHub's and GitLab's Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import ResourceChange, render_changes
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, Group, several
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.promotion import Promotion
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.risk import HIGH, LEVELS, MEDIUM, Risk, risk_of
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.terminal import notes

#: GitHub takes a comment of 65,536 characters; a plan that is longer ends where the others begin to matter less.
LONGEST = 60000
#: So many warnings of policies are told, and so many hosts of which nothing is known.
_LISTED = 50
#: A host tells all that is wrong with its specification; so many letters of it are shown.
_WHY = 300
_MARKS = {HIGH: "🔴", MEDIUM: "🟠"}


def render_markdown(plan: FleetPlan) -> str:
    """Return the plan as a comment: the summary, then what changes, what takes something away first."""
    head = [f"### {plan.summary}", "", _origin(plan), ""]
    body = [block for group in plan.changing for block in _group(group, alone=len(plan.groups) == 1)]
    tail = [*_unknown(plan.unknown), *_findings(plan)]
    return "\n".join([*head, *_fitting(body, LONGEST - _length(head) - _length(tail)), *tail]).rstrip("\n") + "\n"


def _origin(plan: FleetPlan) -> str:
    commit = f", commit `{plan.commit[:12]}`" if plan.commit else ""
    other = plan.workspace not in ("", plan.environment)
    workspace = f", workspace **{_plain(plan.workspace)}**" if other else ""
    return f"Environment **{_plain(plan.environment)}**{workspace}{commit}, {plan.created_at}"


def _group(group: Group, *, alone: bool) -> Iterator[str]:
    """Yield blocks of lines: each is shown as a whole or not at all."""
    if not alone:
        yield f"#### {group.title}\n"
    yield from _changed(group.plan.changes, [_in_use(name, count) for name, count in group.plan.in_use.items()])
    others = notes(group.plan)
    if others:
        yield "\n".join(["", *(f"- {note}" for note in others), ""])


def _changed(changes: Iterable[ResourceChange], used: Sequence[str] = ()) -> Iterator[str]:
    """Yield what is risky in a list, after what is `used`, and then a block for each change, the risky ones first."""
    risks = [(risk_of(change), change) for change in changes]
    risks.sort(key=lambda pair: LEVELS.index(pair[0].level))
    risky = [(risk, change) for risk, change in risks if risk.reason]
    if risky or used:
        yield from used
        yield from (_risk(risk, change) for risk, change in risky)
        yield ""
    for change in (pair[1] for pair in risks):
        yield "\n".join(["```diff", *map(_marked, render_changes([change])), "```"])


def _risk(risk: Risk, change: ResourceChange) -> str:
    return f"- {_MARKS.get(risk.level, '')} `{change.address}`: {_plain(risk.reason)}"


def _in_use(consumer: str, requests: int) -> str:
    text = f"it sent {requests} request{'' if requests == 1 else 's'} within the last hour and is removed"
    return f"- {_MARKS[HIGH]} `gateway_consumers.{consumer}`: {text}"


def _marked(line: str) -> str:
    """A line as GitHub colours it: its sign at the beginning."""
    stripped = line.lstrip()
    if stripped[:2] in ("+ ", "- "):
        return f"{stripped[0]} {line[: -len(stripped)][2:]}{stripped[2:]}"
    return "! " + stripped[2:] if stripped.startswith("~ ") else line


def _unknown(unknown: Iterable[tuple[str, str]]) -> list[str]:
    lines = _few([f"- `{host}`: {_plain(_short(why))}" for host, why in unknown])
    return ["", "**Nothing is known of**", "", *lines] if lines else []


def _findings(plan: FleetPlan) -> list[str]:
    found = {
        f"- `{finding['path']}`: {_plain(finding['message'])} ({finding['rule']})": None
        for group in plan.groups
        for finding in group.plan.findings
    }
    if not found:
        return []
    places = several(len(found), "place")
    return ["", f"<details><summary>Policies warn in {places}</summary>", "", *_few(list(found)), "", "</details>"]


def _few(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _LISTED
    return [*lines[:_LISTED], f"- … and {more} more, see plan.json"] if more > 0 else list(lines)


def _short(text: str) -> str:
    return text if len(text) <= _WHY else text[: _WHY - 1] + "…"


def _plain(text: str) -> str:
    """Text that no Markdown is read in: names of hosts and models are other people's."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#@" else char for char in text)


def _length(lines: Iterable[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _fitting(blocks: Sequence[str], room: int, file: str = "plan.json") -> list[str]:
    shown: list[str] = []
    for index, block in enumerate(blocks):
        room -= len(block) + 1
        if room < 100:
            return [*shown, "", f"… and {len(blocks) - index} more, see {file}"]
        shown.append(block)
    return shown


def render_promotion_markdown(found: Promotion) -> str:
    """Return what a promotion would bring as a comment, and folded what is meant to differ."""
    title = f"### {_plain(found.source)} → {_plain(found.target)}: {found.summary}"
    blocks = [*_changed(found.brings)]
    if found.meant:
        lines = ["```diff", *map(_marked, render_changes(found.meant)), "```"]
        blocks.append("\n".join(["", "<details><summary>Meant to differ</summary>", "", *lines, "", "</details>"]))
    return "\n".join([title, "", *_fitting(blocks, LONGEST - len(title), "promote.json")]) + "\n"
