# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps from one set of xDS files to another that lose no request.

Envoy reads changed files in no order, so no file may ever need what another has not brought yet. Clusters, the tunnels
of their proxies and egress routes are named by their content, and access groups by their meaning; hence a union of old
and new is never ambiguous, and three sets of files, each accepted before the next, are enough:

1. the old files, with the clusters, tunnels, egress routes and access groups of both: adds only,
2. the new files, with the same union: moves the traffic,
3. the new files: prunes, once no request is left that began before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError

Config = dict[str, Any]
Files = dict[str, Config]

_LISTENERS = "envoy/lds.json"
_CLUSTERS = "envoy/cds.json"
_EGRESS = "envoy/rds-egress.json"
_GATEWAY = "envoy/rds-gateway.json"
# A listener that drains reads on what is there for it: certificates, and filters of its own.
_FOR_LISTENERS = ("envoy/sds-", "envoy/ecds-")
_LONGEST_LISTING = "max_direct_response_body_size_bytes"


def transition(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> tuple[Mapping[str, bytes], ...]:
    """Return the sets of files to go through from ``old`` (empty for a first start) to ``new``; the last is ``new``.

    Keys are paths such as ``envoy/lds.json``; other files are left out. A step that changes nothing is left out, so
    equal files make no step at all. Every step has a ``version_info`` of its own, by which it is known that Envoy has
    accepted it. Raises :class:`ReleaseError` for files that are not a release's.
    """
    try:
        before, after = _parsed(old), _parsed(new)
        if not before:
            return (_only_xds(new),)
        steps = [_with_union(before, after), _with_union(after, before)]
        return _distinct(before, steps, after, new)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ReleaseError(f"these are no xDS files of a release: {type(error).__name__} {error}") from error


def _is_xds(path: str) -> bool:
    name = path.rpartition("/")[2]
    return path == f"envoy/{name}" and name.endswith(".json") and not name.startswith("bootstrap-")


def _only_xds(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if _is_xds(path)}


def _parsed(files: Mapping[str, bytes]) -> Files:
    return {path: json.loads(content) for path, content in _only_xds(files).items()}


def _distinct(
    before: Files, steps: list[Files], after: Files, new: Mapping[str, bytes]
) -> tuple[Mapping[str, bytes], ...]:
    """Return the steps that change something, written down, with versions of their own."""
    version = after[_CLUSTERS]["version_info"]
    result: list[Mapping[str, bytes]] = []
    at = _resources(before)
    end = _resources(after)
    for number, step in enumerate(steps, 1):
        resources = _resources(step)
        if resources in (at, end):
            continue
        at = resources
        result.append({path: _written(found, f"{version}.{number}") for path, found in resources.items()})
    if at != end:
        result.append(_only_xds(new))
    return tuple(result)


def _resources(files: Files) -> dict[str, list[Config]]:
    return {path: content["resources"] for path, content in files.items()}


def _written(resources: list[Config], version: str) -> bytes:
    return canonical_json({"version_info": version, "resources": resources})


def _with_union(files: Files, others: Files) -> Files:
    """Return ``files`` with what of ``others`` may be there beside them: clusters and their tunnels, egress routes,
    access groups and what listeners read."""
    result = dict(files)
    for path, content in others.items():
        if path.startswith(_FOR_LISTENERS):
            result.setdefault(path, content)
    result[_LISTENERS] = _replaced(files[_LISTENERS], _all_tunnels(files, others))
    result[_CLUSTERS] = _replaced(files[_CLUSTERS], _all_clusters(files, others))
    result[_EGRESS] = _replaced(files[_EGRESS], [_all_egress_routes(files, others)])
    result[_GATEWAY] = _replaced(files[_GATEWAY], [_all_access(files, others)])
    return result


def _replaced(content: Config, resources: list[Config]) -> Config:
    return {**content, "resources": resources}


def _all_tunnels(files: Files, others: Files) -> list[Config]:
    """Return the listeners of ``files`` with those to the forward proxies of ``others``."""
    listeners = list(files[_LISTENERS]["resources"])
    known = {listener["name"] for listener in listeners}
    return listeners + [
        listener
        for listener in others[_LISTENERS]["resources"]
        if "internal_listener" in listener and listener["name"] not in known
    ]


def _all_clusters(files: Files, others: Files) -> list[Config]:
    clusters = {cluster["name"]: cluster for cluster in others[_CLUSTERS]["resources"]}
    clusters.update({cluster["name"]: cluster for cluster in files[_CLUSTERS]["resources"]})
    return [clusters[name] for name in sorted(clusters)]


# ---- routes: a map from a header's value to a route, and for what is not in it perhaps others


def _configuration(files: Files, path: str) -> Config:
    configuration: Config = files[path]["resources"][0]
    return configuration


def _matcher(configuration: Config) -> Config:
    matcher: Config = configuration["virtual_hosts"][0]["matcher"]
    return matcher


def _map(matcher: Config | None) -> Config:
    if matcher is None:
        return {}
    found: Config = matcher["matcher_tree"]["exact_match_map"]["map"]
    return found


def _with_map(matcher: Config, entries: Config) -> Config:
    return {**matcher, "matcher_tree": {**matcher["matcher_tree"], "exact_match_map": {"map": entries}}}


def _with_matcher(configuration: Config, matcher: Config) -> Config:
    host = configuration["virtual_hosts"][0]
    return {**configuration, "virtual_hosts": [{**host, "matcher": matcher}]}


def _all_egress_routes(files: Files, others: Files) -> Config:
    configuration = _configuration(files, _EGRESS)
    matcher = _matcher(configuration)
    routes = {**_map(_matcher(_configuration(others, _EGRESS))), **_map(matcher)}
    return _with_matcher(configuration, _with_map(matcher, routes))


# ---- access: which groups there are is the map of what /v1/models tells each, which groups a route lets in is on it


def _all_access(files: Files, others: Files) -> Config:
    """Return the gateway's routes of ``files``, which let in the groups of ``others`` as those files do."""
    configuration, other_configuration = _configuration(files, _GATEWAY), _configuration(others, _GATEWAY)
    matcher, other_matcher = _matcher(configuration), _matcher(other_configuration)
    listings, other_listings = _listings(matcher), _listings(other_matcher)
    groups, other_groups = _map(listings), _map(other_listings)
    other_routes = _map(other_matcher)
    entries = {}
    for model, entry in _map(matcher).items():
        allowed = _allowed(entry, groups)
        if model in other_routes:
            allowed |= _allowed(other_routes[model], other_groups)
        entries[model] = _with_allowed(entry, allowed, set(groups) | set(other_groups))
    result = _with_map(matcher, entries)
    shell = listings or other_listings
    if shell is not None:
        result = _with_listings(result, _with_map(shell, {**other_groups, **groups}))
    longest = max(each[_LONGEST_LISTING] for each in (configuration, other_configuration))
    return {**_with_matcher(configuration, result), _LONGEST_LISTING: longest}


def _is_listings(matcher: Config) -> bool:
    name: str = matcher["matcher_tree"]["input"]["name"]
    return name == xds.ACCESS


def _listings(matcher: Config) -> Config | None:
    """Return the map of what /v1/models tells each group, which is the last of the maps."""
    found: Config | None = matcher.get("on_no_match", {}).get("matcher")
    return found if found is None or _is_listings(found) else _listings(found)


def _with_listings(matcher: Config, listings: Config) -> Config:
    after = matcher.get("on_no_match", {}).get("matcher")
    if after is None or _is_listings(after):
        return {**matcher, "on_no_match": {"matcher": listings}}
    return {**matcher, "on_no_match": {"matcher": _with_listings(after, listings)}}


def _route(entry: Config) -> Config:
    route: Config = entry["action"]["typed_config"]
    return route


def _allowed(entry: Config, groups: Config) -> set[str]:
    """Return the groups that a route lets in, of all that its files know."""
    config = _route(entry).get("typed_per_filter_config", {}).get(xds.ACCESS_LIST)
    return set(groups) if config is None else set(_map(config["rbac"].get("matcher")))


def _with_allowed(entry: Config, allowed: set[str], everybody: set[str]) -> Config:
    route = {key: value for key, value in _route(entry).items() if key != "typed_per_filter_config"}
    if allowed != everybody or not allowed:
        route["typed_per_filter_config"] = {xds.ACCESS_LIST: xds.access_list(sorted(allowed))}
    return {"action": {**entry["action"], "typed_config": route}}
