# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which models a consumer may use."""

from __future__ import annotations

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Consumer, Spec


def allowed_models(spec: Spec, consumer: Consumer) -> tuple[str, ...]:
    """Return the names of the models that ``consumer`` may use, sorted.

    Consumers with equal patterns get the same object, so that thousands of them cost what one costs.
    """
    return spec.model_names.matching_any(consumer.models)
