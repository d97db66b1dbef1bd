from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.utils.display import Display

from ansible_collections.gatewayops.openai.plugins.action.gateway_rollout import ActionModule

from .conftest import Run, failed

PLAN = {"planned": {"changed": True, "active": "old"}}
SAME = {"planned": {"changed": False, "active": "new"}}
GONE = {"unreachable": True, "msg": "no route\nto host"}
NEW = {"changed": True, "digest": "new"}
GOOD = {"failed": False}


class Hostvars(dict[str, Any]):
    """What Ansible knows of the hosts, without rendering it."""

    def raw_get(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self[host]
        return found


#: A plan where none is named; None is that of a host that was not compared.
USUAL: Any = object()


def known(plan: Any = USUAL, result: Any = None, verified: Any = None, **more: Any) -> dict[str, Any]:
    """The variables of a host: what its tasks registered."""
    given = {
        "__gateway_plan": PLAN if plan is USUAL else plan,
        "__gateway_result": result,
        "__gateway_verified": verified,
    }
    return {**{name: value for name, value in given.items() if value is not None}, **more}


def batch(number: int) -> dict[str, Any]:
    return {"__gateway_batch": {"number": number}}


def variables(hosts: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"ansible_play_hosts_all": list(hosts), "hostvars": Hostvars(hosts), **more}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(Display, "display", lambda self, text, *rest, **more: lines.extend(text.splitlines()))
    return lines


def test_only_what_differs_is_changed(run: Run, said: list[str]) -> None:
    hosts = {"a": known(SAME), "b": known(), "c": known(GONE), "d": known({"skipped": True, "changed": False})}
    result = run(ActionModule, arguments={"step": "begin"}, variables=variables(hosts))
    assert (result["changing"], result["lost"], result["count"]) == (["b", "d"], ["c"], 4)
    assert said == ["4 gateways: 2 to change, 1 as specified, 1 cannot be reached (c)"]


def test_nothing_begins_when_a_host_cannot_be_as_specified(run: Run) -> None:
    hosts = {"a": known(), "b": known({"failed": True, "msg": "port 443\nis taken"}), "c": {}}
    assert failed(run, ActionModule, arguments={"step": "begin"}, variables=variables(hosts)) == (
        "2 gateways cannot be as specified; nothing was changed\n"
        "  b: port 443 is taken\n"
        "  c: it was not compared, as said above"
    )


@pytest.mark.parametrize(
    ("most", "refused"), [("50%", False), ("49%", True), ("1", False), ("0", True), ("0%", True), ("100%", False)]
)
def test_how_many_may_be_out_of_reach(run: Run, most: str, refused: bool) -> None:
    given = variables({"a": known(), "b": known(GONE)}, gateway_max_unreachable=most)
    result = run(ActionModule, arguments={"step": "begin"}, variables=given)
    assert result.get("failed", False) == refused
    if refused:
        assert result["msg"] == (
            f"1 of 2 gateways cannot be reached, gateway_max_unreachable is {most}; nothing was changed\n"
            "  b: no route to host"
        )


def test_what_is_no_number_of_hosts(run: Run) -> None:
    given = variables({"a": known()}, gateway_max_unreachable="few")
    assert failed(run, ActionModule, arguments={"step": "begin"}, variables=given) == (
        "gateway_max_unreachable: 'few' is neither a number of hosts nor a share such as 50%"
    )


def judged(
    run: Run, hosts: dict[str, dict[str, Any]], batch: list[str], *, check: bool = False, **more: Any
) -> dict[str, Any]:
    begun = {"count": len(hosts), "lost": []}
    given = variables(hosts, ansible_play_batch=batch, __gateway_rollout=begun, **more)
    return run(ActionModule, arguments={"step": "batch"}, variables=given, check=check)


def test_a_batch_that_is_good(run: Run) -> None:
    result = judged(run, {"a": known(PLAN, NEW, GOOD, **batch(1)), "b": known(PLAN, NEW, GOOD), "c": known()}, ["b"])
    assert (result["number"], result["reasons"], result["roll_back"]) == (2, {}, [])


@pytest.mark.parametrize(("scope", "back"), [("batch", ["b", "c"]), ("all", ["a", "b", "c"]), ("none", [])])
def test_a_batch_that_fails_goes_back(run: Run, scope: str, back: list[str]) -> None:
    hosts = {
        "a": known(PLAN, NEW, GOOD, **batch(1)),
        "b": known(PLAN, NEW, {"failed": True}, __gateway_error="1 of 8\nfailed"),
        "c": known(PLAN, NEW, GOOD),
        "refused it itself": known(PLAN, {"failed": True, "msg": "x"}, __gateway_error="x"),
        "has none before": known({"planned": {"changed": True, "active": ""}}, NEW, GOOD),
        "has only new secrets": known(PLAN, {"changed": True, "digest": "old"}, GOOD),
        "is removed": known({"skipped": True}, {"changed": True}),
        "later": known(),
    }
    now = [name for name in hosts if name not in ("a", "later")]
    result = judged(run, hosts, now, gateway_rollback=scope)
    assert result["reasons"] == {"b": "1 of 8 failed", "refused it itself": "x"}
    assert result["roll_back"] == back


def test_a_host_that_is_lost_after_its_change_stops_the_others(run: Run) -> None:
    result = judged(run, {"a": known(PLAN, NEW, GONE), "b": known(PLAN, NEW, GOOD)}, ["a", "b"])
    assert result["reasons"] == {"a": "it cannot be reached after its change: no route to host"}
    assert result["roll_back"] == ["a", "b"]


def test_a_host_that_is_lost_before_its_change_does_not(run: Run) -> None:
    hosts = {"a": known(PLAN, GONE), "b": known(PLAN, NEW, GOOD)}
    assert judged(run, hosts, ["a", "b"])["reasons"] == {}
    alone = {**hosts, "b": {**hosts["b"], **batch(1)}}
    assert judged(run, alone, ["a"])["reasons"] == {"a": "nobody in its batch can be reached"}
    few = judged(run, hosts, ["a", "b"], gateway_max_unreachable="0")
    assert few["reasons"] == {"a": "1 of 2 gateways cannot be reached"}
    assert few["roll_back"] == []


def test_one_that_ansible_gave_up_is_of_the_batch(run: Run) -> None:
    hosts = {"a": known(PLAN, {"failed": True}, __gateway_error="x"), "b": known(PLAN, NEW, GOOD)}
    assert judged(run, hosts, ["b"])["reasons"] == {"a": "x"}


def test_what_became_of_every_gateway(run: Run, said: list[str]) -> None:
    broken = {"__gateway_error": "1 of 8 failed", **batch(2)}
    no_release = {"planned": {"changed": True, "active": ""}}
    hosts = {
        "good": known(PLAN, NEW, GOOD, **batch(1)),
        "alike": known(PLAN, NEW, GOOD, **batch(1)),
        "unasked": known(PLAN, NEW, {"cannot_ask": True, "msg": "no consumers"}, **batch(1)),
        "off": known(PLAN, NEW, {"skipped": True}, **batch(1)),
        "back": known(PLAN, NEW, GOOD, __gateway_back={"changed": True}, **broken),
        "with it": known(PLAN, NEW, GOOD, __gateway_back={"changed": True}, **batch(2)),
        "stuck": known(PLAN, NEW, GOOD, __gateway_back={"failed": True, "msg": "disk full"}, **broken),
        "new": known(no_release, NEW, GOOD, **broken),
        "refused": known(PLAN, {"failed": True}, **broken),
        "secrets": known(PLAN, {"changed": True, "digest": "old"}, GOOD, **broken),
        "kept": known(PLAN, NEW, GOOD, **broken),
        "later": known(),
        "gone": known(GONE),
        "cut": known(PLAN, GONE, **batch(2)),
        "right": known(SAME),
        "right by now": known(PLAN, {"changed": False, "digest": "new"}, {"skipped": True}, **batch(1)),
    }
    result = run(ActionModule, arguments={"step": "end"}, variables=variables(hosts))
    assert said == [
        "Rollout of 16 gateways: 2 changed and verified, 2 changed, not verified, 2 rolled back, 5 failed, "
        "1 not started, 1 cannot be reached, 1 lost during its change, 2 as specified; stopped at batch 2",
        "  changed and verified (batch 1): good, alike",
        "  changed, not verified (batch 1): unasked",
        "      no consumers",
        "  changed, not verified (batch 1): off",
        "  rolled back (batch 2): back",
        "      1 of 8 failed; it serves old again",
        "  rolled back (batch 2): with it",
        "      another gateway failed; it serves old again",
        "  failed (batch 2): stuck",
        "      1 of 8 failed; it serves new and could not be brought back: disk full",
        "  failed (batch 2): new",
        "      1 of 8 failed; it serves new, since it had no release before",
        "  failed (batch 2): refused",
        "      1 of 8 failed",
        "  failed (batch 2): secrets",
        "      1 of 8 failed; its release is as before, and its secrets are the new ones",
        "  failed (batch 2): kept",
        "      1 of 8 failed; it serves new",
        "  not started: later",
        "  cannot be reached, so it is as it was; the next run brings it: gone",
        "      no route to host",
        "  lost during its change, so it is as it was or changed; the next run brings it (batch 2): cut",
        "      no route to host",
    ]
    assert set(result["wrong"]) == set(hosts) - {"good", "alike", "unasked", "off", "right", "right by now"}
    assert result["wrong"]["later"] == "not started"
    assert result["hosts"]["good"] == {"outcome": "changed and verified", "reason": "", "batch": 1}


def test_check_mode_says_what_would_be(run: Run, said: list[str]) -> None:
    hosts = {"a": known(PLAN, NEW, {"skipped": True}, **batch(1)), "b": known(SAME)}
    result = run(ActionModule, arguments={"step": "end"}, variables=variables(hosts), check=True)
    assert said == ["Rollout of 2 gateways: 1 would change, 1 as specified", "  would change (batch 1): a"]
    assert result["wrong"] == {}


def test_what_check_mode_has_not_changed_does_not_go_back(run: Run, said: list[str]) -> None:
    hosts = {"a": known(PLAN, {"failed": True}, __gateway_error="x"), "b": known(PLAN, NEW), "c": known(PLAN, GONE)}
    result = judged(run, hosts, ["a", "b", "c"], check=True)
    assert (result["reasons"], result["roll_back"]) == ({"a": "x"}, [])
    told = {name: {**host, **batch(1)} for name, host in hosts.items()}
    result = run(ActionModule, arguments={"step": "end"}, variables=variables(told), check=True)
    outcomes = {name: one["outcome"].partition(",")[0] for name, one in result["hosts"].items()}
    assert outcomes == {"a": "failed", "b": "would change", "c": "cannot be reached"}


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        ({}, False),
        ({"from": "controller"}, True),
        ({"url": "https://llm.example.com"}, True),
        ({"url": "https://llm.example.com", "validate_certs": False}, False),
    ],
)
def test_a_key_goes_unchecked_to_the_host_itself_only(given: dict[str, Any], checked: bool) -> None:
    plays = yaml.safe_load((Path(__file__).parents[3] / "playbooks" / "_rollout.yml").read_text())
    (block,) = (task["block"] for task in plays[1]["tasks"] if "block" in task)
    asking = block[-1]["gatewayops.openai.gateway_verify"]["validate_certs"]
    variables = {f"gateway_verify_{name}": value for name, value in given.items()}
    assert jinja2.Environment(autoescape=True).from_string(asking).render(variables) == str(checked)


def test_a_removal_is_told(run: Run, said: list[str]) -> None:
    gone = known({"skipped": True}, {"changed": True}, {"skipped": True}, **batch(1))
    run(ActionModule, arguments={"step": "end"}, variables=variables({"a": gone}))
    assert said[1:] == ["  removed (batch 1): a"]
