"""A gateway host restarts while the secret store is down, and serves. What is on its disk helps nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scenario
from client import Answer, ask, chat
from hosts import Gateway, Host
from scenario import Site
from store import Store

SEARCH = scenario.stored("consumers/search", "current")
SEALED = "/var/lib/openai-gateway/secrets.sealed"
UNIT = "openai-gateway-secrets.service"
KEY = "/var/lib/systemd/credential.secret"


@pytest.fixture
def no_store(vault1: Host) -> Iterator[None]:
    """The secret store is down."""
    vault1.out("systemctl stop openbao")
    yield
    vault1.out("systemctl start openbao")
    Store().unseal()


def soon(model: str, status: int = 200) -> Answer:
    """Ask until the status is the one that is due: names of providers are looked up when Envoy has started."""
    end = time.monotonic() + 20
    while True:
        try:
            answer = ask("gw1", SEARCH, chat(model))
        except OSError:
            answer = None
        if answer is not None and answer.status == status:
            return answer
        assert time.monotonic() < end, answer
        time.sleep(0.2)


def in_memory(host: Host) -> str:
    return host.out("cd /run/openai-gateway/secrets && stat --format '%n %a %U:%G' *")


def changed_paths(host: Gateway, before: set[str]) -> set[str]:
    """What is different from a snapshot, but for the directory /run, where everybody comes and goes."""
    return {line.split()[0] for line in host.snapshot() ^ before} - {"/run"}


def journal(host: Host) -> str:
    return host.out(f"journalctl --boot --quiet --no-pager --output cat --unit {UNIT}")


@pytest.mark.usefixtures("no_store")
def test_serves_again_after_a_restart_without_the_store_and_without_a_run(gw1: Gateway) -> None:
    before = (gw1.instance(), gw1.release(), in_memory(gw1), gw1.out(f"sha256sum {SEALED}"))
    gw1.restart()
    for model in ("gpt-5", "small"):
        assert soon(model).status == 200
    assert ask("gw1", "gw-nobody", chat("small")).status == 401
    assert (gw1.instance(), gw1.release(), in_memory(gw1), gw1.out(f"sha256sum {SEALED}")) == before
    assert "policy drop" in gw1.out("nft list table inet openai_gateway"), "the packet filter is there before clients"
    assert "Restored: consumers.json, listener-public.json, provider-a-" in journal(gw1)


def test_a_run_after_it_changes_nothing(site: Site, gw1: Gateway) -> None:
    before = gw1.snapshot()
    assert site.changes("--check")["changed"] == 0
    assert site.changes()["changed"] == 0
    assert changed_paths(gw1, before) <= {"/etc/openai-gateway/.lock"}


def test_no_secret_is_on_the_disk_in_plain_text(gw1: Gateway) -> None:
    assert gw1.out(f"stat --format '%a %U:%G' {Path(SEALED).parent} {SEALED}").splitlines() == [
        "700 root:root",
        "600 root:root",
    ]
    sealed = gw1.out(f"cat {SEALED}")
    assert json.loads(sealed)["parts"]
    assert scenario.leaks(sealed) == []
    assert gw1.run("runuser -u openai-gateway -- cat " + SEALED).returncode != 0
    needles = "\n".join(scenario.needles().values())
    gw1.out("umask 077; cat >/run/needles", stdin=needles)
    try:
        assert gw1.run("find / -xdev -type f -print0 | xargs -0 grep -lF -f /run/needles --").stdout == ""
    finally:
        gw1.out("rm /run/needles")


def test_another_machine_cannot_decrypt_it(gw1: Gateway) -> None:
    other = Host("upstream1")
    folder = other.out("mktemp --directory --tmpdir=/run")
    for source, name in ((SEALED, "sealed"), ("/etc/openai-gateway/current/libexec/restore-secrets", "restore")):
        other.out(f"cat >{folder}/{name}", stdin=gw1.out(f"cat {source}") + "\n")
    # With a key of its own, not without one.
    other.out("systemd-creds setup")
    command = f"mkdir {folder}/to; touch {folder}/lock; cd {folder}; python3 -I restore sealed to root lock"
    done = other.run(command)
    assert done.returncode == 1
    assert "cannot be decrypted with this host's key" in done.stderr
    assert other.out(f"ls -A {folder}/to") == ""
    other.out(f"rm -r {folder}")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (f"rm {SEALED}", "missing"),
        (f"sed -i 's/Whxq/Whxx/' {SEALED}", "cannot be decrypted"),
        (f"chmod 644 {SEALED}", "mode or owner"),
    ],
    ids=["deleted", "edited", "readable"],
)
def test_what_somebody_did_to_it_is_repaired_and_nothing_else_changes(
    site: Site, gw1: Gateway, damage: str, what: str
) -> None:
    process, before = gw1.pid(), gw1.snapshot()
    gw1.out(damage)
    played = site()
    assert played.rc == 0, played.output
    assert played.recap["gw1"]["changed"] == 1
    assert f"brought back: {SEALED} ({what})" in " ".join(played.output.split())
    assert changed_paths(gw1, before) <= {SEALED, str(Path(SEALED).parent), "/etc/openai-gateway/.lock"}
    assert gw1.pid() == process
    assert gw1.out(f"stat --format '%a %U:%G' {SEALED}") == "600 root:root"
    assert site.changes("--check")["changed"] == 0


def test_host_with_another_key_says_so_and_the_next_run_heals_it(site: Site, gw1: Gateway) -> None:
    """As from a copy of its disk without the key, or an image that is new."""
    gw1.out(f"mv {KEY} {KEY}.old && systemd-creds setup")
    gw1.restart()
    assert gw1.run(f"systemctl is-failed {UNIT}").stdout.strip() == "failed"
    assert f"The secrets in {SEALED} cannot be decrypted with this host's key" in journal(gw1)
    assert "run the playbook gatewayops.openai.site" in journal(gw1)
    assert gw1.run("ls -A /run/openai-gateway/secrets").stdout == ""
    assert site.changes()["changed"] == 1
    assert soon("gpt-5").status == 200
    gw1.restart()
    assert soon("gpt-5").status == 200


def test_never(site: Site, gw1: Gateway) -> None:
    process = gw1.pid()
    assert site.changes(gateway_secrets_persist="never")["changed"] == 1
    assert gw1.run(f"ls -d {Path(SEALED).parent} /etc/systemd/system/{UNIT}").stdout == ""
    assert gw1.pid() == process
    assert soon("gpt-5").status == 200
    assert site.changes("--check", gateway_secrets_persist="never")["changed"] == 0
