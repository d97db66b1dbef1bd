# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose secrets changed, for any two sets of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secret_names import file_of_provider
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import consumer_keys
from ansible_collections.gatewayops.openai.plugins.module_utils._release.rotation import (
    Rotated,
    describe,
    lines,
    rotated,
    unnamed,
)

CANARY = "canary"
Clients = Mapping[str, frozenset[str]]

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,6}", fullmatch=True)
values = st.sampled_from([f"{CANARY}-{number}" for number in range(4)])
# No key has two owners: the compiler refuses that.
clients = st.dictionaries(values, names, max_size=4).map(
    lambda owners: {
        owner: frozenset(key for key, each in owners.items() if each == owner) for owner in set(owners.values())
    }
)
singles = st.dictionaries(names, values, max_size=4)


def consumers_document(owners: Clients, *, backwards: bool = False) -> dict[str, Any]:
    entries = [{"key": key, "client": owner} for owner, keys in sorted(owners.items()) for key in sorted(keys)]
    return {"resources": [consumer_keys(entries[::-1] if backwards else entries)]}


def secret_document(value: str) -> dict[str, Any]:
    return {"resources": [{"generic_secret": {"secret": {"inline_string": value}}}]}


def documents(owners: Clients, providers: Mapping[str, str], listeners: Mapping[str, str]) -> dict[str, Any]:
    return {
        "consumers.json": consumers_document(owners),
        **{file_of_provider(name, "openai", ["https://x/v1"]): secret_document(v) for name, v in providers.items()},
        **{f"listener-{name}.json": secret_document(value) for name, value in listeners.items()},
    }


@given(clients, clients, singles, singles, singles, singles)
def test_exactly_what_differs_is_named(
    old: Clients,
    new: Clients,
    old_providers: Mapping[str, str],
    new_providers: Mapping[str, str],
    old_listeners: Mapping[str, str],
    new_listeners: Mapping[str, str],
) -> None:
    found = rotated(documents(old, old_providers, old_listeners), documents(new, new_providers, new_listeners))
    assert found.consumers == tuple(sorted(name for name in {*old, *new} if old.get(name) != new.get(name)))
    assert found.providers == tuple(sorted(n for n, value in new_providers.items() if old_providers.get(n) != value))
    assert found.listeners == tuple(sorted(n for n, value in new_listeners.items() if old_listeners.get(n) != value))
    shown = " ".join((describe(found.as_dict(), ()), *lines(found.as_dict(), ())))
    assert CANARY not in shown
    assert all(name in shown for name in (*found.consumers, *found.providers, *found.listeners))


@given(clients, singles, singles)
def test_equal_sets_name_nobody_however_they_are_ordered(
    owners: Clients, providers: Mapping[str, str], listeners: Mapping[str, str]
) -> None:
    before = documents(owners, providers, listeners)
    after = {**before, "consumers.json": consumers_document(owners, backwards=True)}
    assert rotated(before, after) == Rotated()
    assert describe(rotated(before, after).as_dict(), ()) == "nothing changed"


@given(clients, clients)
def test_files_that_do_not_come_are_left_aside(old: Clients, new: Clients) -> None:
    before = documents(old, {"a": f"{CANARY}-0"}, {})
    assert rotated(before, {"consumers.json": consumers_document(new)}).providers == ()
    assert rotated(before, {}) == Rotated()


@given(clients)
def test_what_was_lost_or_damaged_counts_as_changed(owners: Clients) -> None:
    after = documents(owners, {"a": f"{CANARY}-0"}, {"public": f"{CANARY}-1"})
    everybody = Rotated(tuple(sorted(owners)), ("a",), ("public",))
    assert rotated({}, after) == everybody
    assert rotated({name: {"resources": [7]} for name in after}, after) == everybody


@given(singles, values)
def test_a_provider_with_two_destinations_is_named_once(providers: Mapping[str, str], value: str) -> None:
    two = {file_of_provider("a", "openai", [f"https://{host}/v1"]): secret_document(value) for host in ("x", "y")}
    assert rotated({}, two).providers == ("a",)


@pytest.mark.parametrize(
    ("names", "files", "line", "shown"),
    [
        ({}, [], "nothing changed", []),
        (
            {"consumers": ["batch", "search"], "providers": ["openai"], "listeners": ["public"], "issuers": []},
            ["consumers.json", "provider-openai-0123abcd.json", "listener-public.json"],
            "consumers: batch, search; providers: openai; listeners: public",
            [
                "  ~ key of consumer batch (not shown)",
                "  ~ key of consumer search (not shown)",
                "  ~ key of provider openai (not shown)",
                "  ~ certificate of listener public (not shown)",
            ],
        ),
        (
            {"providers": ["a", "b"], "listeners": ["public"]},
            [
                *("identity-a-0123abcd.json", "authorities-b-0123abcd.json", "provider-b-0123abcd.json"),
                *("clients-public.json", "listener-public.json"),
            ],
            "providers: a, b; listeners: public",
            [
                "  ~ certificate of provider a (not shown)",
                "  ~ key, CAs of provider b (not shown)",
                "  ~ certificate, CAs of clients of listener public (not shown)",
            ],
        ),
        (
            {"consumers": [], "providers": ["openai"], "listeners": [], "issuers": []},
            [".", "consumers.json", "provider-openai-0123abcd.json", "provider-openai.json", "listener-public.json"],
            "providers: openai; files: ., consumers.json, listener-public.json, provider-openai.json",
            [
                "  ~ key of provider openai (not shown)",
                "  ~ secret file . (not shown)",
                "  ~ secret file consumers.json (not shown)",
                "  ~ secret file listener-public.json (not shown)",
                "  ~ secret file provider-openai.json (not shown)",
            ],
        ),
    ],
)
def test_what_people_are_told(names: dict[str, list[str]], files: list[str], line: str, shown: list[str]) -> None:
    assert describe(names, files) == line
    assert list(lines(names, files)) == shown


def test_the_cas_of_clients_are_their_listeners() -> None:
    assert rotated({}, {"clients-public.json": secret_document("x")}) == Rotated(listeners=("public",))
    assert unnamed(["clients-public.json"], {"listeners": ["public"]}) == ()


def test_keys_of_issuers_are_named() -> None:
    def document(**keys: str) -> dict[str, Any]:
        providers = {name: {"local_jwks": {"inline_string": text}} for name, text in keys.items()}
        return {"resources": [{"typed_config": {"providers": {**providers, "fetched": {"remote_jwks": {}}}}}]}

    file = "jwt-issuers-0123abcd.json"
    found = rotated({file: document(a="1", b="1")}, {file: document(a="2", b="1")})
    assert found == Rotated(issuers=("a",))
    assert rotated({}, {file: document(a="1", b="1")}) == Rotated(issuers=("a", "b"))
    assert unnamed([file], found.as_dict()) == ()
    assert unnamed([file], Rotated().as_dict()) == (file,)
    assert describe(found.as_dict(), [file]) == "issuers: a"
    assert lines(found.as_dict(), [file]) == ("  ~ keys of issuer a (not shown)",)


def test_the_headers_of_a_collector() -> None:
    file = "otlp-authorization-0123abcd.json"
    assert rotated({}, {file: secret_document("x")}) == Rotated(collector_headers=("authorization",))
    names = {"collector_headers": ["authorization"]}
    assert describe(names, [file]) == "collector headers: authorization"
    assert lines(names, [file]) == ("  ~ header authorization for the collector (not shown)",)


def test_a_file_is_explained_by_its_name_only() -> None:
    assert unnamed(["provider-openai-0123abcd.json"], {"listeners": ["openai"], "consumers": ["openai"]}) == (
        "provider-openai-0123abcd.json",
    )
