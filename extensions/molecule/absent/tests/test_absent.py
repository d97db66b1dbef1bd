"""A host that had a gateway and has none any more is the host that it was."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
import scenario
from hosts import Gateway

#: What changes by itself on a host that is logged in to, and what systemd keeps for itself: its journal and clock, and
#: the key that it encrypts with for everybody who asks.
ITS_OWN = (
    *("/var/log/journal", "/var/log/wtmp", "/var/log/lastlog", "/var/log/btmp", "/var/lib/systemd", "*/.ansible"),
    "/var/tmp/systemd-private-*",
    # Backups that the tools for users leave, and their lock.
    *("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-", "/etc/.pwd.lock"),
)
#: Everything else: names, types, modes, owners, contents, where links lead to. Times are not compared.
EVERYTHING = r"""
own='-path /run/systemd -o -path /run/user -o {its_own}'
set -f
find / /run -xdev \( $own \) -prune -o -printf '%p %y %m %U:%G %l\n'
find / /run -xdev \( $own \) -prune -o -type f -print0 | xargs -0 sha256sum
"""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The secrets, which the controller has in its environment, are nowhere on the host in the end."""
    names = ("TEST_PROVIDER_KEY", "TEST_CONSUMER_KEY")
    for name in names:
        monkeypatch.setenv(name, secrets.token_urlsafe(24))
    yield
    found = [name for name in names if os.environ[name] in Gateway("gw1").out("journalctl --no-pager --output cat")]
    assert found == []


def everything(host: Gateway) -> set[str]:
    """A line for each file, directory and link on the disk and in /run."""
    own = " -o ".join(f"-path {path}" for path in ITS_OWN)
    return set(host.out(EVERYTHING.format(its_own=own)).splitlines())


def play(*options: str, playbook: str = scenario.SITE) -> tuple[str, dict[str, int]]:
    """A playbook that has to succeed: what it printed, and the recap's line of the host."""
    process = scenario.start(playbook, *options)
    played = scenario.Played(process.wait(), process.communicate()[0], 0)
    assert played.rc == 0, played.output
    return played.output, played.recap["gw1"]


def absent(*options: str) -> tuple[str, dict[str, int]]:
    return play("-e", "gateway_state=absent", *options)


def processes(host: Gateway) -> str:
    return host.run("pgrep --list-full --uid openai-gateway || pgrep --list-full envoy").stdout


def test_a_host_is_left_as_it_was_found(gw1: Gateway) -> None:
    before = everything(gw1)
    assert len(before) > 10000

    play()
    play("-e", "gateway_size=large")  # the other instance
    play(playbook="gatewayops.openai.rollback")
    status = gw1.out("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/v1/models")
    assert status == "401"
    gw1.out("logrotate --force /etc/logrotate.d/openai-gateway && rm /var/lib/logrotate/status")
    serving = everything(gw1)
    made = {word for line in serving - before for word in line.split() if word.startswith("/")}
    for place in ("/etc/openai-gateway/current", "/opt/envoy/1.40.0/envoy", "/var/lib/openai-gateway/secrets.sealed"):
        assert place in made
    assert any(path.startswith("/var/log/openai-gateway/access.log.1") for path in made)

    said, predicted = absent("--check")
    assert predicted["changed"] == 1
    assert everything(gw1) == serving, "check mode has written something"
    _said, recap = absent()
    assert recap == predicted, said
    assert sorted(everything(gw1) ^ before) == []
    assert processes(gw1) == ""
    units = "systemctl list-units --all --plain 'openai-gateway*'; systemctl list-unit-files"
    assert "openai-gateway" not in gw1.out(units)

    _said, recap = absent()
    assert (recap["changed"], recap["failed"]) == (0, 0)


def test_logs_stay_where_they_are_wanted(gw1: Gateway) -> None:
    play()
    gw1.out("curl -s http://127.0.0.1:8080/v1/models")
    absent("-e", "gateway_keep_logs=true")
    assert gw1.out("stat --format '%U %a' /var/log/openai-gateway/access.log").startswith("openai-gateway")
    assert gw1.out("find /etc /opt /var/lib /run -path '*openai-gateway*' -o -path '*/envoy/*'") == ""
    _said, recap = absent()
    assert recap["changed"] == 1
    assert gw1.run("ls /var/log/openai-gateway; id openai-gateway").stdout == ""
