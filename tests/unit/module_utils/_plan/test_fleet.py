from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import diff_resources
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, HostPlan, host_plan
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.markdown import LONGEST, render_markdown
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.risk import HIGH, LOW, MEDIUM, risk_of
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.terminal import render_terminal
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.tfjson import plan_document

BEFORE = {
    "gateway_models.gpt-5": {"targets": [{"provider": "a", "model": "gpt-5", "weight": 1}]},
    "gateway_models.old": {"targets": [{"provider": "a", "model": "old", "weight": 1}]},
    "gateway_consumers.search": {"models": ["gpt-5", "old"], "api_keys": ["vault://kv/search#key", "(literal)"]},
    "gateway_size": {"name": "small"},
}
AFTER = {
    "gateway_models.gpt-5": BEFORE["gateway_models.gpt-5"],
    "gateway_models.new": {"targets": [{"provider": "a", "model": "new", "weight": 1}]},
    "gateway_consumers.search": {"models": ["gpt-5", "new"], "api_keys": ["vault://kv/search#key", "(literal)"]},
    "gateway_size": {"name": "small"},
}


def a_host(name: str, **more: Any) -> HostPlan:
    values = {
        "active": "0" * 16,
        "release": "1" * 16,
        "spec_digest": "2" * 64,
        "envoy_version": "1.40.0",
        "process": "reload",
        "changed": True,
        "before": BEFORE,
        "after": AFTER,
        "repaired": (),
        "findings": (),
        **more,
    }
    return HostPlan(host=name, **values)


def same(name: str) -> HostPlan:
    return a_host(name, before=AFTER, process="none", changed=False)


def a_plan(*hosts: HostPlan, **unknown: str) -> FleetPlan:
    return FleetPlan("production", "2026-11-24T12:00:00Z", "0.1.0", "ab" * 20, hosts, tuple(sorted(unknown.items())))


def test_hosts_that_change_alike_are_told_once() -> None:
    plan = a_plan(same("a"), a_host("b"), a_host("c"), a_host("d", process="replace"), gw9="left out by --limit")
    assert [group.hosts for group in plan.groups] == [("b", "c"), ("d",), ("a",)]
    assert plan.summary == (
        "Plan: 2 to add, 2 to change, 2 to remove, on 3 hosts in 2 groups; nothing is known of 1 host"
    )
    assert render_terminal(plan) == (
        "b, c:\n"
        "  ~ gateway_consumers.search\n"
        "      models: -old +new\n"
        "  + gateway_models.new\n"
        "      targets: [{model: new, provider: a, weight: 1}]\n"
        "  - gateway_models.old\n"
        "  Envoy reads its files again\n"
        "\n"
        "d:\n"
        "  ~ gateway_consumers.search\n"
        "      models: -old +new\n"
        "  + gateway_models.new\n"
        "      targets: [{model: new, provider: a, weight: 1}]\n"
        "  - gateway_models.old\n"
        "  another Envoy takes over, the old one is drained\n"
        "\n"
        "a: no changes\n"
        "\n"
        "Nothing is known of:\n"
        "  gw9: left out by --limit\n"
        "\n" + plan.summary
    )


def test_a_repair_is_a_change_without_resources() -> None:
    plan = a_plan(a_host("a", before=AFTER, repaired=("envoy/lds.json (content)",), process="none"))
    assert plan.summary == "Plan: 0 to add, 0 to change, 0 to remove, on 1 host"
    assert render_terminal(plan).startswith("a:\n  brought back: envoy/lds.json (content)\n")
    assert plan_document(plan)["resource_drift"][0]["address"] == (
        'module.gateway["a"].gateway_files.this["envoy/lds.json"]'
    )


def test_nothing_to_do() -> None:
    plan = a_plan(same("a"), same("b"))
    assert render_terminal(plan) == plan.summary == "No changes. 2 hosts as specified"
    assert not plan_document(plan)["applyable"]


def test_many_hosts_are_named_in_part() -> None:
    plan = a_plan(*(a_host(f"gw{number}") for number in range(6)))
    assert plan.groups[0].title == "gw0, gw1, gw2 and 3 more"


def test_the_document_has_terraforms_layout() -> None:
    document = plan_document(a_plan(a_host("gw1"), a_host("gw2"), gw3="cannot be reached: no route"))
    changes = {change["address"]: change for change in document["resource_changes"]}
    assert {address: change["change"]["actions"] for address, change in changes.items()} == {
        'module.gateway["gw1"].gateway_consumers.this["search"]': ["update"],
        'module.gateway["gw1"].gateway_models.this["gpt-5"]': ["no-op"],
        'module.gateway["gw1"].gateway_models.this["new"]': ["create"],
        'module.gateway["gw1"].gateway_models.this["old"]': ["delete"],
        'module.gateway["gw1"].gateway_size.this': ["no-op"],
    }
    new = changes['module.gateway["gw1"].gateway_models.this["new"]']
    assert new["index"] == "new"
    assert new["change"]["before"] is None
    assert new["change"]["after"] == AFTER["gateway_models.new"]
    search = changes['module.gateway["gw1"].gateway_consumers.this["search"]']["change"]
    assert search["after_sensitive"] == {"api_keys": [False, True]}
    assert search["after_unknown"] == {}
    assert document["gateway"]["modules"] == {'module.gateway["gw1"]': ["gw1", "gw2"]}
    assert document["gateway"]["hosts"]["gw2"]["active"] == "0" * 16
    assert document["gateway"]["unknown"] == {"gw3": "cannot be reached: no route"}
    assert not document["complete"]
    prior = document["prior_state"]["values"]["root_module"]["child_modules"][0]["resources"]
    assert {resource["address"] for resource in prior} == {
        f'module.gateway["gw1"].{name}'
        for name in (
            'gateway_consumers.this["search"]',
            'gateway_models.this["gpt-5"]',
            'gateway_models.this["old"]',
            "gateway_size.this",
        )
    }


def test_a_comment_shows_what_takes_something_away_first() -> None:
    text = render_markdown(a_plan(a_host("gw1"), gw3="left out by --limit"))
    assert text.startswith("### Plan: 1 to add, 1 to change, 1 to remove, on 1 host; nothing is known of 1 host\n")
    assert "- 🔴 `gateway_consumers.search`: it may no longer use old\n" in text
    assert text.index("- gateway_models.old") < text.index("+ gateway_models.new")
    assert "- `gw3`: left out by --limit" in text


def test_a_comment_never_gets_too_long() -> None:
    many = {f"gateway_models.m{number}": {"targets": ["x" * 50]} for number in range(2000)}
    text = render_markdown(a_plan(a_host("gw1", after={**AFTER, **many})))
    assert len(text) <= LONGEST
    assert "more, see plan.json" in text


def test_names_of_others_are_no_markdown() -> None:
    text = render_markdown(a_plan(same("a"), gw="cannot be reached: <img src=x> [click](http://x) **b**"))
    assert r"\<img src=x\> \[click\](http://x) \*\*b\*\*" in text


@pytest.mark.parametrize(
    ("address", "before", "after", "level"),
    [
        ("gateway_listeners.public", {"port": 443}, {"port": 444}, HIGH),
        ("gateway_listeners.public", {"cors": None}, {"cors": {}}, MEDIUM),
        ("gateway_providers.a", {"base_url": ["x"]}, {"base_url": ["y"]}, HIGH),
        ("gateway_models.a", {"price": 1}, {"price": 2}, LOW),
        ("gateway_models.a", {"limits": {"requests_per_minute": 5}}, {"limits": {"requests_per_minute": 4}}, MEDIUM),
        ("gateway_models.a", {"limits": {"requests_per_minute": 5}}, {"limits": {"requests_per_minute": 6}}, LOW),
        ("gateway_consumers.a", {"models": ["x"]}, {"models": ["x", "y"]}, LOW),
        ("gateway_consumers.a", {"api_keys": ["x", "y"]}, {"api_keys": ["x"]}, HIGH),
        ("gateway_consumers.a", {}, {"limits": {"requests_per_minute": 4}}, MEDIUM),
        ("gateway_metrics", {"port": 1}, {"port": 2}, LOW),
    ],
)
def test_risks(address: str, before: dict[str, Any], after: dict[str, Any], level: str) -> None:
    (change,) = diff_resources({address: before}, {address: after})
    assert risk_of(change).level == level


resources = st.dictionaries(
    st.sampled_from(["gateway_models.a", "gateway_models.b", "gateway_consumers.c", "gateway_size"]),
    st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2), max_size=2),
)


@given(resources, resources, st.booleans())
def test_a_plan_survives_its_way_through_a_result(before: dict[str, Any], after: dict[str, Any], changed: bool) -> None:
    plan = a_host("h", before=before, after=after, changed=changed, repaired=("f (mode)",))
    assert host_plan("h", plan.as_dict()) == plan
    document = plan_document(a_plan(plan))
    counted = [change["change"]["actions"][0] for change in document["resource_changes"]]
    assert counted.count("create") == len(set(after) - set(before))
    assert counted.count("delete") == len(set(before) - set(after))
    assert counted.count("no-op") == sum(before.get(name) == content for name, content in after.items())
