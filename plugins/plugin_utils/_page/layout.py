# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where each part of the picture goes. Lengths are units of the picture, pixels at its full size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.topology import Edge, Node, Topology

WIDTH = 232
HEIGHT = 44
_BETWEEN_COLUMNS = 112
_BETWEEN_BOXES = 12
#: Room for the names of the columns, and for what is drawn around a box.
_TOP = 34
_MARGIN = 6


@dataclass(frozen=True)
class Box:
    """A node at its place; ``x`` and ``y`` are those of the upper left corner."""

    node: Node
    x: float
    y: float

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y + HEIGHT

    @property
    def right(self) -> float:
        """The right edge."""
        return self.x + WIDTH


@dataclass(frozen=True)
class Wire:
    """An edge at its place: from the right side of a box to the left side of another."""

    edge: Edge
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Layout:
    """The picture."""

    width: float
    height: float
    columns: tuple[float, ...]
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]


def place(topology: Topology) -> Layout:
    """Give every node a box of its own, columns side by side and centred, and every edge its two ends."""
    lefts = tuple(_MARGIN + number * (WIDTH + _BETWEEN_COLUMNS) for number in range(len(topology.columns)))
    tallest = max(map(_tall, topology.columns))
    boxes = []
    for left, column in zip(lefts, topology.columns, strict=True):
        y = _TOP + (tallest - _tall(column)) / 2
        for node in column:
            boxes.append(Box(node, left, y))
            y += HEIGHT + _BETWEEN_BOXES
    return Layout(
        width=lefts[-1] + WIDTH + _MARGIN,
        height=_TOP + tallest + _MARGIN,
        columns=lefts,
        boxes=tuple(boxes),
        wires=tuple(_wires(topology.edges, {box.node.id: box for box in boxes})),
    )


def _tall(column: tuple[Node, ...]) -> int:
    return max(0, len(column) * (HEIGHT + _BETWEEN_BOXES) - _BETWEEN_BOXES)


def _wires(edges: Iterable[Edge], boxes: dict[str, Box]) -> Iterable[Wire]:
    """Spread the ends of edges over the sides of the boxes, in the order of where they lead to."""
    leaving: dict[str, list[Edge]] = defaultdict(list)
    arriving: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        leaving[edge.source].append(edge)
        arriving[edge.target].append(edge)
    begins, ends = {}, {}
    for name, found in leaving.items():
        found.sort(key=lambda edge: (boxes[edge.target].y, edge.fallback))
        begins.update({edge: _port(boxes[name], number, len(found)) for number, edge in enumerate(found)})
    for name, found in arriving.items():
        found.sort(key=lambda edge: (boxes[edge.source].y, edge.fallback))
        ends.update({edge: _port(boxes[name], number, len(found)) for number, edge in enumerate(found)})
    for edge in edges:
        yield Wire(edge, boxes[edge.source].right, begins[edge], boxes[edge.target].x, ends[edge])


def _port(box: Box, number: int, of: int) -> float:
    return round(box.y + HEIGHT * (number + 1) / (of + 1), 1)
