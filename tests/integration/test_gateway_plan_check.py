"""A plan that was saved is carried out as it is, or refused before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.site_gateway import Gateway, Ran, a_gateway, restored

KEY = {"PLAN_KEY": "sk-canary-of-the-plan"}


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    with a_gateway() as gateway:
        gateway.variables["gateway_plan_key"] = "env://PLAN_KEY"
        assert gateway.play("plan", **KEY).status == 0
        done = apply(gateway)
        assert done.status == 0, done.output
        yield gateway


@pytest.fixture
def gateway(running: Gateway) -> Iterator[Gateway]:
    """A gateway for which a plan with a new model is saved; what a test changes in its variables is taken back."""
    with restored(running):
        running.variables["gateway_models"]["new"] = running.variables["gateway_models"]["gpt-5"]
        made = running.play("plan", **KEY)
        assert made.status == 0, made.output
        yield running


def apply(gateway: Gateway, *arguments: str, **environment: str) -> Ran:
    return gateway.play("apply", "-e", "gateway_plan=plan.json", *arguments, **{**KEY, **environment})


def refused(gateway: Gateway, *arguments: str, says: str, **environment: str) -> None:
    """Applying fails with these words, and nothing is written on the host."""
    before = gateway.snapshot()
    ran = apply(gateway, *arguments, **environment)
    assert ran.status == 2, ran.output
    assert says in ran.output.replace("\\n", "\n"), ran.output
    assert "Traceback" not in ran.output
    assert KEY["PLAN_KEY"] not in ran.output
    assert gateway.snapshot() == before


def change(gateway: Gateway, **more: Any) -> None:
    path = gateway.directory / "plan.json"
    document = json.loads(path.read_text())
    document["gateway"].update(more)
    path.write_text(json.dumps(document))


def test_what_was_planned_is_applied_and_a_plan_holds_once(gateway: Gateway) -> None:
    document = json.loads((gateway.directory / "plan.json").read_text())
    done = apply(gateway)
    assert done.status == 0, done.output
    assert "Plan: 1 to add, 0 to change, 0 to remove, on 1 host" in done.output
    assert gateway.release == document["gateway"]["hosts"]["gw1"]["release"]
    refused(gateway, says="gw1: the host serves release " + gateway.release)
    del gateway.variables["gateway_models"]["new"]
    assert gateway.play("site").status == 0


def test_a_specification_that_changed(gateway: Gateway) -> None:
    gateway.variables["gateway_size"] = "medium"
    refused(gateway, says="gw1: the specification has changed since")


def test_a_host_that_changed(gateway: Gateway) -> None:
    damaged = gateway.root / "config" / "current" / "envoy" / "cds.json"
    content = damaged.read_bytes()
    damaged.write_bytes(content + b" ")
    try:
        refused(gateway, says="gw1: files on the host were changed since: envoy/cds.json (content)")
    finally:
        damaged.write_bytes(content)


def test_another_environment_and_time(gateway: Gateway) -> None:
    refused(gateway, "-e", "gateway_environment=production", says="this is 'production'")
    made = gateway.play("plan", "-e", "gateway_plan_ttl=0s", **KEY)
    assert made.status == 0, made.output
    refused(gateway, says="the plan expired at ")


def test_a_plan_that_somebody_changed(gateway: Gateway) -> None:
    change(gateway, expires_at="2099-01-01T00:00:00Z")
    refused(gateway, says="the plan was changed after it was made, or signed with another key")


def test_a_plan_without_a_signature_or_a_key(gateway: Gateway) -> None:
    refused(gateway, PLAN_KEY="another", says="signed with another key")
    refused(gateway, "-e", "gateway_plan_key=PLAIN", says="gateway_plan_key: ")
    key = gateway.variables.pop("gateway_plan_key")
    refused(gateway, says="missing required arguments: key")
    assert gateway.play("plan").status == 0
    gateway.variables["gateway_plan_key"] = key
    refused(gateway, says="the plan is not signed")
    (gateway.directory / "plan.json").write_text("no plan")
    refused(gateway, says="plan.json is not JSON")
    (gateway.directory / "plan.json").unlink()
    refused(gateway, says="plan.json: No such file or directory")


def test_a_gateway_that_is_to_go(gateway: Gateway) -> None:
    refused(gateway, "-e", "gateway_state=absent", says="gateway_state is absent, of which no plan tells")


def test_an_encrypted_plan(gateway: Gateway, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("of the vault\n")
    made = gateway.play("plan", "-e", "gateway_plan_encrypt=true", "--vault-password-file", str(password), **KEY)
    assert made.status == 0, made.output
    assert (gateway.directory / "plan.json").read_text().startswith("$ANSIBLE_VAULT;")
    refused(gateway, says="the plan cannot be decrypted")
    checked = apply(gateway, "--check", "--vault-password-file", str(password))
    assert checked.status == 0, checked.output


def test_a_host_that_moves_in_the_midst_of_it(gateway: Gateway) -> None:
    before = gateway.snapshot()
    ran = gateway.play("site", "-e", "gateway_expected=0000000000000000")
    assert ran.status == 2
    assert f"the host serves release {gateway.release} and not 0000000000000000, which was expected" in ran.output
    assert gateway.snapshot() == before
