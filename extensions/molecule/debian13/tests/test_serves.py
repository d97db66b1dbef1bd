"""A gateway on the next Debian serves, and changes under load as on the one before."""

from __future__ import annotations

import client
import scenario
from client import ask, chat
from hosts import Gateway
from scenario import Site

SEARCH = scenario.stored("consumers/search", "current")


def test_it_is_that_debian(gw1: Gateway) -> None:
    assert gw1.out(". /etc/os-release && echo $VERSION_CODENAME") == "trixie"


def test_answers() -> None:
    for model in ("gpt-5", "small"):
        assert ask("gw1", SEARCH, chat(model)).status == 200
    assert ask("gw1", "gw-nobody", chat("small")).status == 401


def test_another_process_and_back_lose_no_request(site: Site, gw1: Gateway) -> None:
    before = gw1.instance()
    with client.Load("gw1", SEARCH, ["gpt-5", "small"]) as load:
        assert site.changes(gateway_size="medium")["changed"] == 1
        assert gw1.instance() != before
        site.restore()
    assert load.failures == []
    assert load.answered > 40
    assert site.changes()["changed"] == 0
