# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The picture as SVG inside the page; colours and fonts come from the page's style."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import CREATE, DELETE, UPDATE
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.layout import HEIGHT, WIDTH, Box, Layout, Wire
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.topology import COLUMNS, SAME, Node, Topology

SIGNS = {CREATE: "+", UPDATE: "~", DELETE: "−", SAME: ""}
WORDS = {CREATE: "added", UPDATE: "changed", DELETE: "removed", SAME: "unchanged"}
#: So many letters fit into a box: of a name, and of the smaller line below it.
_NAME = 24
_DETAIL = 31
#: So many connections that change have a sign each.
_SIGNED = 20
#: So many connections that change are told to those who do not see the picture.
_TOLD = 20


def draw(topology: Topology, layout: Layout, key: str) -> Markup:
    """Return the picture. ``key`` makes its ids unique in the page."""
    statuses = {node.id: node.status for node in topology.nodes}
    changed = [wire.edge for wire in layout.wires if wire.edge.status != SAME]
    # Among many the signs would hide each other, and the box at one end has the same already.
    signed = {
        edge
        for edge in changed
        if len(changed) <= _SIGNED or edge.status not in (statuses[edge.source], statuses[edge.target])
    }
    lines = [
        Markup(
            '<svg viewBox="0 0 {w:g} {h:g}" width="{w:g}" height="{h:g}" role="img"'
            ' aria-labelledby="{key}-t" aria-describedby="{key}-d">'
        ).format(w=layout.width, h=layout.height, key=key),
        Markup('<title id="{}-t">Consumers, models and providers</title>').format(key),
        Markup('<desc id="{}-d">{}</desc>').format(key, describe(topology)),
        *(_heading(topology, number, left) for number, left in enumerate(layout.columns)),
        # What changes is drawn last, over the rest.
        *(
            _wire(wire, signed=wire.edge in signed)
            for wire in sorted(layout.wires, key=lambda wire: wire.edge.status != SAME)
        ),
        *map(_box, layout.boxes),
        Markup("</svg>"),
    ]
    return Markup("\n").join(lines)


def describe(topology: Topology) -> str:
    """Return the picture in words, for those who do not see it."""
    sentences = [
        ", ".join(f"{count} {name.lower()}" for count, name in zip(topology.counts, COLUMNS, strict=True)) + "."
    ]
    for status in (DELETE, UPDATE, CREATE):
        names = [node.name for node in topology.nodes if node.status == status]
        if names:
            sentences.append(f"{WORDS[status].capitalize()}: {', '.join(names)}.")
    by_id = {node.id: node.name for node in topology.nodes}
    changed = [edge for edge in topology.edges if edge.status != SAME]
    for edge in changed[:_TOLD]:
        what = "a fallback" if edge.fallback else "a connection"
        sentences.append(f"{WORDS[edge.status].capitalize()} {what}: {by_id[edge.source]} to {by_id[edge.target]}.")
    if len(changed) > _TOLD:
        sentences.append(f"And {len(changed) - _TOLD} more connections.")
    return " ".join(sentences)


def _heading(topology: Topology, number: int, left: float) -> Markup:
    return Markup('<text class="column" x="{:g}" y="16">{} <tspan class="count">{}</tspan></text>').format(
        left, COLUMNS[number], topology.counts[number]
    )


def _wire(wire: Wire, *, signed: bool) -> Markup:
    edge = wire.edge
    bend = (wire.x2 - wire.x1) / 2
    path = Markup('<path d="M{:g} {:g}C{:g} {:g} {:g} {:g} {:g} {:g}"/>').format(
        wire.x1, wire.y1, wire.x1 + bend, wire.y1, wire.x2 - bend, wire.y2, wire.x2, wire.y2
    )
    words = ", ".join(filter(None, ("fallback" if edge.fallback else "", WORDS[edge.status], edge.detail)))
    sign = Markup("")
    if signed:
        x, y = wire.x1 + bend, (wire.y1 + wire.y2) / 2
        sign = Markup('<circle cx="{x:g}" cy="{y:g}" r="7"/><text x="{x:g}" y="{t:g}">{sign}</text>').format(
            x=x, y=y, t=y + 4, sign=SIGNS[edge.status]
        )
    return Markup('<g class="wire {}{}"><title>{}</title>{}{}</g>').format(
        edge.status, " fallback" if edge.fallback else "", words, path, sign
    )


def _box(box: Box) -> Markup:
    return Markup("").join(_box_parts(box))


def _box_parts(box: Box) -> Iterator[Markup]:
    node = box.node
    yield Markup('<g class="node {}{}"><title>{}</title>').format(
        node.status, " many" if node.members else "", _tooltip(node)
    )
    if node.members:
        yield _rect(box.x + 4, box.y + 4)
    yield _rect(box.x, box.y)
    if SIGNS[node.status]:
        yield Markup('<text class="sign" x="{:g}" y="{:g}">{}</text>').format(
            box.x + 16, box.y + HEIGHT / 2 + 6, SIGNS[node.status]
        )
    left = box.x + (30 if SIGNS[node.status] else 14)
    room = 0 if SIGNS[node.status] else 2
    detail = WORDS[node.status] if node.members else node.detail
    yield Markup('<text class="name" x="{:g}" y="{:g}">{}</text>').format(
        left, box.y + (19 if detail else 27), short(node.name, _NAME + room)
    )
    if detail:
        yield Markup('<text class="detail" x="{:g}" y="{:g}">{}</text>').format(
            left, box.y + 34, short(detail, _DETAIL + room)
        )
    yield Markup("</g>")


def _rect(x: float, y: float) -> Markup:
    return Markup('<rect x="{:g}" y="{:g}" width="{}" height="{}" rx="6"/>').format(x, y, WIDTH, HEIGHT)


def _tooltip(node: Node) -> str:
    names = ", ".join(address.partition(".")[2] for address in node.members)
    return f"{node.name}, {WORDS[node.status]}: {short(names or node.detail, 400)}".rstrip(": ")


def short(text: str, length: int) -> str:
    """Return a text that is no longer than `length`, with a sign where something was left out."""
    return text if len(text) <= length else text[: length - 1] + "…"
