"""A consumer's key is rotated by the collection: the old one serves for its grace and no longer, and is revoked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import client
import pytest
import scenario
from client import ask, chat
from hosts import Gateway
from scenario import Played
from store import Store

PATH = "consumers/search"
FIRST = scenario.stored(PATH, "current")
BATCH = scenario.stored("consumers/batch", "current")
POLICY = f'path "kv/data/{PATH}" {{ capabilities = ["create", "update", "read"] }}'
ROTATE = "gatewayops.openai.rotate"
GRACE = 30


class Keys:
    """The keys of the search team in the store."""

    def __init__(self) -> None:
        self.store = Store()
        self.token = self.store.make_token("keys", POLICY)
        self.seen = {FIRST}

    def have(self, **options: Any) -> str:
        """Run gateway_key with a token that may do nothing else; what it printed."""
        given = {f"gateway_key_{name}": value for name, value in {"path": f"kv/{PATH}", **options}.items()}
        login = {"gateway_vault_auth_method": "token", "gateway_vault_token": self.token}
        return self.quiet(scenario.play(str(scenario.SCENARIO / "keys.yml"), "--diff", variables={**login, **given}))

    def deliver(self) -> str:
        return self.quiet(scenario.play(ROTATE, "--limit", "gw1", "--diff"))

    def quiet(self, played: Played) -> str:
        """What a run that went well printed, and no key in it."""
        assert played.rc == 0, played.output
        fields = self.stored()
        self.seen |= {fields["current"], fields["previous"]} - {""}
        assert not [key for key in self.seen if key in played.output]
        return " ".join(played.output.split())

    def stored(self) -> dict[str, str]:
        return self.store.fields(PATH)


@pytest.fixture
def keys() -> Iterator[Keys]:
    """The search team has one key, as before the test and after it."""
    first = {"current": FIRST, "previous": ""}
    made = Keys()
    made.store.put(PATH, **first)
    yield made
    made.store.put(PATH, current=FIRST, previous=scenario.stored(PATH, "previous"))
    made.deliver()


def status(key: str) -> int:
    return ask("gw1", key, chat("small")).status


def test_old_key_serves_for_its_grace_and_a_revoked_one_no_more(keys: Keys, gw1: Gateway) -> None:
    keys.deliver()
    before = (gw1.pid(), gw1.release())

    with client.Load("gw1", FIRST, ["small", "gpt-5"]) as old:
        keys.have(state="rotated", grace=f"{GRACE}s")
        rotated = keys.stored()
        assert rotated["previous"] == FIRST
        assert "consumers: search-team" in keys.deliver()
        new = rotated["current"]
        assert (status(FIRST), status(new)) == (200, 200)
        assert keys.have(state="rotated").count("changed=0") == 1, "not twice while the first is in its grace"
    assert old.failures == []

    with client.Load("gw1", new, ["small", "gpt-5"]) as load:
        end = datetime.fromisoformat(rotated["previous_expires_at"])
        time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds() + 0.5))
        assert "consumers: search-team" in keys.deliver()
        assert (status(FIRST), status(new)) == (401, 200)
        keys.have()
        assert keys.stored() == {**rotated, "previous": "", "previous_expires_at": ""}
        assert "changed=0" in keys.deliver(), "the store is tidied up, and nothing changes on the host"
    assert load.failures == []
    assert old.answered > 40
    assert load.answered > 40

    keys.have(state="absent")
    output = keys.deliver()
    assert "gateway_consumers.search-team: every key of it has ended, so its requests are refused" in output
    assert (status(FIRST), status(new), status(BATCH)) == (401, 401, 200)

    keys.have()
    assert "consumers: search-team" in keys.deliver()
    assert (status(new), status(keys.stored()["current"])) == (401, 200)
    assert (gw1.pid(), gw1.release()) == before
