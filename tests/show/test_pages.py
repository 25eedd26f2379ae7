"""README.md and docs/: what stands between their markers is what the CSVs say, and what they name is there."""

import csv
import re
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from am.data import DATASETS
from reproduce.bench.targets import write_targets
from reproduce.evidence.files import read
from reproduce.evidence.schema import network_title
from reproduce.plan.grid import grid_names
from reproduce.show.tables import AXES, MARKERS, accuracy_table, fill, markdown, pages

PAGES = pages(ROOT)
RESULTS = ROOT / "results"
TITLES = {data.title: name for name, data in DATASETS.items()}
CELLS = 20  # numbers that are computed once more, by other code
APART = {"quickstart", "published", "published_bcd"}  # embedded data; numbers of others, in a table of their own
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def tables_in(page: Path) -> list[tuple[str, str]]:
    """(name, content) of a page's tables."""
    return [
        (found[2], found[0].removeprefix(found[1]).removesuffix(found[3]))
        for found in MARKERS.finditer(page.read_text(encoding="utf-8"))
    ]


def accuracy_tables() -> dict[str, str]:
    """Grid, with its profile's folder -> its table, of the pages' tables that have CSVs behind them."""
    found = {name: content for page in PAGES for name, content in tables_in(page)}
    return {name: content for name, content in found.items() if (RESULTS / name / "runs.csv").exists()}


@every_page
def test_every_marker_has_its_end(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- table:") == text.count("<!-- end -->") == len(tables_in(page))


def test_every_grid_has_a_place_for_both_profiles():
    named = {name for page in PAGES for name, _ in tables_in(page)}
    grids = set(grid_names()) - APART
    assert grids | {f"light/{grid}" for grid in grids} <= named
    assert {"claims", "bench/targets", "published/comparison", "published/released_code"} <= named


@every_page
def test_a_page_holds_what_make_tables_writes(page, tmp_path):
    """Where this fails the CSVs are newer than the page: `make tables`."""
    copy = Path(shutil.copy(page, tmp_path))
    fill(copy, RESULTS)
    assert copy.read_bytes() == page.read_bytes()
    for name, content in tables_in(page):
        if not any((RESULTS / table).exists() for table in (f"{name}/table.md", f"{name}.md")):
            assert content.startswith("Not "), f"{name} has a table and no CSVs"


def test_the_tables_are_those_of_the_csvs(tmp_path):
    tables = accuracy_tables()
    assert tables
    for name, content in tables.items():
        assert content == markdown(accuracy_table(read(RESULTS / name / "runs.csv"))), name
    shutil.copytree(RESULTS / "bench", tmp_path / "bench")
    assert (
        write_targets(tmp_path / "bench", torch.device("cpu")).with_suffix(".md").read_bytes()
        == (RESULTS / "bench" / "targets.md").read_bytes()
    )


def cells_of(name: str, content: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """(grid, what names the cell, its text) of every cell of an accuracy table that is not empty."""
    lines = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in content.splitlines()
        if line[:1] == "|"
    ]
    heads, stubs = lines[0], lines[0].index("Method") + 1
    for line in lines[2:]:
        words = {head: re.sub(r"\\(.)", r"\1", word) for head, word in zip(heads[:stubs], line)}
        for head, text in zip(heads[stubs:], line[stubs:]):
            if text and not text.startswith("–"):
                yield name, words | {"problem": head}, text


def matches(row: dict[str, str], words: dict[str, str]) -> bool:
    """Whether a row of runs.csv belongs to the cell that the words name."""
    title = max((title for title in TITLES if words["problem"].startswith(title)), key=len)
    rest = words["problem"].removeprefix(title).removeprefix("†").strip()
    size = re.search(r"\(n = ([\d,]+)\)$", rest)
    asked = words.get("n", "").replace(",", "").replace("all", "0")
    settings = [words[head] for head in AXES.values() if head != "n" and head in words]
    settings += (rest[: size.start()] if size else rest).split()
    return (
        (row["dataset"], row["label"]) == (TITLES[title], words["Method"])
        and (not size or row["n_train"] == size[1].replace(",", ""))
        and (not asked or row["n_train_asked"] == asked)
        and set(settings) <= {network_title(row["network"], "MLP"), *(row[axis] for axis in AXES)}
    )


def test_twenty_numbers_of_the_pages_are_the_means_of_their_rows():
    """By the csv module and the statistics module alone."""
    cells = [cell for name, content in accuracy_tables().items() for cell in cells_of(name, content)]
    assert len(cells) >= CELLS
    for name, words, text in cells[:: len(cells) // CELLS][:CELLS]:
        with open(RESULTS / name / "runs.csv", encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if matches(row, words)]
        values = [100 * float(row["test_accuracy"]) for row in rows if row["status"] == "done"]
        expected = f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")
        assert text.strip("*").removesuffix("**").startswith(expected), (name, words, text, expected)


@every_page
def test_what_a_page_links_to_is_there(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, link


def test_the_readmes_loop_of_samt_runs_and_learns():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(re.search(r"## Use SAMT on your network.*?```python\n(.*?)```", text, re.DOTALL)[1], names)
    assert (names["net"](names["x"]).argmax(1) == names["y"]).double().mean() > 0.85


def test_the_readme_is_short():
    text = MARKERS.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(text.splitlines()) <= 150
