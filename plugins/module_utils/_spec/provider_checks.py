# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only shows when several keys of a provider are looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.draft import UNREADABLE, Draft
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import did_you_mean, show
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.problems import Problems
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl

_AZURE_PATH = re.compile(r"/openai(/v1|/deployments/.*)?$")


def check_provider(provider: Draft, problems: Problems) -> None:
    """Note what is wrong with a provider's draft as a whole."""
    urls = provider.get("base_urls") or []
    readable = [(index, url) for index, url in enumerate(urls) if url is not UNREADABLE]
    check_duplicates(readable, f"{provider.path}.base_url", "URL", problems)
    for index, url in readable[1:]:
        first_index, first = readable[0]
        if (url.scheme, url.path) != (first.scheme, first.path):
            problems.add(
                f"{provider.path}.base_url[{index}]",
                f"must have the scheme and path of base_url[{first_index}]; other ones need a provider of their own",
            )
    _check_tls(provider, [url for _index, url in readable], problems)
    kind = provider.get("type")
    if kind not in (None, "anthropic") and provider.get("max_tokens") is not None:
        problems.add(f"{provider.path}.max_tokens", f"is not allowed for the type {kind}")
    if kind == "azure_openai":
        for index, url in readable:
            if _AZURE_PATH.search(url.path):
                where = f"{provider.path}.base_url" + (f"[{index}]" if len(urls) > 1 else "")
                problems.add(where, "must end before /openai, which the api_version adds")


def _check_tls(provider: Draft, urls: list[BaseUrl], problems: Problems) -> None:
    tls = provider.get("tls")
    if not isinstance(tls, Draft):
        return
    if any(url.scheme != "https" for url in urls):
        problems.add(tls.path, "is allowed with https URLs only")
    for one, other in (("certificate", "private_key"), ("private_key", "certificate")):
        if tls.states(one) and not tls.states(other):
            problems.add(f"{tls.path}.{other}", f"is required with {one}")


def check_provider_of(entry: Draft, providers: Any, problems: Problems) -> None:
    """Note a provider that ``entry`` names and the spec does not have."""
    provider = entry.get("provider")
    if provider is not None and providers is not None and provider not in providers:
        near = problems.nearest("gateway_providers", provider, providers)
        problems.add(f"{entry.path}.provider", f"no provider named {show(provider)}{did_you_mean(near)}")


def check_duplicates(items: Iterable[tuple[int, Any]], path: str, what: str, problems: Problems) -> None:
    """Note the items of a list that are there already."""
    seen: dict[Any, int] = {}
    for index, item in items:
        first = seen.setdefault(item, index)
        if first != index:
            problems.add(f"{path}[{index}]", f"is the same {what} as {path.rpartition('.')[2]}[{first}]")
