"""Requests without a model, as the script lets them pass: against a plain Python model of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from unit.module_utils._envoy.test_lua import Script

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.endpoints import ENDPOINTS

pytest.importorskip("lupa.luajit21")

PATHS = [(name, methods, path) for name, pairs in ENDPOINTS.items() for methods, path in pairs]
SERVED = [entry for entry in PATHS if entry[0] != "evals"]
TEMPLATES = [path.split("/") for _name, _methods, path in SERVED]


WITH_A_MODEL = {"chat/completions", "completions", "responses", "videos"}


@pytest.fixture(scope="module")
def script() -> Script:
    users = [("all", name) for name in ENDPOINTS] + [("some", "files"), ("some", "threads")]
    members = [(name, "group") for name in ("all", "some", "none")]
    return Script(lua.read_model_script(members, lua.Resources(tuple(SERVED), tuple(users))))


def ask(script: Script, method: str, path: str, consumer: str = "all", query: str | None = None) -> Any:
    given = {"x_gw_consumer": consumer, "__method": method, "__path": path}
    return script.ask(b"", query, setting="query", **given)


SEGMENTS = st.one_of(
    st.sampled_from(sorted({segment for _name, _methods, path in PATHS for segment in path.split("/")})),
    st.from_regex(r"\A[\w.:-]{1,12}\Z", fullmatch=True).filter(str.isascii),
    st.sampled_from(["..", ".", "a b", "a%2fb", "%2e%2e", "a;b", "*", "", "é", "-a", "1", "endpoint"]),
)
SOME_PATHS = st.lists(SEGMENTS, max_size=6).map("/".join) | st.sampled_from(PATHS).flatmap(
    lambda entry: st.tuples(st.just(entry[2]), SEGMENTS).map(lambda pair: pair[0].replace("*", pair[1]))
)


def fits(template: list[str], path: list[str]) -> bool:
    """Whether a path is one of a template; what is a name at some place is no id there."""
    names = [
        {other[index] for other in TEMPLATES if other[:index] == template[:index] and len(other) > index}
        for index in range(len(template))
    ]
    return len(template) == len(path) and all(
        found == part if part != "*" else found not in known and re.fullmatch(r"\w[\w.:-]*", found, re.ASCII)
        for part, found, known in zip(template, path, names)
    )


def wanted(method: str, path: str, consumer: str) -> tuple[str | None, str | None]:
    """The status of the refusal, and the endpoint."""
    for name, methods, template in SERVED:
        if fits(template.split("/"), path.removeprefix("/v1/").split("/")):
            allowed = {"all": True, "some": name in ("files", "threads"), "none": False}[consumer]
            if not allowed:
                return "403", None
            return (None, name) if method in methods.split(", ") else ("405", None)
    return None, None


@given(SOME_PATHS, st.sampled_from(["GET", "POST", "DELETE", "PUT", "GE"]), st.sampled_from(["all", "some", "none"]))
@settings(max_examples=1000, deadline=None)
def test_what_passes(script: Script, path: str, method: str, consumer: str) -> None:
    # Others are the business of requests with a model, and of the list of models.
    assume(path.partition("/")[0] != "models" and path not in WITH_A_MODEL)
    result = ask(script, method, f"/v1/{path}", consumer)
    status, endpoint = wanted(method, f"/v1/{path}", consumer)
    assert result.status == (status.encode() if status else None)
    assert result.headers[b"x-gw-endpoint"] == (endpoint.encode() if endpoint else None)
    assert result.headers[b"x-gw-model"] is None
    assert bool(result.cleared) is (status is None)


@pytest.mark.parametrize(
    ("query", "fixed", "sent"),
    [
        ("", None, b""),
        ("?limit=2&after=a%26b", None, b"?limit=2&after=a%26b"),
        ("", "api-version=1", b"?api-version=1"),
        ("?limit=2", "api-version=1", b"?api-version=1&limit=2"),
        ("?Api-Version=2&api-version&&limit=2", "api-version=1", b"?api-version=1&limit=2"),
        ("?a?b#c?d", None, b"?a?b"),
    ],
)
def test_queries(script: Script, query: str, fixed: str | None, sent: bytes) -> None:
    result = ask(script, "GET", f"/v1/files{query}", query=fixed)
    assert result.headers[b":path"] == b"/v1/files" + sent


def test_a_model_and_an_endpoint_on_one_path(script: Script) -> None:
    assert ask(script, "GET", "/v1/chat/completions").headers[b"x-gw-endpoint"] == b"chat_completions"
    assert ask(script, "PUT", "/v1/chat/completions").status == b"405"
    given = {"x_gw_consumer": "all", "__method": "POST", "__path": "/v1/videos"}
    result = script.ask(b'{"model":"m"}', **given)
    assert (result.headers[b"x-gw-model"], result.headers[b"x-gw-endpoint"]) == (b"m", None)


def test_an_endpoint_that_is_not_served(script: Script) -> None:
    result = ask(script, "GET", "/v1/evals")
    assert (result.status, result.headers[b"x-gw-endpoint"]) == (None, None)
