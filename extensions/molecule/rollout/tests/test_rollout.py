"""A rollout meets a host that cannot reach the provider and one that cannot be reached, and both catch up."""

from __future__ import annotations

import re
import secrets

import pytest
import scenario
from hosts import Gateway

NAMES = ("gw1", "gw2", "gw3")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEST_PROVIDER_KEY", "TEST_CONSUMER_KEY"):
        monkeypatch.setenv(name, secrets.token_urlsafe(24))


def site(*options: str) -> tuple[int, list[str], dict[str, dict[str, int]]]:
    """Run the playbook: its exit code, the lines of the message at the end, and the recap."""
    process = scenario.start(scenario.SITE, *options)
    output = process.communicate(timeout=240)[0]
    assert "Traceback" not in output, output
    found = re.search(r"^Rollout of .*\n(?:  .*\n)*", output, re.MULTILINE)
    assert found, output
    return process.returncode, found[0].splitlines(), scenario.Played(process.returncode, output, 0).recap


def test_a_batch_that_fails_goes_back_and_a_host_that_is_gone_catches_up() -> None:
    hosts = {name: Gateway(name) for name in NAMES}
    code, told, recap = site()
    assert (code, told[0]) == (0, "Rollout of 3 gateways: 3 changed and verified")
    assert told[1:] == [f"  changed and verified (batch {number}): gw{number}" for number in (1, 2, 3)]
    before = {name: host.release() for name, host in hosts.items()}

    provider = scenario.addresses()["gw1"]
    hosts["gw2"].out(f"ip route add prohibit {provider}/32")
    hosts["gw3"].inside("systemctl stop ssh ssh.socket; pkill sshd; true")
    code, told, recap = site("-e", "test_model=gpt-5-b")
    assert code == 2
    assert told[:3] == [
        "Rollout of 3 gateways: 1 changed and verified, 1 rolled back, 1 cannot be reached; stopped at batch 2",
        "  changed and verified (batch 1): gw1",
        "  rolled back (batch 2): gw2",
    ]
    assert "2 of 8 checks of http://127.0.0.1:8080 failed: chat completion, stream: status 503" in told[3]
    assert told[3].endswith(f"; it serves {before['gw2']} again")
    assert told[4] == "  cannot be reached, so it is as it was; the next run brings it: gw3"
    assert [recap[name]["failed"] for name in NAMES] == [0, 1, 1]

    hosts["gw3"].inside("systemctl start ssh")
    now = {name: host.release() for name, host in hosts.items()}
    assert [now[name] == before[name] for name in NAMES] == [False, True, True]
    assert all(host.out("curl -sf http://127.0.0.1:8080/healthz") is not None for host in hosts.values())

    hosts["gw2"].out(f"ip route del prohibit {provider}/32")
    code, told, recap = site("-e", "test_model=gpt-5-b")
    assert code == 0, told
    assert told == [
        "Rollout of 3 gateways: 2 changed and verified, 1 as specified",
        "  changed and verified (batch 1): gw2",
        "  changed and verified (batch 2): gw3",
    ]
    assert recap["gw1"]["changed"] == 0
    assert len({host.release() for host in hosts.values()}) == 1
