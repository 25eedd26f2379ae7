"""The page in a browser: Chromium, headless, as a reader uses it. Skipped where no Chromium is installed."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_report import CLAIM, ODD, curve_rows, factorial, run_row, tiny, write

from reproduce.plan.grid import abouts
from reproduce.show.report import write_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")]


@pytest.fixture(name="address", scope="module")
def address_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("page")
    tiny(root)
    factorial(root, "tiam_inertia")
    black = [run_row("SGD", seed, method="sgd") for seed in range(2)]
    write(root / "black" / "runs.csv", black)
    write(root / "black" / "curves.csv", sum((curve_rows(run, [0.1, 0.5, 0.8]) for run in black), []))
    rows = [("mnist", 0.97), ("fashion_mnist", 0.88), ("mnist", 0.09), ("svhn", "")]
    summary = [dict(dataset=name, label=f"label {i}", mean=mean, runs=i) for i, (name, mean) in enumerate(rows)]
    write(root / "black" / "summary.csv", summary)
    write(root / "claims.csv", [CLAIM, CLAIM | dict(id="SAMT-1", paper="SAMT", verdict="held")])
    write_report(root, root, root / "report.html", abouts())
    return (root / "report.html").as_uri()


@pytest.fixture(name="browser", scope="module")
def browser_fixture() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def until(page, condition: str, seconds: float = 10.0) -> None:
    """Wait until a JavaScript condition holds. The page's policy forbids the eval with which playwright would poll."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


@pytest.fixture(name="visit")
def visit_fixture(browser, address):
    """visit(**settings of the reader's window) -> the page, loaded; nothing may be fetched, and no script may fail."""
    contexts, fetched, failed = [], [], []

    def visit(**settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: fetched.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
        page.goto(address, wait_until="load")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert {url for url in fetched if not url.startswith(("data:", "blob:"))} == {address}
    assert not failed


def chart(page, grid: str):
    """The chart of a grid, drawn."""
    box = page.locator(f"#grid-{grid} .chart")
    box.scroll_into_view_if_needed()
    box.locator(".main-svg").first.wait_for()
    return box


def column(page, grid: str, number: int) -> list[str]:
    rows = page.locator(f"#grid-{grid} .table tbody tr:visible").all()
    return [row.locator("td").nth(number).inner_text() for row in rows]


def test_the_answer_and_its_claims_are_there_at_once(visit):
    started = time.perf_counter()
    page = visit()
    assert time.perf_counter() - started < 10, "two seconds, on a machine that does nothing else"
    page.get_by_role("heading", name="The answer").wait_for()
    assert page.locator(".answer li").count() == 2 and not page.locator(".claims dl").first.is_visible()
    page.locator(".claims summary").first.click()
    assert "SVHN against GD: 0.1 points" in page.locator(".claims dl").first.inner_text()


def test_a_heading_sorts_up_and_down_by_number_with_the_empty_last(visit):
    page = visit()
    heading = page.locator("#grid-black th button", has_text="Mean")
    heading.click()
    assert column(page, "black", 2) == ["9.00", "88.00", "97.00", ""]
    heading.click()
    assert column(page, "black", 2) == ["97.00", "88.00", "9.00", ""]
    assert page.locator("#grid-black th[aria-sort=descending]").count() == 1


def test_the_filters_are_exact_for_data_sets_and_by_words_for_the_rest(visit):
    page = visit()
    page.locator("#grid-black .tools select").select_option("MNIST")
    assert column(page, "black", 0) == ["MNIST", "MNIST"], "and not Fashion-MNIST"
    page.locator("#grid-black .tools input").fill("label 2")
    assert column(page, "black", 1) == ["label 2"]
    assert page.locator("#grid-black .tools output").inner_text() == "1 of 4 rows"


def test_a_point_of_a_curve_tells_its_mean_interval_and_seeds(visit):
    page = visit()
    box = chart(page, "tiny")
    assert "MNIST:" in (said := box.locator(".plot").get_attribute("aria-label")) and "80.0 %" in said
    point = box.locator(".scatterlayer .points path").last.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    hover = box.locator(".hoverlayer .hovertext")
    hover.first.wait_for()
    assert re.search(r"(GD|odd).*epoch \d+, \d seed", hover.first.text_content())


def test_a_legend_button_hides_its_line_and_the_view_changes_to_final_accuracies(visit):
    page = visit()
    box = chart(page, "tiny")
    before = box.locator(".scatterlayer .trace").count()
    box.locator("button[data-label=GD]").click()
    assert box.locator(".scatterlayer .trace").count() < before
    box.locator("select[name=view]").select_option("finals")
    until(page, "document.querySelector('#grid-tiny .plot').ariaLabel.startsWith('Final test accuracy')")
    assert [text.strip() for text in box.locator(".yaxislayer-above .ytick").all_text_contents()] == [ODD]


def test_charts_follow_the_readers_theme(visit):
    page = visit(color_scheme="light")
    box = chart(page, "black")
    colour = "getComputedStyle([...document.querySelectorAll('#grid-black .js-line')].at(-1)).stroke"
    paper = "getComputedStyle(document.querySelector('#grid-black .main-svg')).backgroundColor"
    assert (page.evaluate(colour), page.evaluate(paper)) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
    page.emulate_media(color_scheme="dark")
    until(page, f"{paper} === 'rgb(21, 24, 28)'")
    assert min(int(part) for part in re.findall(r"\d+", page.evaluate(colour))[:3]) > 200, "black would not be seen"
    box.locator(".main-svg").first.wait_for()


def test_the_page_fits_a_telephone_and_its_contents_stay_at_hand(visit):
    page = visit(viewport=dict(width=400, height=800))
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    chart(page, "tiny")
    assert page.evaluate("document.querySelector('nav').getBoundingClientRect().top") == 0, "sticky"
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    for image in page.locator("#grid-tiam_inertia img").all():
        assert image.evaluate("e => e.alt.length") > 40


def test_figures_in_svg_are_drawn(visit):
    page = visit()
    page.locator("#grid-tiam_inertia .more summary").last.click()
    for image in page.locator("#grid-tiam_inertia img").all():
        page.wait_for_function("e => e.src", arg=image.element_handle())  # unpacked
        image.scroll_into_view_if_needed()
        image.evaluate("e => e.decode()")
        assert image.evaluate("e => e.naturalWidth") > 300


def test_the_library_of_the_charts_is_the_basic_one():
    text = (Path(__file__).parents[2] / "reproduce" / "show" / "plotly-basic.min.js").read_text(encoding="utf-8")
    assert text.startswith("/**\n* plotly.js (basic - minified) v4.1.1") and "MIT license" in text[:300]
    assert len(text) < 1_300_000 and "</script" not in text
