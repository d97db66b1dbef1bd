"""Where secrets are, where they are not, and how they are replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator

import client
import pytest
import scenario
from client import ask, chat
from hosts import Gateway, Host
from scenario import Site
from store import Store

SEARCH = scenario.stored("consumers/search", "current")
NEW = "gw-new-" + scenario.stored("consumers/search", "previous")[3:]
REMOTE_NEEDLES = "/run/needles"  # in memory


@pytest.fixture
def search_keys() -> Iterator[Store]:
    """The store, where the keys of the search team are put right again."""
    store = Store()
    yield store
    store.put("consumers/search", current=SEARCH, previous=scenario.stored("consumers/search", "previous"))


@pytest.mark.parametrize("name", ["gw1", "gw2"])
def test_no_secret_on_a_disk_in_a_log_or_in_arguments(name: str) -> None:
    host = Gateway(name)
    host.out(f"umask 077; cat >{REMOTE_NEEDLES}", stdin="\n".join(scenario.needles().values()))
    search = f"grep -lF -f {REMOTE_NEEDLES}"
    try:
        assert host.run(f"{search} {REMOTE_NEEDLES} /run/openai-gateway/secrets/*").stdout.count("\n") > 4, "it finds"
        assert host.run(f"find / -xdev -type f -print0 | xargs -0 {search} --").stdout == ""
        assert host.run(f"journalctl --quiet --no-pager --output cat | {search}").stdout == ""
        assert host.run(f"{search} /proc/[0-9]*/cmdline /proc/[0-9]*/environ").stdout == ""
    finally:
        host.out(f"rm {REMOTE_NEEDLES}")


def test_first_converge_is_predicted_and_tells_no_secret_at_any_verbosity() -> None:
    """gw2 starts from nothing. `play` looks for every secret in what was printed."""
    site, gw2 = Site("gw2"), Gateway("gw2")
    site.changes(gateway_state="absent")
    assert gw2.run("ls -d /etc/openai-gateway /run/openai-gateway /etc/systemd/system/openai-gateway*").stdout == ""
    before = gw2.snapshot()
    predicted = site.changes("--check", "--diff", "-vvv")
    assert gw2.snapshot() ^ before == set()
    played = site("--diff", "-vvv")
    assert played.rc == 0, played.output
    assert played.recap["gw2"]["changed"] == predicted["changed"] > 0
    assert "vault://kv/providers/a#api_key" in played.output, "a reference may be shown, and is"
    assert ask("gw2", SEARCH, chat("gpt-5")).status == 200


def test_one_login_and_one_read_of_each_secret_for_all_hosts(vault1: Host) -> None:
    before = int(vault1.out("wc -l </var/log/openbao/audit.log"))
    assert scenario.play(scenario.SITE, "--check").rc == 0
    log = vault1.out(f"tail -n +{before + 1} /var/log/openbao/audit.log")
    entries = [json.loads(line) for line in log.splitlines()]
    paths = [entry["request"]["path"] for entry in entries if entry["type"] == "request"]
    assert paths.count("auth/approle/login") == 1
    assert sorted(path for path in paths if path.startswith("kv/data/")) == [
        "kv/data/consumers/batch",
        "kv/data/consumers/limited",
        "kv/data/consumers/search",
        "kv/data/providers/a",
        "kv/data/providers/b",
        "kv/data/tls/gateway",
    ]


def test_rotation_of_a_key_loses_no_request(site: Site, search_keys: Store, gw1: Gateway) -> None:
    """The old key serves as the previous one; no process and no release is replaced."""
    before = (gw1.pid(), gw1.release())
    search_keys.put("consumers/search", current=NEW, previous=SEARCH)
    with client.Load("gw1", SEARCH, ["gpt-5", "small"]) as load:
        played = site()
    assert played.rc == 0, played.output
    assert NEW not in played.output
    assert load.failures == []
    assert load.answered > 40
    assert ask("gw1", NEW, chat("gpt-5")).status == 200
    assert (gw1.pid(), gw1.release()) == before

    search_keys.put("consumers/search", current=NEW, previous=NEW)
    site.changes()
    assert ask("gw1", SEARCH, chat("gpt-5")).status == 401


def test_store_that_is_down_stops_the_run_before_any_host(site: Site, vault1: Host, gw1: Gateway) -> None:
    before = gw1.snapshot()
    vault1.out("systemctl stop openbao")
    try:
        output = site.refused()
    finally:
        vault1.out("systemctl start openbao")
        Store().unseal()
    assert Store().address in output
    assert gw1.snapshot() ^ before == set()
    assert ask("gw1", SEARCH, chat("gpt-5")).status == 200
