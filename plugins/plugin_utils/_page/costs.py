# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What models cost, by the prices that the specification states: before, after, and what could not be priced.

A price belongs to the name that clients ask for, whoever serves it. Money is USD, in decimals: no cent is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.patterns import ModelNames
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.resources import count, named, part, texts

#: The traffic of the example, in millions of tokens.
EXAMPLE_INPUT = Decimal(1)
EXAMPLE_OUTPUT = Decimal("0.25")
_MILLION = 1000000

Resources = Mapping[str, Any]


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input: Decimal
    output: Decimal

    @property
    def example(self) -> Decimal:
        """What the traffic of the example costs."""
        return EXAMPLE_INPUT * self.input + EXAMPLE_OUTPUT * self.output

    @property
    def highest(self) -> Decimal:
        """What a token costs at most, in USD per million."""
        return max(self.input, self.output)


@dataclass(frozen=True)
class ModelCost:
    """A model that has a price on some side. ``rerouted`` is whether others serve it and the price stays as it was."""

    name: str
    before: Price | None
    after: Price | None
    removed: bool = False
    rerouted: bool = False

    @property
    def changed(self) -> bool:
        """Whether there is something to look at."""
        return self.before != self.after or self.rerouted

    @property
    def difference(self) -> Decimal | None:
        """How much more the example costs than before, where both are known."""
        return self.after.example - self.before.example if self.before and self.after else None


@dataclass(frozen=True)
class DayCost:
    """What a consumer's tokens of a day cost at most. None: there is no bound, or a model of it has no price."""

    name: str
    before: Decimal | None
    after: Decimal | None
    unpriced: tuple[str, ...] = ()
    endpoints: bool = False

    @property
    def changed(self) -> bool:
        """Whether there is something to look at."""
        return self.before != self.after


@dataclass(frozen=True)
class Costs:
    """All that can be said: models with a price, the names of those without, and consumers with a bound for a day."""

    models: tuple[ModelCost, ...]
    unpriced: tuple[str, ...]
    days: tuple[DayCost, ...]
    unbounded: int

    @property
    def changed(self) -> tuple[ModelCost, ...]:
        """The models to look at, those first whose example changes most."""
        moved = [model for model in self.models if model.changed]
        return tuple(sorted(moved, key=lambda model: (-abs(model.difference or Decimal(0)), model.name)))

    @property
    def known(self) -> bool:
        """Whether the specification states any price."""
        return bool(self.models)

    @property
    def together(self) -> Decimal | None:
        """What all consumers together cost in a day at most; None where one of them has no bound."""
        # A consumer that is removed spends nothing.
        days = [day.after for day in self.days if day.after is not None]
        bounded = not self.unbounded and not any(day.unpriced for day in self.days)
        return sum(days, Decimal(0)) if days and bounded else None


def costs(before: Resources, after: Resources) -> Costs:
    """Return what the models of a group of hosts cost, and what its consumers can spend in a day."""
    old, new = named(before, "gateway_models"), named(after, "gateway_models")
    priced = [
        ModelCost(
            name=name,
            before=_price(old.get(name)),
            after=_price(new.get(name)),
            removed=name not in new,
            rerouted=name in old and name in new and _is_rerouted(old[name], new[name]),
        )
        for name in sorted({*old, *new})
    ]
    days, unbounded = _days(before, after)
    return Costs(
        models=tuple(model for model in priced if model.before or model.after),
        unpriced=tuple(model.name for model in priced if not model.after and not model.removed),
        days=days,
        unbounded=unbounded,
    )


def _price(model: Any) -> Price | None:
    price = part(model, "price")
    given, received = _amount(price.get("input")), _amount(price.get("output"))
    return None if given is None or received is None else Price(given, received)


def _amount(value: Any) -> Decimal | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return Decimal(str(value)) if is_number else None


def _is_rerouted(old: Any, new: Any) -> bool:
    def servers(model: Any) -> Any:
        return [model.get(key) for key in ("targets", "fallbacks")] if isinstance(model, Mapping) else None

    return servers(old) != servers(new) and _price(old) == _price(new)


def _days(before: Resources, after: Resources) -> tuple[tuple[DayCost, ...], int]:
    """The consumers that a limit for a day holds for, and how many others there will be."""
    old, new = _Side(before), _Side(after)
    found, unbounded = [], 0
    for name in sorted({*old.consumers, *new.consumers}):
        was, unpriced_before = old.day(name)
        will, unpriced = new.day(name)
        if was is None and will is None and not unpriced and not unpriced_before:
            unbounded += name in new.consumers
            continue
        if name in new.consumers and will is None and not unpriced:
            unbounded += 1
        found.append(DayCost(name, was, will, unpriced, bool(texts(new.consumers.get(name), "endpoints"))))
    return tuple(found), unbounded


class _Side:
    """The consumers and models of one side, and what the former can spend."""

    def __init__(self, resources: Resources) -> None:
        self.consumers = named(resources, "gateway_consumers")
        self._models = named(resources, "gateway_models")
        self._names = ModelNames(self._models)
        self._prices = {name: _price(model) for name, model in self._models.items()}
        self._shared = {name: count(part(model, "limits"), "tokens_per_day") for name, model in self._models.items()}
        self._dearest: dict[tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def day(self, name: str) -> tuple[Decimal | None, tuple[str, ...]]:
        """What a consumer's tokens of a day cost at most, and which of its models have no price."""
        if name not in self.consumers:
            return None, ()
        consumer = self.consumers[name]
        limits = part(consumer, "limits")
        models, unpriced = self._allowed(texts(consumer, "models"))
        stated = self._stated(part(limits, "models"))
        left = count(limits, "tokens_per_day")
        if left is None and any(self._cap(model, stated) is None for model in (*models, *unpriced)):
            return None, ()
        if unpriced:
            return None, unpriced
        spent = Decimal(0)
        for model, price in ((model, self._prices[model]) for model in models):
            taken = min(limit for limit in (self._cap(model, stated), left) if limit is not None)
            spent += taken * (price.highest if price else 0)
            left = None if left is None else left - taken
            if left == 0:
                break
        return spent / _MILLION, ()

    def _allowed(self, patterns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The models of a consumer, the dearest first: nobody can spend more. And those without a price."""
        if patterns not in self._dearest:
            allowed = self._names.matching_any(patterns)
            prices = [(-price.highest, model) for model in allowed if (price := self._prices[model])]
            unpriced = tuple(model for model in allowed if not self._prices[model])
            self._dearest[patterns] = (tuple(model for _price, model in sorted(prices)), unpriced)
        return self._dearest[patterns]

    def _stated(self, limits: Mapping[str, Any]) -> dict[str, int]:
        """A consumer's tokens of a day by model: the limit of its own name, else the lowest of patterns."""
        by_pattern = {
            pattern: limit for pattern in limits if (limit := count(limits[pattern], "tokens_per_day")) is not None
        }
        stated: dict[str, int] = {}
        for pattern, limit in by_pattern.items():
            for model in self._names.matching(pattern):
                stated[model] = min(stated.get(model, limit), limit)
        return {model: by_pattern.get(model, limit) for model, limit in stated.items()}

    def _cap(self, model: str, stated: Mapping[str, int]) -> int | None:
        """How many tokens of a model a consumer can use in a day, by its own limit and that of all consumers."""
        found = (stated.get(model), self._shared[model])
        return min((limit for limit in found if limit is not None), default=None)


def money(amount: Decimal) -> str:
    """An amount of USD with two decimals, or as many more as it has: `$1,250.00`, `$0.0125`."""
    text = f"{abs(amount):,f}"
    whole, _point, cents = text.partition(".")
    return f"{'−' if amount < 0 else ''}${whole}.{cents.rstrip('0').ljust(2, '0')}"
