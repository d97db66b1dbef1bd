# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong between limits and the service that keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.draft import Draft
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.limits import TOKENS_PER_DAY
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.problems import Problems
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference


def check_rate_limit_service(spec: Draft, problems: Problems) -> None:
    """Note what is wrong with ``gateway_rate_limit_service``, and limits that need it where it is not."""
    service = spec.get("rate_limit_service")
    tls = service.get("tls") if isinstance(service, Draft) else None
    if isinstance(tls, Draft) and isinstance(tls.get("ca"), Reference):
        problems.add(f"{tls.path}.ca", "must be an absolute path on the host or PEM text: it is no secret")
    if spec.states("rate_limit_service"):
        return
    for limits in _all_limits(spec):
        if limits.states(TOKENS_PER_DAY):
            problems.add(
                f"{limits.path}.{TOKENS_PER_DAY}",
                "needs gateway_rate_limit_service: hosts forget what they have counted; "
                "set it, or tokens_per_minute instead",
            )


def _all_limits(spec: Draft) -> Iterator[Draft]:
    for attribute in ("models", "consumers"):
        for owner in (spec.get(attribute) or {}).values():
            limits = owner.get("limits") if isinstance(owner, Draft) else None
            if isinstance(limits, Draft):
                yield limits
                for limit in (limits.get("models") or {}).values():
                    if isinstance(limit, Draft):
                        yield limit
