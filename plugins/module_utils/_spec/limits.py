# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much a consumer may ask of each model."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Consumer, ModelLimit, Spec

REQUESTS_PER_MINUTE = "requests_per_minute"
TOKENS_PER_MINUTE = "tokens_per_minute"
TOKENS_PER_DAY = "tokens_per_day"

# Pairs of a model and the highest number of its requests, or tokens, in a minute, sorted.
Rates = tuple[tuple[str, int], ...]


class ModelLimits:
    """The limits for models of a spec's consumers, with a memory: equal limits cost what one costs.

    ``what`` is the limit that is looked at, by its key in a spec.
    """

    def __init__(self, spec: Spec, what: str) -> None:
        self._what = what
        self._names = spec.model_names
        self._known: dict[tuple[tuple[str, ...], tuple[ModelLimit, ...]], Rates] = {}

    def of(self, consumer: Consumer) -> Rates:
        """Return the models that ``consumer`` may use and has limits for; equal limits give the same object.

        A limit for a model by its name goes before those for patterns, of which the lowest holds.
        """
        limits = consumer.limits.models
        if not limits:
            return ()
        key = (consumer.models, limits)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._resolved(self._names.matching_any(consumer.models), limits)
        return found

    def _resolved(self, allowed: Iterable[str], limits: tuple[ModelLimit, ...]) -> Rates:
        rates: dict[str, int] = {}
        stated = [(limit.name, getattr(limit, self._what)) for limit in limits]
        stated = [(name, rate) for name, rate in stated if rate is not None]
        for name, rate in stated:
            for model in self._names.matching(name):
                rates[model] = min(rates.get(model, rate), rate)
        rates.update({name: rate for name, rate in stated if name in rates})
        return tuple((model, rates[model]) for model in allowed if model in rates)
