# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only shows when the endpoints without a model are looked at together with who serves and who uses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.draft import UNREADABLE, Draft
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import show
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.problems import Problems
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.provider_checks import (
    check_duplicates,
    check_provider_of,
)


def check_endpoint(endpoint: Draft, providers: Any, problems: Problems) -> None:
    """Note a provider that is not there, or has no such endpoints."""
    check_provider_of(endpoint, providers, problems)
    provider = (providers or {}).get(endpoint.get("provider"))
    if isinstance(provider, Draft) and provider.get("type") == "anthropic":
        problems.add(f"{endpoint.path}.provider", "is of the type anthropic, which serves models only")


def check_endpoints(consumers: Iterable[Draft], endpoints: Any, problems: Problems) -> None:
    """Note the endpoints of consumers that nobody serves."""
    for consumer in consumers:
        names = [pair for pair in enumerate(consumer.get("endpoints") or ()) if pair[1] is not UNREADABLE]
        check_duplicates(names, f"{consumer.path}.endpoints", "endpoint", problems)
        for index, name in names:
            if endpoints is not None and name not in endpoints:
                path = f"{consumer.path}.endpoints[{index}]"
                problems.add(path, f"no endpoint named {show(name)} in gateway_endpoints")
