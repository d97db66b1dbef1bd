from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from plan_examples import AFTER, BEFORE

from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.costs import Costs, costs, money


def day(models: dict[str, Any], limits: dict[str, Any], patterns: tuple[str, ...] = ("*",)) -> Costs:
    """What a consumer with these limits can spend on models of these prices and limits for all."""
    side: dict[str, Any] = {"gateway_consumers.c": {"models": patterns, "limits": limits}}
    for name, (price, shared) in models.items():
        side[f"gateway_models.{name}"] = {
            **({"price": {"input": price / 2, "output": price}} if price is not None else {}),
            **({"limits": {"tokens_per_day": shared}} if shared else {}),
        }
    return costs({}, side)


def test_a_price_before_and_after() -> None:
    found = costs(BEFORE, AFTER)
    by_name = {model.name: model for model in found.models}
    gpt5 = by_name["gpt-5"]
    assert gpt5.before
    assert gpt5.after
    assert (gpt5.before.example, gpt5.after.example, gpt5.difference) == (
        Decimal("3.75"),
        Decimal("3.3"),
        Decimal("-0.45"),
    )
    assert by_name["gpt-4o"].removed
    assert not by_name["text-embedding-3-small"].changed
    assert [model.name for model in found.changed] == ["gpt-5", "gpt-4o"]
    assert found.unpriced == ("gpt-5-mini",)


def test_a_model_that_others_serve_at_the_same_price_is_pointed_out() -> None:
    before = {"gateway_models.m": {"targets": [{"provider": "a"}], "price": {"input": 1, "output": 2}}}
    after = {"gateway_models.m": {"targets": [{"provider": "b"}], "price": {"input": 1, "output": 2}}}
    (model,) = costs(before, after).changed
    assert model.rerouted
    after["gateway_models.m"]["price"] = {"input": 1, "output": 3}  # type: ignore[assignment]
    (model,) = costs(before, after).changed
    assert not model.rerouted


def test_the_tokens_of_a_day_at_the_dearest_price() -> None:
    found = costs(BEFORE, AFTER)
    assert {each.name: (each.before, each.after, each.unpriced) for each in found.days} == {
        "assistant": (None, None, ("gpt-5-mini",)),
        "batch": (Decimal(20), Decimal("17.6"), ()),
        "search": (Decimal(50), Decimal(44), ()),
    }
    assert found.together is None


DEAR, CHEAP = (100, None), (10, None)


@pytest.mark.parametrize(
    ("models", "limits", "most"),
    [
        # the dear one as far as its own limit goes, the rest of the day's tokens for the cheap one
        (
            {"dear": DEAR, "cheap": CHEAP},
            {"tokens_per_day": 10**6, "models": {"dear": {"tokens_per_day": 10**5}}},
            Decimal(19),
        ),
        # no limit over all models, and one for each of them
        (
            {"dear": DEAR, "cheap": CHEAP},
            {"models": {"dear": {"tokens_per_day": 10**5}, "cheap": {"tokens_per_day": 10**6}}},
            Decimal(20),
        ),
        # the limit of a name goes before those of patterns, of which the lowest holds
        (
            {"dear": DEAR, "cheap": CHEAP},
            {
                "models": {
                    "*": {"tokens_per_day": 10**5},
                    "c*": {"tokens_per_day": 10**4},
                    "dear": {"tokens_per_day": 10**6},
                }
            },
            Decimal("100.1"),
        ),
        # what all consumers share bounds one of them, too
        ({"dear": (100, 10**4), "cheap": (10, 10**5)}, {"tokens_per_day": 10**6}, Decimal(2)),
        # a model without a limit of its own has the one over all
        ({"dear": DEAR}, {"tokens_per_day": 10**6, "models": {"dear": {"tokens_per_minute": 5}}}, Decimal(100)),
        ({}, {"tokens_per_day": 10**6}, Decimal(0)),
    ],
)
def test_limits_together(models: dict[str, Any], limits: dict[str, Any], most: Decimal) -> None:
    found = day(models, limits)
    assert found.days[0].after == found.together == most


def test_where_there_is_no_bound_none_is_told() -> None:
    found = day({"dear": DEAR, "cheap": CHEAP}, {"models": {"dear": {"tokens_per_day": 5}}})
    assert (found.days, found.unbounded, found.together) == ((), 1, None)


def test_a_model_without_a_price_leaves_no_figure() -> None:
    found = day({"dear": DEAR, "free": (None, None)}, {"tokens_per_day": 5})
    assert (found.days[0].after, found.days[0].unpriced, found.together) == (None, ("free",), None)


@pytest.mark.parametrize("price", [None, "1", True, float("nan"), float("inf"), [1], {"a": 1}])
def test_what_is_no_number_is_no_price(price: Any) -> None:
    side = {"gateway_models.m": {"price": {"input": price, "output": 1}}, "gateway_models.n": {"price": price}}
    assert costs(side, side).models == ()


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1250", "$1,250.00"),
        ("0.0125", "$0.0125"),
        ("-0.45", "−$0.45"),
        ("1E+2", "$100.00"),
        ("0", "$0.00"),
        ("1.10", "$1.10"),
    ],
)
def test_money(amount: str, text: str) -> None:
    assert money(Decimal(amount)) == text


def test_a_consumer_that_is_removed_spends_nothing() -> None:
    after = {
        "gateway_models.m": {"price": {"input": 1, "output": 2}},
        "gateway_consumers.stays": {"models": ["*"], "limits": {"tokens_per_day": 1000000}},
    }
    before = {**after, "gateway_consumers.goes": after["gateway_consumers.stays"]}
    assert costs(before, after).together == 2
