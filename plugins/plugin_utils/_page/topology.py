# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may use which model, and who serves it: before, after, and what of it changes.

A column that is long is folded: what changes and what that touches stays by itself, the rest becomes one node for each
way that it changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import CREATE, DELETE, UPDATE
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.patterns import ModelNames
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.resources import named, parts, text, texts

SAME = "no-op"
#: A column shows so many by themselves.
SHOWN = 12
COLUMNS = ("Consumers", "Models", "Providers")
_CONSUMERS, _MODELS, _ENDPOINTS, _PROVIDERS = (
    "gateway_consumers",
    "gateway_models",
    "gateway_endpoints",
    "gateway_providers",
)
_COLUMN = {_CONSUMERS: 0, _MODELS: 1, _ENDPOINTS: 1, _PROVIDERS: 2}
_FIRST = (DELETE, UPDATE, CREATE, SAME)

Resources = Mapping[str, Any]
#: Where an edge begins, where it ends, and whether it is a fallback.
_Key = tuple[str, str, bool]


@dataclass(frozen=True)
class Node:
    """One thing in a column, or with ``members`` several that are folded; their addresses. ``status`` is an action."""

    id: str
    column: int
    name: str
    detail: str
    status: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """From a consumer to what it may use, or from a model to who serves it."""

    source: str
    target: str
    status: str
    fallback: bool = False
    detail: str = ""


@dataclass(frozen=True)
class Topology:
    """Nodes by column, each at its place from top to bottom, and what connects them."""

    columns: tuple[tuple[Node, ...], ...]
    edges: tuple[Edge, ...]
    counts: tuple[int, ...]

    @property
    def nodes(self) -> Iterator[Node]:
        """All of them."""
        for column in self.columns:
            yield from column


def topology(before: Resources, after: Resources, shown: int = SHOWN) -> Topology:
    """Return what the resources of a group of hosts are connected to."""
    graph = _Graph(before, after)
    folds: dict[str, Node] = {}
    for column in range(len(COLUMNS)):
        folds.update(_folded(graph, column, shown))
    edges = _merged(folds, graph)
    columns: list[list[Node]] = [[], [], []]
    for node in dict.fromkeys(folds.values()):
        columns[node.column].append(node)
    counts = tuple(sum(_column(address) == column for address in graph.statuses) for column in range(len(COLUMNS)))
    return Topology(_ordered(columns, edges), edges, counts)


class _Graph:
    """Every thing by its address, how it changes, and what is connected, on both sides."""

    def __init__(self, before: Resources, after: Resources) -> None:
        self.before, self.after = before, after
        self.statuses = {
            address: _status(before.get(address), after.get(address))
            for address in sorted({*before, *after})
            if _kind(address) in _COLUMN
        }
        self._names = tuple(ModelNames(named(side, _MODELS)) for side in (before, after))

    @cached_property
    def changing(self) -> frozenset[str]:
        return frozenset(address for address, status in self.statuses.items() if status != SAME)

    @cached_property
    def uses(self) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
        """What each consumer may use, before and after; equal ones are the same object."""
        known: dict[Any, frozenset[str]] = {}

        def used(side: int, consumer: Any) -> frozenset[str]:
            patterns, endpoints = texts(consumer, "models"), texts(consumer, "endpoints")
            key = (side, patterns, endpoints)
            if key not in known:
                models = (f"{_MODELS}.{name}" for name in self._names[side].matching_any(patterns))
                found = frozenset((*models, *(f"{_ENDPOINTS}.{name}" for name in endpoints)))
                known[key] = found.intersection(self.statuses)
            return known[key]

        return {
            address: (used(0, self.before.get(address)), used(1, self.after.get(address)))
            for address in self.statuses
            if _kind(address) == _CONSUMERS
        }

    @cached_property
    def served(self) -> dict[str, dict[tuple[str, bool], tuple[str, str]]]:
        """Who serves each model or endpoint, and whether as a fallback: what is asked for there, before and after."""
        return {
            address: _both(self._providers(self.before, address), self._providers(self.after, address))
            for address in self.statuses
            if _column(address) == 1
        }

    def _providers(self, side: Resources, address: str) -> dict[tuple[str, bool], str]:
        content = side.get(address)
        if _kind(address) == _ENDPOINTS:
            pairs = [(text(content, "provider"), False, "all requests")] if content else []
        else:
            targets = parts(content, "targets")
            pairs = [(text(each, "provider"), False, _deployment(each, len(targets) > 1)) for each in targets]
            pairs += [(text(each, "provider"), True, _deployment(each, False)) for each in parts(content, "fallbacks")]
        found: dict[tuple[str, bool], str] = {}
        for provider, fallback, detail in pairs:
            key = (f"{_PROVIDERS}.{provider}", fallback)
            if key[0] in self.statuses:
                found[key] = f"{found[key]}, {detail}" if key in found else detail
        return found

    @cached_property
    def touched(self) -> tuple[frozenset[str], frozenset[str]]:
        """What is at the end of something that changes, and what is connected to something that changes."""
        ends: set[str] = set()
        neighbours: set[str] = set()
        for consumer, (old, new) in self.uses.items():
            if differ := old ^ new:
                ends |= {consumer, *differ}
            if consumer in self.changing:
                neighbours |= old | new
            if not self.changing.isdisjoint(new) or not self.changing.isdisjoint(old):
                neighbours.add(consumer)
        for model, providers in self.served.items():
            for (provider, _fallback), (old_detail, new_detail) in providers.items():
                if old_detail != new_detail:
                    ends |= {model, provider}
                if model in self.changing:
                    neighbours.add(provider)
                if provider in self.changing:
                    neighbours.add(model)
        return frozenset(ends), frozenset(neighbours)

    def node(self, address: str) -> Node:
        kind, _dot, name = address.partition(".")
        content = self.after.get(address, self.before.get(address))
        return Node(address, _COLUMN[kind], name, _detail(kind, content), self.statuses[address])


def _kind(address: str) -> str:
    return address.partition(".")[0]


def _column(address: str) -> int:
    return _COLUMN[_kind(address)]


def _status(old: Any, new: Any) -> str:
    if old is None:
        return CREATE
    if new is None:
        return DELETE
    return SAME if old == new else UPDATE


def _both(old: Mapping[Any, str], new: Mapping[Any, str]) -> dict[Any, tuple[str, str]]:
    return {key: (old.get(key, ""), new.get(key, "")) for key in sorted({*old, *new})}


def _deployment(target: Mapping[str, Any], weighed: bool) -> str:
    weight = f", weight {target.get('weight', 1)}" if weighed else ""
    return f"{text(target, 'model')}{weight}"


def _detail(kind: str, content: Any) -> str:
    if kind == _PROVIDERS:
        return ", ".join(filter(None, (text(content, "type"), text(content, "region"))))
    if kind == _ENDPOINTS:
        return "endpoint"
    if kind == _CONSUMERS:
        return ", ".join((*texts(content, "models"), *texts(content, "endpoints")))
    return ", ".join(dict.fromkeys(text(target, "model") for target in parts(content, "targets")))


def _folded(graph: _Graph, column: int, shown: int) -> Iterator[tuple[str, Node]]:
    """Yield the node that stands for each thing of a column."""
    ends, neighbours = graph.touched

    def rank(address: str) -> tuple[Any, ...]:
        if address in graph.changing:
            # Who gains or loses a connection is what the picture is for.
            return (_FIRST.index(graph.statuses[address]) if address in ends else len(_FIRST), address)
        return (len(_FIRST) + (1 if address in ends else 2 if address in neighbours else 3), address)

    members = sorted((address for address in graph.statuses if _column(address) == column), key=rank)
    alone = members if len(members) <= shown + 1 else members[:shown]
    rest: dict[str, list[str]] = defaultdict(list)
    for address in members[len(alone) :]:
        rest[graph.statuses[address]].append(address)
    for address in alone:
        yield address, graph.node(address)
    for status in _FIRST:
        if len(rest[status]) == 1:
            yield rest[status][0], graph.node(rest[status][0])
        elif rest[status]:
            name = f"{len(rest[status])} {'more ' if alone else ''}{COLUMNS[column].lower()}"
            node = Node(f"{column}:{status}", column, name, "", status, tuple(sorted(rest[status])))
            yield from ((address, node) for address in rest[status])


def _merged(folds: Mapping[str, Node], graph: _Graph) -> tuple[Edge, ...]:
    statuses: dict[_Key, set[str]] = defaultdict(set)
    details: dict[_Key, list[str]] = defaultdict(list)
    known: dict[tuple[int, int], dict[str, set[str]]] = {}
    for consumer, sides in graph.uses.items():
        key = (id(sides[0]), id(sides[1]))
        if key not in known:
            known[key] = _targets(folds, *sides)
        for target, found in known[key].items():
            statuses[folds[consumer].id, target, False] |= found
    for model, providers in graph.served.items():
        for (provider, fallback), (old, new) in providers.items():
            edge = (folds[model].id, folds[provider].id, fallback)
            statuses[edge].add(_status(old or None, new or None))
            details[edge].append(old if old == new else f"{old or '(none)'} → {new or '(none)'}")
    return tuple(
        Edge(
            source=edge[0],
            target=edge[1],
            fallback=edge[2],
            status=_together(found),
            detail=details[edge][0] if len(details[edge]) == 1 else "",
        )
        for edge, found in sorted(statuses.items())
    )


def _targets(folds: Mapping[str, Node], old: frozenset[str], new: frozenset[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for status, addresses in ((SAME, old & new), (CREATE, new - old), (DELETE, old - new)):
        for address in addresses:
            found[folds[address].id].add(status)
    return found


def _together(statuses: Iterable[str]) -> str:
    found = set(statuses)
    return found.pop() if len(found) == 1 else UPDATE


def _ordered(columns: list[list[Node]], edges: tuple[Edge, ...]) -> tuple[tuple[Node, ...], ...]:
    """Order each column so that few edges cross: everybody near the middle of those it is connected to."""
    providers, models, consumers = (sorted(columns[number], key=_by_name) for number in (2, 1, 0))
    linked: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        linked[edge.source].append(edge.target)
        linked[edge.target].append(edge.source)
    models = _near(models, providers, linked)
    consumers = _near(consumers, models, linked)
    models = _near(models, [*consumers, *providers], linked)
    providers = _near(providers, models, linked)
    return tuple(consumers), tuple(models), tuple(providers)


def _by_name(node: Node) -> tuple[bool, str]:
    return bool(node.members), node.id


def _near(nodes: list[Node], others: list[Node], linked: Mapping[str, list[str]]) -> list[Node]:
    places = {node.id: place for place, node in enumerate(others)}

    def middle(node: Node) -> float:
        found = [places[each] for each in linked[node.id] if each in places]
        return sum(found) / len(found) if found else len(places)

    return sorted(nodes, key=lambda node: (bool(node.members), middle(node), node.id))
