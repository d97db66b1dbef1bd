from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_examples import AFTER, BEFORE, large_plan

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import CREATE, DELETE, UPDATE
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.drawing import describe
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.layout import HEIGHT, WIDTH, place
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.topology import SAME, SHOWN, Topology, topology

names = st.sampled_from(["a", "b", "c", "d"])
targets = st.fixed_dictionaries({"provider": names, "model": names, "weight": st.integers(0, 2)})
models = st.fixed_dictionaries(
    {"targets": st.lists(targets, max_size=3), "fallbacks": st.lists(targets, max_size=2)},
    optional={
        "price": st.fixed_dictionaries({"input": st.integers(0, 9), "output": st.floats(0, 9)}),
        "limits": st.fixed_dictionaries({}, optional={"tokens_per_day": st.integers(0, 9)}),
    },
)
limits = st.fixed_dictionaries({}, optional={"tokens_per_day": st.integers(0, 10**9)})
consumers = st.fixed_dictionaries(
    {"models": st.lists(names | st.just("*"), max_size=2)},
    optional={"endpoints": st.lists(names, max_size=1), "limits": limits},
)
resources = st.builds(
    lambda *kinds: {address: value for kind in kinds for address, value in kind.items()},
    st.dictionaries(names.map("gateway_consumers.{}".format), consumers),
    st.dictionaries(names.map("gateway_models.{}".format), models),
    st.dictionaries(names.map("gateway_providers.{}".format), st.just({"type": "openai"})),
    st.dictionaries(names.map("gateway_endpoints.{}".format), st.fixed_dictionaries({"provider": names})),
)


def statuses(found: Topology) -> dict[str, str]:
    return {node.id: node.status for node in found.nodes}


def edges(found: Topology) -> dict[tuple[str, str, bool], str]:
    return {(edge.source, edge.target, edge.fallback): edge.status for edge in found.edges}


def test_what_becomes_of_each_thing_and_of_each_connection() -> None:
    found = topology(BEFORE, AFTER)
    assert statuses(found) == {
        "gateway_consumers.assistant": CREATE,
        "gateway_consumers.batch": SAME,
        "gateway_consumers.search": UPDATE,
        "gateway_models.gpt-4o": DELETE,
        "gateway_models.gpt-5": UPDATE,
        "gateway_models.gpt-5-mini": CREATE,
        "gateway_models.text-embedding-3-small": SAME,
        "gateway_providers.azure_eu": CREATE,
        "gateway_providers.openai": SAME,
        "gateway_providers.vllm": SAME,
    }
    changed = {edge: status for edge, status in edges(found).items() if status != SAME}
    assert changed == {
        ("gateway_consumers.assistant", "gateway_models.gpt-5-mini", False): CREATE,
        ("gateway_consumers.search", "gateway_models.gpt-4o", False): DELETE,
        ("gateway_models.gpt-4o", "gateway_providers.openai", False): DELETE,
        ("gateway_models.gpt-5", "gateway_providers.azure_eu", False): CREATE,
        ("gateway_models.gpt-5", "gateway_providers.openai", False): UPDATE,
        ("gateway_models.gpt-5-mini", "gateway_providers.azure_eu", False): CREATE,
        ("gateway_models.gpt-5-mini", "gateway_providers.openai", True): CREATE,
    }
    (weight,) = (edge for edge in found.edges if edge.status == UPDATE)
    assert weight.detail == "gpt-5 → gpt-5, weight 80"
    assert edges(found)["gateway_consumers.search", "gateway_models.text-embedding-3-small", False] == SAME


def test_endpoints_without_a_model_are_among_the_models() -> None:
    side = {
        "gateway_providers.a": {"type": "openai"},
        "gateway_endpoints.files": {"provider": "a"},
        "gateway_consumers.c": {"models": ["gpt-5"], "endpoints": ["files"]},
    }
    assert edges(topology({}, side)) == {
        ("gateway_consumers.c", "gateway_endpoints.files", False): CREATE,
        ("gateway_endpoints.files", "gateway_providers.a", False): CREATE,
    }


def test_many_are_folded_and_what_changes_is_shown() -> None:
    (group,) = large_plan().groups
    found = topology(group.plan.before, group.plan.after)
    assert found.counts == (40, 301, 20)
    assert all(len(column) <= SHOWN + 4 for column in found.columns)
    assert statuses(found)["gateway_models.retired"] == DELETE
    members = [name for node in found.nodes for name in node.members or (node.id,)]
    assert len(members) == len(set(members)) == sum(found.counts)
    assert all(len(node.members) != 1 for node in found.nodes)


def test_the_picture_is_told_in_words() -> None:
    text = describe(topology(BEFORE, AFTER))
    assert text.startswith("3 consumers, 4 models, 3 providers. Removed: gpt-4o. Changed: search, gpt-5. Added: ")
    assert "Added a fallback: gpt-5-mini to openai." in text


@given(resources, resources, st.integers(1, 5))
def test_a_layout_has_a_place_for_everything_and_ends_for_every_edge(
    before: dict[str, Any], after: dict[str, Any], shown: int
) -> None:
    found = topology(before, after, shown)
    layout = place(found)
    nodes = {node.id for node in found.nodes}
    assert len(layout.boxes) == len(nodes)
    for edge in found.edges:
        assert {edge.source, edge.target} <= nodes
    for one, other in combinations(layout.boxes, 2):
        assert one.x != other.x or abs(one.y - other.y) >= HEIGHT
        assert abs(one.x - other.x) >= WIDTH or one.x == other.x
    assert all(box.x >= 0 and box.right <= layout.width for box in layout.boxes)
    assert all(box.y >= 0 and box.bottom <= layout.height for box in layout.boxes)
    by_id = {box.node.id: box for box in layout.boxes}
    assert len(layout.wires) == len(found.edges)
    for wire in layout.wires:
        source, target = by_id[wire.edge.source], by_id[wire.edge.target]
        assert (wire.x1, wire.x2) == (source.right, target.x)
        assert source.y < wire.y1 < source.bottom
        assert target.y < wire.y2 < target.bottom


@given(resources)
def test_nothing_changes_where_nothing_differs(side: dict[str, Any]) -> None:
    found = topology(side, side)
    assert {*statuses(found).values(), *edges(found).values()} <= {SAME}


@pytest.mark.parametrize("side", [{}, {"gateway_models.a": None}, {"gateway_models.a": {"targets": "b"}}])
def test_what_a_host_tells_may_be_anything(side: dict[str, Any]) -> None:
    place(topology(side, {}))
