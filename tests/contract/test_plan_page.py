"""The page of a plan in a browser: light and dark, on a screen and on a phone, with few models and with many."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, a_browser
from plan_examples import large_plan, small_plan

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.page import render_page

PLANS = {"small": small_plan(), "large": large_plan()}
PAPER = {False: (255, 255, 255), True: (20, 23, 27)}

# For each text that is seen, how much its colour differs from what is behind it, by WCAG 2.1; those that differ least.
CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    const shape = element.closest("svg g") && element.closest("g").querySelector("rect:last-of-type, circle");
    if (shape) return parse(getComputedStyle(shape).fill);
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    if (!texts.currentNode.data.trim() || box.width < 2 || element.closest("script, title, desc")) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(parse(element.closest("svg") ? style.fill : style.color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([ratio, `${element.tagName}.${element.className.baseVal ?? element.className}`]);
  }
  found.sort((one, other) => one[0] - other[0]);
  return [found.length, ...found.slice(0, 3)];
})()
"""
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("pages")
    return {name: page_of(directory / f"{name}.html", plan) for name, plan in PLANS.items()}


def page_of(path: Path, plan: FleetPlan) -> Path:
    path.write_text(render_page(plan))
    return path


def first_pixel(png: bytes) -> tuple[int, ...]:
    """The colour of the upper left corner, which no filter of PNG changes."""
    at = png.index(b"IDAT")
    size = int.from_bytes(png[at - 4 : at], "big")
    return tuple(zlib.decompressobj().decompress(png[at + 4 : at + 4 + size], 4)[1:])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PLANS)
def test_a_page_is_seen_well(browser: Browser, pages: dict[str, Path], name: str, dark: bool) -> None:
    with browser.open(pages[name], width=1280, dark=dark) as page:
        seen = page.screenshot()
        count, *faint = page.evaluate(CONTRAST)
        assert count > 100
        assert [each for each in faint if each[0] < 4.5] == []
        assert page.evaluate(OVERFLOW) == 0
        assert first_pixel(seen) == PAPER[dark]
        assert len(seen) > 30000
        page.resize(360, 740)
        assert page.evaluate(OVERFLOW) == 0
        assert page.evaluate("document.querySelector('.picture').scrollWidth") > 360
        assert page.complaints == []
        assert page.requests == [pages[name].as_uri()]


def test_the_filter_finds_and_the_picture_is_told(browser: Browser, pages: dict[str, Path]) -> None:
    with browser.open(pages["large"], width=1280) as page:
        found = page.evaluate(
            "(() => { const input = document.querySelector('input'); input.value = 'RETIRED'; "
            "input.dispatchEvent(new Event('input')); return document.querySelector('output').textContent; })()"
        )
        assert found == "1 of 38"
        hidden = page.evaluate(
            "[...document.querySelectorAll('.change')].filter((each) => !each.checkVisibility()).length"
        )
        assert hidden == 37
        told = page.accessible("image")
        assert told["name"] == "Consumers, models and providers"
        assert told["description"].startswith("40 consumers, 301 models, 20 providers. Removed: retired.")
        assert page.accessible("searchbox")["name"] == "Filter"


def test_paper_shows_what_is_folded(browser: Browser, pages: dict[str, Path]) -> None:
    folded = "document.querySelector('details.change:not([open]) table')"
    with browser.open(pages["small"], width=1280) as page:
        assert page.evaluate(f"{folded}.checkVisibility()") is False
        printed = page.pdf()
        page.on_paper()
        assert page.evaluate(f"{folded}.getBoundingClientRect().height") > 20
        assert page.complaints == []
    assert printed.startswith(b"%PDF-")


def test_a_page_is_complete_without_its_script(browser: Browser, tmp_path: Path) -> None:
    whole = render_page(PLANS["large"])
    begin, end = whole.index("<script>"), whole.index("</script>")
    path = tmp_path / "without.html"
    path.write_text(whole[:begin] + whole[end + len("</script>") :])
    with browser.open(path, width=1280) as page:
        assert page.evaluate("document.querySelectorAll('.change').length") == 38
        assert page.evaluate("document.querySelector('.filter').checkVisibility()") is False
