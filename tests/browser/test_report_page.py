"""The report in a browser: every text can be read in light, dark, print and on a phone, by eye, by pointer and by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.browser

VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light", "has_touch": True},
    # what is left of A4 between margins of 10 mm, at 96 pixels an inch
    "print": {"viewport": {"width": 718, "height": 1047}, "color_scheme": "dark"},
}
READ = Path(__file__).with_name("inspect.js").read_text()
TIP = "document.querySelector('.tip:not([hidden])')?.textContent ?? ''"
TABBED = """[...document.querySelectorAll("a[href], button, summary, [tabindex='0'], .scroll")].filter((each) =>
  each.checkVisibility() && (each.className !== "scroll" || each.scrollWidth > each.clientWidth)).length"""
"""How many elements the Tab key reaches. Browsers let it reach boxes that scroll, so that arrow keys move them."""

Open = Callable[..., Page]


@pytest.fixture
def page_of(browser: Browser, pages: dict[str, Path]) -> Iterator[Open]:
    """Open a study's report in a view; at the end nothing was asked of anywhere, and the console is empty."""
    contexts, said = [], []

    def open_page(study: str = "everything", view: str = "light", **more: Any) -> Page:
        context = browser.new_context(**VIEWS[view], **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on(
            "request", lambda request: said.append(f"request: {request.url}") if not request.url.startswith("file:") else None
        )
        page.emulate_media(media="print" if view == "print" else "screen")
        page.goto(pages[study].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("study", ["everything", "text"])
def test_every_text_can_be_read(page_of: Open, pictures: Path, study: str, view: str) -> None:
    page = page_of(study, view)
    page.screenshot(path=pictures / f"{study}-{view}.png", full_page=True)
    if view == "print":
        page.pdf(path=pictures / f"{study}.pdf", format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "10mm"))
    else:
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")

    found = page.evaluate(READ)
    assert found.pop("texts") > 100
    assert {fault: texts for fault, texts in found.items() if texts} == {}, f"see {pictures}"


@pytest.mark.parametrize(
    ("style", "list_of"),
    [
        ("h1 { color: #999 }", "faint"),
        (".answer td { position: relative; left: -9rem }", "overlapping"),
        (".lead { width: 8rem; overflow: hidden; white-space: nowrap }", "clipped"),
        (".pictures svg text { transform: translateX(-90px) }", "clipped"),
        ("main { width: 140rem }", "sideways"),
        (".pictures { width: 200px }", "small"),
    ],
)
def test_what_cannot_be_read_is_noticed(page_of: Open, style: str, list_of: str) -> None:
    page = page_of(bypass_csp=True)
    page.add_style_tag(content=style)
    assert page.evaluate(READ)[list_of]


@pytest.mark.parametrize("view", ["light", "dark", "phone"])
def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(page_of: Open, view: str) -> None:
    page = page_of(view=view)
    count = page.evaluate(TABBED)
    page.evaluate("window.reached = []")
    faults = []
    for step in range(count):
        page.keyboard.press("Tab")
        faults += page.evaluate(FOCUS, step)
    assert faults == []
    assert page.evaluate("new Set(window.reached).size") == count > 30


FOCUS = """(step) => {
  const here = document.activeElement;
  const style = getComputedStyle(here);
  const box = here.getBoundingClientRect();
  const name = `${step}: ${here.tagName} ${here.getAttribute("aria-label") ?? here.textContent.slice(0, 30)}`;
  const faults = [];
  if (here === document.body) faults.push(`${name}: no focus`);
  if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) faults.push(`${name}: no outline`);
  if (style.outlineColor === getComputedStyle(document.body).backgroundColor) faults.push(`${name}: outline like the page`);
  const inside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  if (!inside) faults.push(`${name}: out of sight`);
  const last = window.reached.at(-1);
  if (last && !(last.compareDocumentPosition(here) & Node.DOCUMENT_POSITION_FOLLOWING)) faults.push(`${name}: out of order`);
  window.reached.push(here);
  return faults;
}"""


def test_the_first_tab_leads_past_the_links(page_of: Open) -> None:
    page = page_of()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Best models for ")


def points(page: Page) -> Locator:
    """The points of the first picture."""
    return page.locator("[data-pareto]").first.locator("svg[role=group]").first.locator(".point:not([data-off])")


@pytest.mark.parametrize("view", ["light", "phone"])
def test_a_point_says_its_name_under_the_pointer(page_of: Open, view: str) -> None:
    page = page_of(view=view)
    assert page.evaluate(TIP) == ""
    point = points(page).filter(has=page.locator("xpath=self::*[@data-plan='tiny']")).first
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    said = page.evaluate(TIP)
    assert ": accuracy 0." in said and " MiB; " in said and " ms at batch 1" in said
    assert page.locator(".named").count() == 2, "the same model in both pictures"
    box, window = page.locator(".tip:not([hidden])").bounding_box(), page.viewport_size
    assert box and window and box["x"] >= 0 and box["x"] + box["width"] <= window["width"]
    page.mouse.move(0, 0)
    assert page.evaluate(TIP) == ""


def test_arrow_keys_go_from_point_to_point_cheapest_first(page_of: Open) -> None:
    page = page_of()
    points(page).first.scroll_into_view_if_needed()
    page.locator("svg .point[tabindex='0']").first.focus()
    names = []
    page.keyboard.press("Home")
    for _ in range(points(page).count()):
        names.append(page.evaluate(TIP))
        page.keyboard.press("ArrowRight")
    sizes = [float(name.split(" MiB")[0].split(" ")[-1]) for name in names]
    assert len(set(names)) == len(names) > 50 and sizes == sorted(sizes)
    assert page.evaluate(TIP) == names[0], "after the last one the first"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(TIP) == names[-1]
    page.keyboard.press("Escape")
    assert page.evaluate(TIP) == ""


def front(page: Page) -> str:
    return str(page.locator("[data-pareto] .front path").first.get_attribute("d"))


def test_a_click_shows_a_plan_or_a_format_alone_with_its_own_front(page_of: Open) -> None:
    page = page_of()
    box = page.locator("[data-pareto]").first
    every, whole = points(page).count(), front(page)
    assert box.locator("[role=status]").inner_text().startswith(f"{every} of {every} shown")

    button = box.get_by_role("button", name="onnx-int8", exact=True)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    formats = {point.get_attribute("data-format") for point in points(page).all()}
    assert formats == {"onnx-int8"} and 0 < points(page).count() < every and front(page) != whole
    rows = box.locator("details tbody tr:not([data-off])")
    assert rows.count() == points(page).count(), "the table of all models follows"

    box.get_by_role("button", name="tiny", exact=True).click()
    assert points(page).count() == 1
    box.get_by_role("button", name="onnx", exact=True).click()
    assert points(page).count() == 2
    for name in ("onnx-int8", "onnx", "tiny"):
        box.get_by_role("button", name=name, exact=True).click()
    assert points(page).count() == every and front(page) == whole


def test_models_that_failed_the_guard_are_marked_and_on_no_front(page_of: Open) -> None:
    page = page_of()
    failed = page.locator(".point[data-passed='no']")
    assert {point.get_attribute("data-plan") for point in failed.all()} == {"cofi"}
    assert all("failed the guard" in str(point.get_attribute("aria-label")) for point in failed.all())
    box = page.locator("[data-pareto]", has=failed.first)
    box.get_by_role("button", name="cofi", exact=True).click()
    box.get_by_role("button", name="openvino-int8", exact=True).click()
    corners = str(box.locator(".front path").first.get_attribute("d")).count("H") + 1
    shown = box.locator("svg").locator(".point:not([data-off])")
    passed = box.locator("svg .point:not([data-off])[data-passed='yes']")
    # both pictures show the three students of this plan, of which one failed
    assert (shown.count(), passed.count(), corners) == (6, 4, 2)


def test_it_reads_without_a_script(page_of: Open) -> None:
    page = page_of(java_script_enabled=False)
    assert page.get_by_role("button").count() == 0
    assert page.locator(".pictures svg").count() == 4 and page.locator(".name text").count() > 8
    assert page.locator(".point title").first.text_content()
    assert "Press plans" not in page.locator("body").inner_text()
    assert page.locator(".key svg").first.is_visible()
