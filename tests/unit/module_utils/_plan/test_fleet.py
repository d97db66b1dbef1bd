from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import diff_resources
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.drift import render_metrics
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, HostPlan, host_plan
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.markdown import LONGEST, render_markdown
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.risk import HIGH, LOW, MEDIUM, risk_of
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.saved import PlanError, signed, verify, what_moved
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
        "drift": (),
        "findings": (),
        **more,
    }
    return HostPlan(host=name, **values)


def same(name: str) -> HostPlan:
    return a_host(name, before=AFTER, process="none", changed=False)


def a_plan(*hosts: HostPlan, **unknown: str) -> FleetPlan:
    return FleetPlan(
        environment="production",
        created_at="2026-11-24T12:00:00Z",
        expires_at="2026-11-25T12:00:00Z",
        collection_version="0.1.0",
        commit="ab" * 20,
        hosts=hosts,
        unknown=tuple(sorted(unknown.items())),
    )


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
        "  reload: Envoy reads its files again\n"
        "\n"
        "d:\n"
        "  ~ gateway_consumers.search\n"
        "      models: -old +new\n"
        "  + gateway_models.new\n"
        "      targets: [{model: new, provider: a, weight: 1}]\n"
        "  - gateway_models.old\n"
        "  replace the process: another Envoy takes over, the old one is drained\n"
        "\n"
        "a: no changes\n"
        "\n"
        "Nothing is known of:\n"
        "  gw9: left out by --limit\n"
        "\n" + plan.summary
    )


def test_a_repair_is_a_change_without_resources() -> None:
    plan = a_plan(a_host("a", before=AFTER, drift=("envoy/lds.json (content)",), process="none"))
    assert plan.summary == "Plan: 0 to add, 0 to change, 0 to remove, on 1 host"
    assert render_terminal(plan).startswith("a:\n  changed on the host: envoy/lds.json (content)\n")
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
    finding = {"rule": "consumer_without_limit", "message": "may send any number of requests"}
    findings = tuple({**finding, "path": f"gateway_consumers.c{number}"} for number in range(2000))
    unknown = {f"gw{number}": "no plan could be made: " + "wrong " * 500 for number in range(100)}
    text = render_markdown(a_plan(a_host("gw1", findings=findings), **unknown))
    assert len(text) <= LONGEST
    assert "<summary>Policies warn in 2000 places</summary>" in text
    assert "- … and 1950 more, see plan.json\n\n</details>" in text
    assert "- … and 50 more, see plan.json\n" in text
    assert "- gateway_models.old" in text


def test_a_comment_tells_some_risks_where_there_are_more_than_fit() -> None:
    many = {f"gateway_models.m{number}-{'x' * 100}": {"targets": []} for number in range(1000)}
    text = render_markdown(a_plan(a_host("gw1", before={**BEFORE, **many})))
    assert len(text) <= LONGEST
    assert text.count("requests for it are answered 404") > 100


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
        ("gateway_providers.a", {}, {"concurrent_requests": 4}, MEDIUM),
        ("gateway_providers.a", {"concurrent_requests": 4}, {"concurrent_requests": 5}, LOW),
        ("gateway_metrics", {"port": 1}, {"port": 2}, LOW),
        ("gateway_nftables", {"others": "accept"}, {"others": "drop"}, HIGH),
        ("gateway_nftables", {"ports": [22, 9100]}, {"ports": [22]}, HIGH),
        ("gateway_nftables", {"ports": [22]}, {"ports": [22, 9100]}, LOW),
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
    plan = a_host("h", before=before, after=after, changed=changed, drift=("f (mode)",))
    assert host_plan("h", plan.as_dict()) == plan
    document = plan_document(a_plan(plan))
    counted = [change["change"]["actions"][0] for change in document["resource_changes"]]
    assert counted.count("create") == len(set(after) - set(before))
    assert counted.count("delete") == len(set(before) - set(after))
    assert counted.count("no-op") == sum(before.get(name) == content for name, content in after.items())


KEY = "a key"
LATER = "2026-11-24T13:00:00Z"


def a_saved_plan(*hosts: HostPlan) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(signed(plan_document(a_plan(*hosts)), KEY)))
    return document


def test_a_plan_that_holds() -> None:
    document = a_saved_plan(a_host("a"), a_host("b"))
    verify(document, KEY)
    assert what_moved(document, replace(a_plan(a_host("a"), a_host("b")), created_at=LATER, commit="")) == ()
    assert what_moved(document, a_plan(a_host("a")), unreachable=["b"]) == ()


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"environment": "staging"}, "the plan is of the environment 'production', this is 'staging'"),
        ({"created_at": "2026-11-25T12:00:01Z"}, "the plan expired at 2026-11-25T12:00:00Z"),
        ({"collection_version": "0.2.0"}, "the plan was made by version 0.1.0 of the collection, this is 0.2.0"),
        ({"hosts": ()}, "a: is in the plan, and is not in this inventory"),
        ({"hosts": (), "unknown": (("a", "left out by --limit"),)}, "a: is in the plan, and left out by --limit"),
        ({"hosts": (a_host("a"), a_host("b"))}, "b: is not in the plan"),
        ({"hosts": (a_host("a", spec_digest="3", release="3"),)}, "a: the specification has changed since"),
        (
            {"hosts": (a_host("a", active=""),)},
            f"a: the host serves release none now, and served {'0' * 16} when the plan was made",
        ),
        (
            {"hosts": (a_host("a", release="3"),)},
            f"a: the specification makes release 3 now, and made {'1' * 16} when the plan was made",
        ),
        (
            {"hosts": (a_host("a", envoy_version="1.41.0"),)},
            "a: the host has Envoy 1.41.0 now, and had 1.40.0 when the plan was made",
        ),
        (
            {"hosts": (a_host("a", drift=("f (mode)", "g (content)")),)},
            "a: files on the host were changed since: f (mode), g (content); when the plan was made: none",
        ),
        (
            {"hosts": (a_host("a", process="replace"),)},
            "a: what happens to Envoy would be 'replace' now, and was 'reload' when the plan was made",
        ),
    ],
)
def test_a_plan_that_does_not_hold(now: dict[str, Any], said: str) -> None:
    assert what_moved(a_saved_plan(a_host("a")), replace(a_plan(a_host("a")), **now)) == (said,)


def test_where_nothing_is_known_nothing_is_said_to_be_unchanged() -> None:
    assert a_plan(gw1="cannot be reached", gw2="left out by --limit").summary == "Nothing is known of 2 hosts"
    assert a_plan(same("a"), gw2="").summary == "No changes. 1 host as specified; nothing is known of 1 host"


def of_workspace(*names: str) -> FleetPlan:
    return a_plan(*(a_host(name, after={**AFTER, "gateway_workspace": {"name": name}}) for name in names))


def test_the_workspace_is_in_the_plan_which_holds_for_no_other() -> None:
    staging, both = of_workspace("staging"), of_workspace("staging", "production")
    assert (a_plan(a_host("a")).workspace, staging.workspace) == ("", "staging")
    assert both.workspace == "production, staging"
    assert "Environment **production**, workspace **staging**, commit" in render_markdown(staging)
    assert "workspace" not in render_markdown(replace(staging, environment="staging")).partition("```")[0]
    document = plan_document(staging)
    assert document["gateway"]["workspace"] == "staging"
    assert "the plan is of the workspace 'staging', this is ''" in what_moved(document, a_plan(a_host("staging")))


def test_everything_that_moved_is_told_at_once() -> None:
    now = replace(a_plan(a_host("a", active="9"), a_host("c")), environment="x", created_at="2027-01-01T00:00:00Z")
    assert len(what_moved(a_saved_plan(a_host("a"), a_host("b")), now)) == 5


@given(st.data())
def test_any_change_of_a_signed_plan_is_seen(data: st.DataObject) -> None:
    document = a_saved_plan(a_host("a"), a_host("b"))

    def places(value: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(place for key, each in inner for place in places(each, (*path, key)))]

    *way, last = data.draw(st.sampled_from([place for place in places(document, ()) if place]))
    holder: Any = document
    for step in way:
        holder = holder[step]
    if data.draw(st.booleans()):
        del holder[last]
    else:
        holder[last] = [holder[last], "tampered"]
    with pytest.raises(PlanError):
        verify(document, KEY)


@pytest.mark.parametrize("document", [None, [], {}, {"gateway": {}}, {"gateway": {"version": 1}}, {"gateway": 1}])
def test_what_is_no_signed_plan(document: Any) -> None:
    with pytest.raises(PlanError):
        verify(document, KEY)


def test_another_key() -> None:
    with pytest.raises(PlanError, match="signed with another key"):
        verify(a_saved_plan(a_host("a")), "another")


def test_metrics_of_drift() -> None:
    plan = replace(a_plan(a_host("a", drift=("f (mode)",)), same("b"), c="left out"), environment='x"\\\n')
    assert render_metrics(plan, 1700000000.5).splitlines()[2:4] == [
        'gateway_drift{environment="x\\"\\\\\\n",host="a"} 1',
        'gateway_drift{environment="x\\"\\\\\\n",host="b"} 0',
    ]
    text = render_metrics(replace(plan, environment="e"), 1700000000.5)
    assert 'gateway_drift_resources{environment="e",host="a",class="only_in_git"} 1\n' in text
    assert 'gateway_drift_files{environment="e",host="a"} 1\n' in text
    assert "gateway_drift_secrets{" not in text
    assert 'gateway_drift_known{environment="e",host="c"} 0\n' in text
    assert 'gateway_drift_timestamp_seconds{environment="e"} 1700000000.5\n' in text


def test_a_filter_that_is_new_or_goes_is_a_risk() -> None:
    filtered: dict[str, Any] = {"gateway_nftables": {"others": "accept"}}
    for before, after in (({}, filtered), (filtered, {})):
        (change,) = diff_resources(before, after)
        assert risk_of(change).level == HIGH
