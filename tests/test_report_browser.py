"""The report in a browser: it loads alone, sorts, fits a phone, and runs nothing that data brought."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_runs as toy

from xairt.demo_page import write_page
from xairt.runs import Run, execute, write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}

LINES = """cell => {
  const lines = new Map();
  for (const node of [...cell.childNodes].filter(node => node.nodeType === Node.TEXT_NODE)) {
    for (let i = 0; i < node.length; i++) {
      const range = new Range();
      range.setStart(node, i);
      range.setEnd(node, i + 1);
      const top = Math.round(range.getBoundingClientRect().top);
      if (node.data.trim()) lines.set(top, (lines.get(top) ?? "") + node.data[i]);
    }
  }
  return [...lines.values()];
}"""
"""Script that gives the lines into which a browser broke the text of a cell."""


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium on this machine")
    pytest.importorskip("playwright", reason="needs playwright of the extra [dev]")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Return reports of a sound run, a spoiled one, and both with a third one."""
    folder = tmp_path_factory.mktemp("pages")
    sound = toy.make(folder / "sound")
    toy.make(folder / "spoiled", r2=0.5)
    spoiled = toy.spoil(folder / "spoiled")
    third = toy.make(folder / f"third{toy.HOSTILE}", n_samples=[1000, 2000, 4000], title="<b>")
    infinite = [
        {"label": label, "value": value} for label, value in zip("abc", (np.inf, 0.25, -np.inf), strict=True)
    ]
    infinite = pd.DataFrame(infinite).assign(metric="k", statistic="mean")
    benchmark = replace(toy.BENCHMARK, score=lambda case: infinite)
    execute(benchmark, benchmark.configured({"n_samples": [1000]}), folder / "infinite")
    return {
        "infinite": write_report([Run.open(folder / "infinite", benchmark)], folder / "infinite.html"),
        "two": write_report([sound, spoiled], folder / "two.html"),
        "sound": write_report([sound], folder / "sound.html"),
        "spoiled": write_report([spoiled], folder / "spoiled.html"),
        "several": write_report([sound, spoiled, third], folder / "several.html"),
    }


@pytest.fixture
def opened(browser, pages):
    """Return a function that opens a page in a window and collects what it asks for and complains about."""
    contexts = []

    def show(name: str, **options):
        context = browser.new_context(**{"viewport": DESKTOP} | options)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto((pages[name] if name in pages else Path(name)).as_uri())
        return page

    yield show
    for context in contexts:
        context.close()


def cells(page, column: int, table: str = "#leaderboard table") -> list[str]:
    rows = page.locator(table).first.locator(f"tbody td:nth-child({column})")
    return [text.strip() for text in rows.all_inner_texts()]


@pytest.mark.parametrize("name", ["sound", "spoiled", "several"])
def test_a_page_loads_alone_and_without_complaint(opened, pages, name):
    page = opened(name)
    assert [url for url in page.asked if not url.startswith("data:")] == [pages[name].as_uri()]
    assert page.complaints == []
    images = page.locator("figure img")
    assert images.count() >= 2
    assert all(images.nth(i).evaluate("i => i.naturalWidth") > 0 for i in range(images.count()))


def test_tables_are_sorted_by_click_and_by_keyboard(opened):
    page = opened("sound")
    heading = page.locator("#leaderboard table").first.locator("th", has_text="mean").first
    button = heading.locator("button")
    assert heading.get_attribute("aria-sort") == "none"
    button.click()
    assert heading.get_attribute("aria-sort") == "descending"
    values = [float(v) for v in cells(page, 2) if v != "not computed"]
    assert values == sorted(values, reverse=True)
    assert cells(page, 2)[-1] == "not computed"
    button.focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [float(v) for v in cells(page, 2)[:-1]] == values[::-1]
    assert cells(page, 2)[-1] == "not computed"  # what is missing is neither small nor large
    page.locator("#leaderboard table").first.locator("th", has_text="method").locator("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    labels = [text.split("\n")[0].removesuffix(" control") for text in cells(page, 1)]
    assert labels.index("deep_taylor") < labels.index("gradient") < labels.index("lrp.z")


@pytest.mark.parametrize("name", ["sound", "spoiled", "several"])
def test_a_phone_scrolls_tables_and_not_the_page(opened, name):
    page = opened(name, viewport=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("document.body.scrollWidth") <= PHONE["width"]
    wide = page.locator(".box").evaluate_all(
        "boxes => boxes.filter(b => b.scrollWidth > b.clientWidth).length"
    )
    assert wide > 0
    assert page.locator("td.number").first.evaluate("c => parseFloat(getComputedStyle(c).fontSize)") >= 13


def test_controls_are_there_and_marked(opened):
    page = opened("sound")
    board = page.locator("#leaderboard table").first
    marked = board.locator("tr.control td:first-child").all_inner_texts()
    assert [text.split()[0] for text in marked] == ["random", "edge"]
    plain, control = (
        board.locator(f"{row} td").nth(2).evaluate("c => getComputedStyle(c).backgroundColor")
        for row in ("tr:not(.control)", "tr.control")
    )
    assert plain != control
    assert board.locator("tr.control .mark").first.is_visible()


@pytest.mark.parametrize("name", ["sound", "several"])
def test_texts_of_data_stay_texts(opened, name):
    page = opened(name)
    assert page.evaluate("window.injected") is None
    assert page.locator("img[src='x'], figcaption b").count() == 0
    assert any(text.startswith(toy.HOSTILE) for text in cells(page, 1))


def test_the_page_forbids_scripts_that_are_not_its_own(opened):
    page = opened("sound")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror='window.injected=1'>`)")
    page.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {text: 'window.ran=1'}))"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("[window.injected, window.ran]") == [None, None]
    assert page.complaints  # that the page's policy forbids it


def test_warnings_come_first_and_name_what_is_wrong(opened):
    page = opened("spoiled")
    box = page.locator("#warnings")
    assert box.bounding_box()["y"] < 300
    text = box.inner_text()
    for wanted in (
        "n4000/explain/lrp.z failed: MemoryError: <b>too</b> large",
        "network of n1000, n4000 below its accuracy gate: r2 is as low as 0.500",
        "cases/n4000/data.npy: missing or changed",
        "lrp.z: status fail in n1000",
        "unequal versions of xairt",
    ):
        assert wanted in text
    fail = box.locator("li.fail")
    assert fail.count() == int(box.locator("h2").inner_text().split(",")[1].split()[0])


def test_several_runs_stand_side_by_side(opened):
    page = opened("several")
    groups = page.locator("#leaderboard table").first.locator("th.group").all_inner_texts()
    third = f"third{toy.HOSTILE}"
    assert [text.strip() for text in groups] == ["", "mean", "spread", "sound", "spoiled", third]
    settings = page.locator("#what").inner_text()
    assert "Settings that differ between the runs" in settings
    board = page.locator("#leaderboard table").first
    second = board.locator("th[data-column='2']")  # mean of the second run
    assert second.inner_text().strip() == "spoiled"
    second.locator("button").click()
    at = int(second.get_attribute("data-column")) + 1
    values = [float(v) for v in cells(page, at) if v != "not computed"]
    assert values == sorted(values, reverse=True)
    shown = page.locator("#figures .figures").nth(1).locator("figure").all_inner_texts()
    assert [text.split("\n")[0] for text in shown] == ["sound", "spoiled", "not computed"]  # named otherwise


def test_means_of_two_runs_are_in_view(opened, pages):
    """Of both, without scrolling, on a phone too."""
    for viewport in (PHONE, DESKTOP):
        page = opened("two", viewport=viewport)
        box = page.locator("#leaderboard .box").first.bounding_box()
        for column in (2, 3):
            cell = page.locator(
                f"#leaderboard tbody tr:first-child td:nth-child({column})"
            ).first.bounding_box()
            assert cell["x"] + cell["width"] <= box["x"] + box["width"]


def test_infinite_scores_are_sorted_as_numbers(opened, pages):
    page = opened("infinite")
    heading = page.locator("#leaderboard th", has_text="mean").first
    for expected in (["inf", "0.250", "-inf", "not computed"], ["-inf", "0.250", "inf", "not computed"]):
        heading.locator("button").click()
        assert list(dict.fromkeys(cells(page, 2))) == expected


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_no_name_breaks_within_a_word(opened, viewport):
    page = opened("two", viewport=viewport)
    label = page.locator("#leaderboard tbody td:first-child", has_text="lrp.alpha_beta").first
    lines = label.evaluate(LINES)
    assert "".join(lines) == "lrp.alpha_beta(alpha=1, beta=0)"
    assert all(re.search(r"[._ ]$", line) for line in lines[:-1])


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_a_figure_opens_over_the_window(opened, viewport):
    page = opened("sound", viewport=viewport)
    button = page.get_by_role("button", name="Enlarge: Truth and attributions")
    small = button.locator("img").bounding_box()["width"]
    button.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog[open] img")
    assert large.bounding_box()["width"] > max(1599, 1.3 * small)
    assert large.evaluate("i => i.naturalWidth") == 1600
    assert page.locator("dialog").evaluate("d => getComputedStyle(d).overflowX") == "auto"
    page.keyboard.press("Escape")
    assert page.locator("dialog").count() == 0
    assert button.evaluate("b => b === document.activeElement")
    button.click()
    page.get_by_role("button", name="Close").click()
    assert page.locator("dialog").count() == 0
    assert page.complaints == []


def test_dark_mode_and_paper(opened):
    backgrounds = [
        opened("sound", color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]
    page = opened("sound", color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".box").first.evaluate("b => getComputedStyle(b).overflowX") == "visible"
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


def test_the_demonstrations_page_is_of_the_same_kind(opened, tmp_path):
    scores = pd.DataFrame({"method": ["lrp.z", "<b>x</b>"], "mean r": [0.5, float("nan")]}).set_index(
        "method"
    )
    path = write_page(tmp_path / "summary.html", {"seed": "0 <"}, scores, [], {"lrp.z": {"form": "lrp.z <"}})
    page = opened(str(path), viewport=PHONE)
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert cells(page, 2, ".box:nth-of-type(2) table") == ["0.50", "not computed"]
