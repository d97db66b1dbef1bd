# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often a consumer may ask for each model."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Consumer, ModelLimit, Spec

# Pairs of a model and the highest number of its requests in a minute, sorted.
Rates = tuple[tuple[str, int], ...]


class ModelLimits:
    """The limits for models of a spec's consumers, with a memory: equal limits cost what one costs."""

    def __init__(self, spec: Spec) -> None:
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
        for limit in limits:
            for model in self._names.matching(limit.name):
                rates[model] = min(rates.get(model, limit.requests_per_minute), limit.requests_per_minute)
        rates.update({limit.name: limit.requests_per_minute for limit in limits if limit.name in rates})
        return tuple((model, rates[model]) for model in allowed if model in rates)
