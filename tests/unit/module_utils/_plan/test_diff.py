from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import (
    ABSENT,
    CREATE,
    DELETE,
    UPDATE,
    FieldChange,
    ResourceChange,
    diff_resources,
    render_diff,
    summarize,
)

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text("abc.[0]", max_size=4)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
resources = st.dictionaries(st.text("abc", min_size=1, max_size=3), values, max_size=4)
sets = st.dictionaries(st.sampled_from(["gateway_models." + letter for letter in "abcde"]), resources, max_size=5)


def apply_fields(value: Any, fields: Sequence[FieldChange]) -> Any:
    """What the fields say, done to a copy of `value`."""
    root: Any = {"": copy.deepcopy(value)}
    for field in fields:
        holder: Any = root
        key: Any = ""
        for step in field.keys:
            holder, key = holder[key], step
        assert (holder[key] if isinstance(holder, list) else holder.get(key, ABSENT)) == field.before
        if field.after is ABSENT:
            del holder[key]
        else:
            holder[key] = field.after
    return root[""]


def apply(before: dict[str, Any], changes: Sequence[ResourceChange]) -> dict[str, Any]:
    result = dict(before)
    for change in changes:
        if change.action == DELETE:
            del result[change.address]
        else:
            assert (change.action == CREATE) == (change.address not in before)
            result[change.address] = apply_fields(before.get(change.address, {}), change.fields)
    return result


@given(sets, sets)
def test_applying_a_diff_gives_what_was_asked_for(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert apply(before, diff_resources(before, after)) == after


@given(sets)
def test_nothing_differs_from_itself(resources: dict[str, Any]) -> None:
    assert diff_resources(resources, copy.deepcopy(resources)) == ()


@given(sets, sets, st.randoms())
def test_the_order_does_not_depend_on_the_order_of_keys(
    before: dict[str, Any], after: dict[str, Any], random: Any
) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    changes = diff_resources(before, after)
    assert diff_resources(shuffled(before), shuffled(after)) == changes
    assert [change.address for change in changes] == sorted(change.address for change in changes)


@given(sets, sets)
def test_every_change_is_shown(before: dict[str, Any], after: dict[str, Any]) -> None:
    changes = diff_resources(before, after)
    text = render_diff(changes)
    signs = {CREATE: "+", UPDATE: "~", DELETE: "-"}
    assert all(f"  {signs[change.action]} {change.address}\n" in text for change in changes)
    assert text.endswith(summarize(changes) + "\n")


MODEL = {
    "targets": [
        {"provider": "openai", "model": "gpt-5", "weight": 80},
        {"provider": "azure_eu", "model": "gpt5-eu", "weight": 20},
    ],
    "fallbacks": [],
    "timeouts": {"first_byte": 120.0, "idle": 300.0},
    "price": None,
}


def test_a_field_of_a_target_is_named() -> None:
    after = copy.deepcopy(MODEL)
    after["targets"][1]["weight"] = 50  # type: ignore[index]
    (change,) = diff_resources({"gateway_models.gpt-5": MODEL}, {"gateway_models.gpt-5": after})
    assert change.as_dict() == {
        "address": "gateway_models.gpt-5",
        "action": "update",
        "fields": [{"path": "targets[1].weight", "before": 20, "after": 50}],
    }


def test_a_plan_reads_like_a_plan() -> None:
    before = {
        "gateway_models.gpt-5": MODEL,
        "gateway_providers.old": {"type": "openai"},
        "gateway_consumers.search": {"models": ["gpt-5", "gpt-4"], "limits": {"requests_per_minute": 600}},
    }
    after = copy.deepcopy(before)
    del after["gateway_providers.old"]
    after["gateway_models.gpt-5"]["timeouts"]["idle"] = 60.0  # type: ignore[index]
    after["gateway_consumers.search"] = {"models": ["gpt-5", "text-*"], "limits": {}}
    after["gateway_models.tiny"] = dict(MODEL, targets=[{"provider": "vllm", "model": "q", "weight": 1}])
    assert render_diff(diff_resources(before, after)) == (
        "  ~ gateway_consumers.search\n"
        "      limits.requests_per_minute: 600 -> (none)\n"
        "      models: -gpt-4 +text-*\n"
        "  ~ gateway_models.gpt-5\n"
        "      timeouts.idle: 300 -> 60\n"
        "  + gateway_models.tiny\n"
        "      targets: [{model: q, provider: vllm, weight: 1}]\n"
        "      timeouts: {first_byte: 120, idle: 300}\n"
        "  - gateway_providers.old\n"
        "Plan: 1 to add, 2 to change, 1 to remove\n"
    )


def test_many_new_resources_and_long_values_make_no_wall() -> None:
    many = {"gateway_models.m%03d" % number: MODEL for number in range(500)}
    assert len(render_diff(diff_resources({}, many)).splitlines()) == 501
    consumer = {"models": ["model-%d" % number for number in range(1000)]}
    text = render_diff(diff_resources({"gateway_consumers.a": {"models": []}}, {"gateway_consumers.a": consumer}))
    assert max(len(line) for line in text.splitlines()) < 160
