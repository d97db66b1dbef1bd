# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan as a page: one file, which asks nobody for anything and is complete without its script.

What comes from specifications and hosts is escaped by Jinja, and by markupsafe in the picture. Should it ever not be,
the page's own policy (CSP) still runs no script and loads no style but those whose digests it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import (
    CREATE,
    DELETE,
    UPDATE,
    ResourceChange,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, Group, several
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.risk import HIGH, LEVELS, LOW, Risk, risk_of
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.terminal import notes
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page import drawing
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.costs import (
    EXAMPLE_INPUT,
    EXAMPLE_OUTPUT,
    Costs,
    costs,
    money,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.fields import Field, fields_of
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.layout import place
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.topology import topology

_HERE = Path(__file__).parent
#: So many changes of a group are open when the page is opened.
_OPEN = 12
#: Beyond so many changes of a plan, a new or removed resource is named without its fields.
_IN_FULL = 1000


@dataclass(frozen=True)
class Change:
    """A resource that changes, as it is shown."""

    kind: str
    name: str
    action: str
    risk: Risk
    fields: tuple[Field, ...]
    is_open: bool


@dataclass(frozen=True)
class Warned:
    """What deserves to be looked at first; ``where`` are the hosts, '' when they are all."""

    level: str
    address: str
    reason: str
    where: str


@dataclass(frozen=True)
class Part:
    """Hosts that change alike, as they are shown."""

    key: str
    group: Group
    notes: tuple[str, ...]
    picture: Markup
    costs: Costs
    changes: tuple[Change, ...]


def render_page(plan: FleetPlan) -> str:
    """Return the plan as HTML. The same plan gives the same page."""
    style, script = _source("page.css"), _source("page.js")
    parts = tuple(_parts(plan))
    return _template().render(
        plan=plan,
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
        tally=_tally(plan),
        warned=tuple(_warned(plan)),
        changing=tuple(part for part in parts if part.group.plan.changed),
        same=tuple(part for part in parts if not part.group.plan.changed),
        findings=_findings(plan),
        example=f"{EXAMPLE_INPUT * 10**6:,f} tokens sent and {EXAMPLE_OUTPUT * 10**6:,.0f} received",
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(money=money, several=several, clock=_clock)
    environment.globals.update(SIGNS=drawing.SIGNS, WORDS=drawing.WORDS)
    return environment.get_template("page.html")


@cache
def _source(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8").strip())  # noqa: S704 - a file of ours


def _clock(time: str) -> str:
    """A time of RFC 3339 in UTC as it is read: `2026-11-24 12:00 UTC`."""
    return f"{time[:10]} {time[11:16]} UTC"


def _digest(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _tally(plan: FleetPlan) -> tuple[tuple[str, int, str], ...]:
    """The figures below the headline: what becomes of how many resources."""
    words = {CREATE: "to add", UPDATE: "to change", DELETE: "to remove"}
    return tuple((action, plan.count(action), word) for action, word in words.items())


def _warned(plan: FleetPlan) -> Iterator[Warned]:
    found: list[Warned] = []
    for group in plan.changing:
        where = "" if len(plan.groups) == 1 else group.title
        for name, count in group.plan.in_use.items():
            text = f"it sent {several(count, 'request')} within the last hour and is removed"
            found.append(Warned(HIGH, f"gateway_consumers.{name}", text, where))
        for change in group.plan.changes:
            risk = risk_of(change)
            if risk.reason:
                found.append(Warned(risk.level, change.address, risk.reason, where))
    return iter(sorted(found, key=lambda each: LEVELS.index(each.level)))


def _parts(plan: FleetPlan) -> Iterator[Part]:
    room = _IN_FULL
    for key, group in ((f"g{number}", group) for number, group in enumerate(plan.groups, start=1)):
        before, after = group.plan.before, group.plan.after
        graph = topology(before, after)
        changes = sorted(
            ((risk_of(change), change) for change in group.plan.changes), key=lambda pair: LEVELS.index(pair[0].level)
        )
        yield Part(
            key=key,
            group=group,
            notes=tuple(notes(group.plan)),
            picture=drawing.draw(graph, place(graph), key),
            costs=costs(before, after),
            changes=tuple(_change(change, risk, number, room) for number, (risk, change) in enumerate(changes)),
        )
        room -= len(changes)


def _change(change: ResourceChange, risk: Risk, number: int, room: int) -> Change:
    kind, _dot, name = change.address.partition(".")
    in_full = number < room or change.action == UPDATE
    return Change(
        kind=kind,
        name=name,
        action=change.action,
        risk=risk,
        fields=fields_of(change) if in_full else (),
        is_open=number < _OPEN and (change.action == UPDATE or risk.level != LOW),
    )


def _findings(plan: FleetPlan) -> tuple[Mapping[str, str], ...]:
    """Where policies warn, each place once."""
    found = {(each["path"], each["rule"]): each for group in plan.groups for each in group.plan.findings}
    return tuple(found.values())
