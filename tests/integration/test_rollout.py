"""Rollouts over several gateways of this machine: batches, a batch that fails, hosts that cannot be reached."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration import openbao
from integration.site_gateway import Gateway, Ran, a_gateway, restored

NAMES = ("gw1", "gw2", "gw3")
DEAD = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
NOBODY = "http://127.0.0.1:1"


class Fleet:
    """Gateways on this machine that differ by their directories and ports."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        secrets = Path(str(gateway.variables["gateway_secrets_dir"])).parent
        self.hosts: dict[str, dict[str, Any]] = {
            name: {
                "gateway_root": str(gateway.directory / name),
                "gateway_secrets_dir": str(secrets / name),
                "gateway_listeners": {"local": {"address": "127.0.0.1", "port": openbao.free_port()}},
                "gateway_metrics": {"port": openbao.free_port()},
            }
            for name in NAMES
        }

    def site(self, *arguments: str, dead: str = "", mute: str = "", **variables: Any) -> Ran:
        """Run `site`; one host may be `dead`, which Ansible cannot reach, or `mute`, which does not answer clients."""
        hosts = {name: dict(own) for name, own in self.hosts.items()}
        if dead:
            hosts[dead].update(DEAD)
        if mute:
            hosts[mute]["gateway_verify_url"] = NOBODY
        (self.gateway.directory / "inventory" / "hosts.yml").write_text(json.dumps({"gateways": {"hosts": hosts}}))
        extra = self.gateway.directory / "extra.json"
        extra.write_text(json.dumps(variables))
        ran = self.gateway.play("site", "-e", f"@{extra}", *arguments)
        assert "Traceback" not in ran.output, ran.output
        return ran

    @property
    def releases(self) -> dict[str, str]:
        """The release that each host serves."""
        links = {name: self.gateway.directory / name / "config" / "current" for name in NAMES}
        return {name: link.resolve().name.split(".")[0] for name, link in links.items()}

    def change(self, model: str) -> None:
        """Change what all of them should serve."""
        self.gateway.variables["gateway_models"]["gpt-5"]["targets"][0]["model"] = model


@pytest.fixture(scope="module")
def started() -> Iterator[Fleet]:
    with a_gateway() as gateway:
        fleet = Fleet(gateway)
        made = fleet.site()
        assert made.status == 0, made.output
        assert told(made) == [
            "Rollout of 3 gateways: 3 changed and verified",
            "  changed and verified (batch 1): gw1",
            "  changed and verified (batch 2): gw2",
            "  changed and verified (batch 3): gw3",
        ]
        yield fleet


@pytest.fixture
def fleet(started: Fleet) -> Iterator[Fleet]:
    with restored(started.gateway):
        yield started


def told(ran: Ran) -> list[str]:
    """The lines of the message at the end."""
    found = re.search(r"^Rollout of .*\n(?:  .*\n)*", ran.output, re.MULTILINE)
    assert found, ran.output
    return found[0].splitlines()


def recap(ran: Ran, count: str) -> list[int]:
    """A count of the recap, for each host."""
    found = [re.search(rf"^{name}\s+:.*\b{count}=(\d+)", ran.output, re.MULTILINE) for name in NAMES]
    return [int(each[1]) for each in found if each]


def test_a_host_that_cannot_be_reached_does_not_stop_the_others_and_catches_up(fleet: Fleet) -> None:
    before = fleet.releases
    fleet.change("gpt-5-b")
    without = fleet.site(dead="gw1")
    assert without.status == 2
    lines = told(without)
    assert lines[:3] == [
        "Rollout of 3 gateways: 2 changed and verified, 1 cannot be reached",
        "  changed and verified (batch 1): gw2",
        "  changed and verified (batch 2): gw3",
    ]
    assert lines[3] == "  cannot be reached, so it is as it was; the next run brings it: gw1"
    assert "Connection refused" in lines[4]
    assert recap(without, "failed") == [1, 0, 0]
    assert [fleet.releases[name] == before[name] for name in NAMES] == [True, False, False]

    refused = fleet.site(dead="gw1", gateway_max_unreachable="0")
    assert refused.status == 2
    assert "1 of 3 gateways cannot be reached, gateway_max_unreachable is 0; nothing was changed" in refused.output
    assert "Change gateways" not in refused.output

    caught_up = fleet.site()
    assert caught_up.status == 0, caught_up.output
    assert told(caught_up) == [
        "Rollout of 3 gateways: 1 changed and verified, 2 as specified",
        "  changed and verified (batch 1): gw1",
    ]
    assert recap(caught_up, "changed") == [1, 0, 0]


def test_a_batch_that_fails_goes_back_and_those_before_it_stay(fleet: Fleet) -> None:
    fleet.gateway.variables["gateway_serial"] = [1, "100%"]
    before = fleet.releases
    fleet.change("gpt-5-c")
    failed = fleet.site("-e", "gateway_serial=1", mute="gw2")
    assert failed.status == 2
    assert told(failed) == [
        "Rollout of 3 gateways: 1 changed and verified, 1 rolled back, 1 not started; stopped at batch 2",
        "  changed and verified (batch 1): gw1",
        "  rolled back (batch 2): gw2",
        f"      8 of 8 checks of {NOBODY} failed: healthy, models, chat completion, stream, embeddings, wrong key, "
        f"forbidden model, unknown model: {NOBODY}: Connection refused; it serves {before['gw2']} again",
        "  not started: gw3",
    ]
    assert recap(failed, "failed") == [0, 1, 1]
    now = fleet.releases
    assert [now[name] == before[name] for name in NAMES] == [False, True, True]

    everything = fleet.site(mute="gw3", gateway_serial=["100%"], gateway_rollback="all")
    assert everything.status == 2
    assert told(everything)[0] == "Rollout of 3 gateways: 2 rolled back, 1 as specified; stopped at batch 1"
    assert fleet.releases == now


def test_a_change_that_a_host_cannot_make_stops_before_any_is_changed(fleet: Fleet) -> None:
    before = fleet.releases
    fleet.change("gpt-5-d")
    fleet.hosts["gw3"]["envoy_version"] = "1.39.0"
    try:
        refused = fleet.site()
    finally:
        del fleet.hosts["gw3"]["envoy_version"]
    assert refused.status == 2
    assert "1 gateway cannot be as specified; nothing was changed" in refused.output
    assert fleet.releases == before
