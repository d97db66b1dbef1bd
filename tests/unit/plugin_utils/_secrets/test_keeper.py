# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When what is renewed and revoked. The process is started by runs in tests/integration/test_secrets_run.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import keeper
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.keeper import Call, Holdings, Lease, Order

RENEW = "auth/token/renew-self"
REVOKE = "auth/token/revoke-self"


class Store:
    """Answers what a test says, or else 204; ``None`` stands for no answer."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, tuple[int, dict[str, Any]] | None] = answers
        self.asked: list[tuple[str, str]] = []

    def __call__(self, order: Order, call: Call) -> tuple[int, dict[str, Any]]:
        self.asked.append((order["token"], call.body.get("lease_id", call.path)))
        answer = self.answers.get(call.path.rpartition("/")[2].replace("-", "_"), (204, {}))
        if answer is None:
            raise OSError
        return answer


def order(token: str = "t", *leases: Lease, **changes: Any) -> Order:
    given: dict[str, Any] = {
        "addr": "http://127.0.0.1:1",
        "namespace": "",
        "verify": True,
        "cert": None,
        "timeout": 1.0,
        "token": token,
        "own": True,
        "seconds": 100.0,
        "renewable": True,
        "leases": list(leases),
        **changes,
    }
    return Order(**given)  # type: ignore[typeddict-item]


def lease(name: str, seconds: float = 60.0, *, renewable: bool = True) -> Lease:
    return Lease(id=name, seconds=seconds, renewable=renewable)


def test_a_token_is_renewed_at_half_of_each_life() -> None:
    store = Store(renew_self=(200, {"auth": {"lease_duration": 40}}))
    holdings = Holdings(store)
    holdings.add(order(), 1000.0)
    assert holdings.next_renewal() == 1050.0
    holdings.renew(1049.0)
    assert store.asked == []
    holdings.renew(1050.0)
    assert store.asked == [("t", RENEW)]
    assert holdings.next_renewal() == 1070.0


@pytest.mark.parametrize("changes", [{"renewable": False}, {"seconds": None}, {"own": False}])
def test_what_is_not_to_be_renewed(changes: dict[str, Any]) -> None:
    holdings = Holdings(Store())
    holdings.add(order(**changes), 1000.0)
    assert holdings.next_renewal() is None


def test_a_refused_renewal_is_not_tried_again_and_one_without_an_answer_is() -> None:
    holdings = Holdings(Store(renew_self=(403, {})))
    holdings.add(order(), 1000.0)
    holdings.renew(1050.0)
    assert holdings.next_renewal() is None

    store = Store(renew_self=None)
    holdings = Holdings(store)
    holdings.add(order(), 1000.0)
    times = []
    while (due := holdings.next_renewal()) is not None:
        times.append(due)
        assert len(times) < 50
        holdings.renew(due)
    assert times[:3] == [1050.0, 1062.5, 1071.875]
    assert 1099 < times[-1] < 1101, "until the token has ended"


def test_a_token_takes_its_leases_with_it() -> None:
    store = Store()
    holdings = Holdings(store)
    holdings.add(order("t"), 0.0)
    holdings.add(order("t", lease("database/1")), 1.0)
    assert holdings.next_renewal() == 31.0
    assert not holdings.revoke(2.0)
    assert store.asked == [("t", REVOKE)]
    assert not holdings.revoke(3.0)
    assert len(store.asked) == 1, "once"


@pytest.mark.parametrize("changes", [{"own": False}, {}])
def test_leases_are_revoked_one_by_one_when_the_token_is_not(changes: dict[str, Any]) -> None:
    """A token of the user is not revoked; a batch token cannot be."""
    store = Store(revoke_self=(400, {"errors": ["batch tokens cannot be revoked"]}))
    holdings = Holdings(store)
    holdings.add(order("t", lease("a"), lease("b"), **changes), 0.0)
    holdings.add(order("t", lease("b"), **changes), 1.0)
    assert not holdings.revoke(2.0)
    assert store.asked == [("t", REVOKE)] * (not changes) + [("t", "a"), ("t", "b")]


def test_an_order_with_leases_does_not_tell_the_life_of_a_token_that_is_known() -> None:
    """The keeper has renewed it since, which the sender does not know."""
    holdings = Holdings(Store())
    holdings.add(order("t"), 0.0)
    holdings.add(order("t", lease("a", 500.0), seconds=1.0), 40.0)
    assert holdings.next_renewal() == 50.0
    holdings.add(order("t", seconds=200.0), 45.0)
    assert holdings.next_renewal() == 145.0


def test_what_has_ended_is_not_revoked() -> None:
    store = Store()
    holdings = Holdings(store)
    holdings.add(order("old", renewable=False), 0.0)
    holdings.add(order("new", renewable=False), 90.0)
    holdings.add(order("endless", seconds=None), 90.0)
    assert not holdings.revoke(101.0)
    assert store.asked == [("new", REVOKE), ("endless", REVOKE)]


@pytest.mark.parametrize("answer", [None, (500, {}), (503, {}), (429, {}), (412, {})])
def test_what_got_no_answer_is_tried_again(answer: tuple[int, dict[str, Any]] | None) -> None:
    store = Store(revoke_self=answer)
    holdings = Holdings(store)
    holdings.add(order("t", lease("a")), 0.0)
    assert holdings.revoke(1.0)
    assert holdings.revoke(2.0)
    store.answers.clear()
    assert not holdings.revoke(3.0)
    assert store.asked == [("t", REVOKE)] * 3
    assert not Holdings(Store()).revoke(1.0)


def test_the_attempts_end() -> None:
    assert 30 < sum(keeper._PAUSES) < 120


@given(
    seconds=st.floats(0.001, 1e7) | st.none(),
    granted=st.lists(st.floats(0, 1e7), max_size=20),
)
def test_renewals_are_bounded_in_time(seconds: float | None, granted: list[float]) -> None:
    """Whatever a store grants: never twice within half a second, and never after the end of a life."""
    lives = iter(granted)
    store = Store()
    holdings = Holdings(store)
    holdings.add(order(seconds=seconds), 0.0)
    before = 0.0
    for life in lives:
        due = holdings.next_renewal()
        if due is None:
            break
        assert due >= before + 0.5
        before = due
        store.answers["renew_self"] = (200, {"auth": {"lease_duration": life}})
        holdings.renew(due)
