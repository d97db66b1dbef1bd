from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_examples import AFTER, BEFORE, FINDING, a_host, a_plan, large_plan, small_plan

from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.page import render_page

VOID = {"meta", "link", "input", "wbr", "path", "rect", "circle"}
#: What may bring something from elsewhere, or run something.
REFERS = {"href", "src", "srcset", "action", "data", "poster", "style", "formaction", "xlink:href", "background"}

ugly = st.text(
    st.sampled_from(list("<>&\"'/= ;{}%`-!\\\n\u202e\0a")) | st.characters(codec="utf-8"), min_size=1, max_size=20
) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</title><script>",
        "</style><script>",
        "]]><!--",
        "{{ 7 * 7 }}{% raw %}",
        "' onload='alert(1)",
        "</svg><svg onload=alert(1)>",
    ]
)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ugly
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ugly, inner, max_size=3))


class Reader(HTMLParser):
    """What a page is made of; its tags have to be closed in the order in which they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.text += " "
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]


def words(page: str) -> str:
    """The text of a page on one line."""
    return " ".join(Reader(page).text.split())


def test_the_page_tells_the_plan() -> None:
    said = words(render_page(small_plan()))
    for text in (
        "Plan: 3 to add, 2 to change, 1 to remove, on 2 hosts; nothing is known of 1 host",
        "gateway4 cannot be reached: no route to host",
        "gateway_consumers.old It sent 3 requests within the last hour and is removed. gateway1",
        "Requests for it are answered 404 from then on.",
        "gpt-5 $1.25 → $1.10 $10.00 → $8.80 $3.75 → $3.30 −$0.45",
        "Not priced: gpt-5-mini.",
        "batch $20.00 → $17.60",
        "assistant cannot be said: gpt-5-mini without a price",
        "−removed a value in the specification, not shown 1 as before",
        "vault://kv/consumers/search#next",
        "limits.requests_per_minute 600 300",
        "No changes gateway3",
        "Take the fallback 'vllm' out.",
        "2026-11-24 12:00 UTC",
    ):
        assert text in said
    assert said.index("gateway_models.gpt-4o Requests") < said.index("gateway_models.gpt-5 Others")


def test_the_same_plan_gives_the_same_page() -> None:
    turned = [dict(reversed(side.items())) for side in (BEFORE, AFTER)]
    assert render_page(a_plan(a_host("gw1"))) == render_page(a_plan(a_host("gw1", *turned)))


def test_a_page_runs_and_loads_only_what_its_policy_names() -> None:
    page = render_page(small_plan())
    reader = Reader(page)
    policy = next(found["content"] for tag, found in reader.tags if "http-equiv" in found)
    assert policy
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for kind in ("style", "script"):
        (source,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    refers = {(name, value) for _tag, found in reader.tags for name, value in found.items() if name in REFERS}
    assert refers == {("href", "data:,")}
    assert not [name for _tag, found in reader.tags for name in found if name.startswith("on")]
    assert "url(" not in page
    assert "@import" not in page


def test_a_page_of_many_models_is_small_and_names_them_all() -> None:
    page = render_page(large_plan())
    assert len(page) < 200000
    said = words(page)
    assert "40 hosts" in said
    assert "gateway-039.eu-central.example.com" in said
    assert "gateway_models.retired" in said


def test_nothing_to_do_still_shows_what_is_there() -> None:
    page = render_page(a_plan(a_host("gw1", AFTER), a_host("gw2", AFTER)))
    assert "<h1>No changes. 2 hosts as specified</h1>" in page
    assert 'class="same" open' in page
    assert "Changes</h3>" not in page


def test_what_a_host_lost_besides_is_told() -> None:
    host = a_host("gw1", AFTER, changed=True, drift=("envoy/lds.json (content)",), process="start")
    said = words(render_page(a_plan(host)))
    assert "Changed on the host: envoy/lds.json (content). Envoy is started." in said


def test_ids_are_there_once_and_labels_lead_to_them() -> None:
    plan = a_plan(*(a_host(f"gw{number}", drift=(str(number),)) for number in range(3)))
    tags = Reader(render_page(plan)).tags
    ids = [found["id"] for _tag, found in tags if "id" in found]
    assert len(ids) == len(set(ids))
    named = [found.get(key) for _tag, found in tags for key in ("aria-labelledby", "aria-describedby", "for")]
    assert {each for name in named if name for each in name.split()} <= set(ids)


def with_text(text: str) -> str:
    """A page with a text in every place that one can come from."""
    model = {
        "targets": [{"provider": text, "model": text, "weight": 1}],
        text: text,
        "price": {"input": 1, "output": 2},
    }
    consumer = {"models": [text], "limits": {"tokens_per_day": 5}, "api_keys": [text]}
    after: dict[str, Any] = {
        f"gateway_models.x{text}": model,
        f"gateway_providers.{text}": {"type": text, "region": text},
        f"gateway_consumers.{text}": consumer,
        f"gateway_x.{text}": {"name": text},
    }
    host = a_host("h" + text, {}, after, drift=(text,), process="x" + text, in_use={text: 2})
    finding = {**FINDING, **dict.fromkeys(("path", "message", "remedy", "rule"), "x" + text)}
    plan = a_plan(a_host("h" + text + "2", after, after, findings=(finding,)), host, **{"u" + text: "x" + text})
    return render_page(plan)


HARMLESS = Reader(with_text("abc")).shape


@given(ugly)
@settings(max_examples=150, deadline=None)
def test_no_text_becomes_markup(text: str) -> None:
    marked = f"q7{text}7q"
    page = with_text(marked)
    assert sorted(Reader(page).shape) == sorted(HARMLESS)
    assert marked not in page or not set(marked) & set("<>&\"'")
    page.encode()


@given(st.dictionaries(st.sampled_from(sorted(BEFORE)) | ugly, anything, max_size=4))
@settings(max_examples=150, deadline=None)
def test_whatever_a_host_tells_gives_a_page(before: dict[str, Any]) -> None:
    Reader(render_page(a_plan(a_host("gw1", before))))


@pytest.mark.parametrize("items", [list(range(500)), [{"a": number} for number in range(500)]])
def test_long_values_make_no_wall(items: Any) -> None:
    before, after = {"gateway_models.a": {"x": []}}, {"gateway_models.a": {"x": items}}
    page = render_page(a_plan(a_host("gw1", before, after)))
    assert "and 460 more, see plan.json" in page
