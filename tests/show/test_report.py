"""The page from made-up CSVs: what stands where, that labels cannot inject markup, that nothing is fetched."""

import base64
import csv
import gzip
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from am.errors import InputError
from am.methods import methods
from reproduce.__main__ import main
from reproduce.plan.grid import abouts
from reproduce.show import charts, report
from reproduce.show.look import style_of
from reproduce.show.report import write_report

ODD = "</script><i onclick=\"x\">'odd' & co</i>"
GRID_TITLE = "What each of the three inertias of TIAM adds"  # of the suite's grid tiam_inertia
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACCAIAAAASFvFNAAAAEElEQVR4nGP4z8AARwzIHAA51gX7UVxQ9QAAAABJRU5ErkJggg=="
)
CLAIM = dict(
    id="TIAM-5", paper="TIAM", claim=f"Each part helps {ODD}.", verdict="refuted", reason="the opposite: mnist",
    grid="tiam_inertia", measure="accuracy", method="TIAM", against="GD", rule="better", bound="",
    effects="mnist against GD: -1.5 points [-2, -1]; svhn against GD: 0.1 points [-1, 1.2]", seeds="3.0",
    profile="light", counts_against="A better GD.",
)  # fmt: skip


class Page(HTMLParser):
    """The tags and attributes of a page, its text, and the JSON of its charts."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.parts: list[str] = []
        self.charts: list[dict] = []
        self.styles: list[str] = []
        self.inside = ""
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.inside = "json" if ("type", "application/json") in attrs else tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "json":
            self.charts.append(json.loads(data))
        elif self.inside == "style":
            self.styles.append(data)
        elif self.inside != "script":
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def run_row(label: str, seed: int, **changes) -> dict:
    key = f"{sum(map(ord, label))}e{seed}"  # reads as a number if nobody says that it is text
    row = dict(
        grid="tiny", profile="light", rule="paper", lane="accuracy", dataset="mnist", data_official="True",
        data_fingerprint="d027fbe1abd1b831", n_train="5000", activation="relu", hidden="100-100", method="tiam",
        label=label, hyperparameters="{}", seed=seed, status="done", device="cpu", torch="2.15.0",
        commit="7de4bb77c076+", run_key=key, iterations=10, parameter_updates=40, gradient_evaluations=110,
        flops=28057724000, test_accuracy=0.8, val_accuracy=0.8, seconds="",
    )  # fmt: skip
    lost = {} if changes.get("status", "done") == "done" else dict(test_accuracy="", val_accuracy="")
    return row | lost | changes


def curve_rows(run: dict, accuracies: list[float], **more: list[float]) -> list[dict]:
    """A point every fifth iteration; more: further columns."""
    extra = ("objective", "constraint_gap", "gradient_norm", "seconds")
    return [
        dict(run_key=run["run_key"], label=run["label"], iteration=5 * i, epoch=5.0 * i, parameter_updates=20 * i,
             gradient_evaluations=55 * i, flops=14028862000 * i, test_accuracy=accuracy, val_accuracy=accuracy)
        | {name: more[name][i] if name in more else "" for name in extra}
        for i, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def tiny(results: Path, name: str = "tiny") -> None:
    """A grid of two methods with two seeds, of which one run diverged and one failed, in the accuracy lane."""
    odd = [run_row(ODD, 0), run_row(ODD, 1, status="diverged")]
    gd = [run_row("GD", 0, method="gd"), run_row("GD", 1, method="gd", status="failed")]
    write(results / name / "runs.csv", odd + gd)
    points = curve_rows(odd[0], [0.1, 0.6, 0.8], objective=[100, 10, 4], seconds=[0, 1, 2])
    points += curve_rows(odd[1], [0.1, 0.4], objective=[1, 1000])
    write(results / name / "curves.csv", points + curve_rows(gd[0], [0.1, 0.2, 0.3]))
    summary = [
        dict(profile="light", dataset="mnist", label=ODD, mean=0.7903666666666666, flops="224461792000.0"),
        dict(profile="light", dataset="svhn", label="GD", mean="", flops="inf"),
    ]
    write(results / name / "summary.csv", summary)


def factorial(results: Path, name: str) -> None:
    """A grid of TIAM with two settings on or off in every combination, two seeds each."""
    runs, points = [], []
    for p1, p2, seed in itertools.product((0.0, 0.9), (0.0, 0.9), range(2)):
        accuracy = 0.6 + 0.1 * (p1 > 0) + 0.05 * (p2 > 0) + 0.01 * seed
        label, settings = f"TIAM ({p1}, {p2})", json.dumps(dict(p1=p1, p2=p2))
        runs.append(run_row(label, seed, hyperparameters=settings, test_accuracy=accuracy, run_key=f"{label}{seed}"))
        points += curve_rows(runs[-1], [0.1, 0.3, accuracy])
    write(results / name / "runs.csv", runs)
    write(results / name / "curves.csv", points)


@pytest.fixture(name="place", scope="module")
def place_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results and a figures folder with everything that a page can show."""
    root = tmp_path_factory.mktemp("report")
    results = root / "results"
    tiny(results)
    factorial(results, "tiam_inertia")
    tiny(results / "smoke")  # another profile's folder is no grid
    write(results / "smoke" / "claims.csv", [CLAIM])
    write(results / "claims.csv", [CLAIM, CLAIM | dict(id="SAMT-1", paper="SAMT", verdict="held")])
    write(results / "tiny" / "tuning.csv", [dict(label=ODD, trial=i, chosen=i == 1) for i in range(3)])
    write(results / "bench" / "iteration.csv", [dict(device="H200", ratio=12.5)])
    write(results / "bench" / "targets.csv", [dict(target="b", met="yes")])
    write(results / "published" / "comparison.csv", [dict(label="BCD", theirs=0.9461, met="no")])
    (root / "figures").mkdir()
    (root / "figures" / "bench.png").write_bytes(PNG)
    assert write_report(results, root / "figures", root / "page.html", abouts()) == []
    return root


@pytest.fixture(name="page", scope="module")
def page_fixture(place: Path) -> Page:
    return Page(place / "page.html")


def test_the_page_fetches_nothing(page):
    places = [value for _, name, value in page.attributes if name in ("src", "srcset", "action", "data")]
    packed = [value for _, name, value in page.attributes if name == "data-gzip"]
    assert len(places + packed) > 2 and all(value.startswith("data:") for value in places)
    assert not re.search(r"@import|url\(", "".join(page.styles))
    (policy,) = [value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src")]
    assert policy.startswith("default-src 'none';") and "http" not in policy


def test_links_lead_to_the_csvs_and_the_papers(page, place):
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    papers = {value for value in links if value.startswith("https:")}
    assert papers == {"https://arxiv.org/abs/2508.04193", "https://arxiv.org/abs/2503.08489"}
    files = [value for value in links if not value.startswith(("#", "https:"))]
    assert "results/tiny/runs.csv" in files and all((place / file).is_file() for file in files)
    inside = {value for tag, name, value in page.attributes if (tag, name) == ("section", "id")}
    assert {value[1:] for value in links if value.startswith("#")} == inside


def test_labels_are_text_and_never_markup(page):
    assert "i" not in page.tags and not any(name == "onclick" for _, name, _ in page.attributes)
    assert page.text.count(ODD) >= 3  # a claim, a cell, the legend
    assert ("button", "data-label", ODD) in page.attributes
    assert ODD in page.charts[-1]["styles"]


def test_claims_come_first_with_verdict_counts_and_details(page):
    ids = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    grids = ["grid-bench", "grid-published", "grid-tiam_inertia", "grid-tiny"]
    assert ids == ["claims", "published", *grids, "provenance"]
    assert "Verdict SAMT TIAM held 1 0 partly 0 0 open 0 0 refuted 0 1 not tested here 0 0 judgements 1 1" in page.text
    assert "SVHN against GD: 0.1 points [-1, 1.2]" in [part.strip() for part in page.parts]
    answer = page.text[: page.text.index("Every claim")]
    assert "SAMT: 1 held" in answer and "TIAM: 1 refuted" in answer
    assert answer.count(f"Each part helps {ODD}. tiam_inertia") == 2, "every claim in words, with where it was judged"
    for words in ("mean paired difference", "Counts against A better GD.", "Seeds 3 "):
        assert words in page.text


def test_a_grid_of_the_suite_has_its_title_and_question_another_its_name(page):
    assert GRID_TITLE in page.text and "Does each of p1, p2 and p3 contribute" in page.text
    assert "tiny" in [part.strip() for part in page.parts]
    assert page.text.index("Benchmarks bench") < page.text.index("Targets") < page.text.index("Iteration (1 row)")


def test_tables_show_five_digits_and_sort_by_all(page):
    cells = {value for tag, name, value in page.attributes if (tag, name) == ("td", "data-v")}
    assert {"0.7903666666666666", "224461792000.0", "Infinity"} <= cells
    assert "79.04" in page.text and "2.2446e+11" in page.text and "∞" in page.text
    assert "In every row: Profile light" in page.text and "Mean (%)" in page.text
    assert "Tuning (3 rows)" in page.text and page.text.count("94.61") == 1


def test_data_sets_have_their_titles_and_are_filtered_exactly(page):
    options = re.findall(r"<option>(.*?)</option>", page.source)
    assert options == ["MNIST", "SVHN"]
    shown = re.findall(r'<td class="short">(MNIST|SVHN|mnist|svhn)</td>', page.source)
    assert shown == ["MNIST", "SVHN"]


def test_curves_are_means_over_seeds_and_go_on_after_a_run_diverged(page):
    chart = page.charts[-1]
    assert chart["axes"] == ["epoch", "parameter_updates", "block_gradients", "flops"]  # no seconds from a stack
    assert (chart["measures"], chart["log"]) == (["test_accuracy", "objective"], ["objective"])
    assert list(chart["panels"]) == ["MNIST"] and set(chart["panels"]["MNIST"]) == {ODD, "GD"}
    line = chart["panels"]["MNIST"][ODD]["test_accuracy"]
    assert (line["mean"], line["n"], line["whole"], line["diverged"]) == ([0.1, 0.5, 0.8], [2, 2, 1], 2, True)
    assert line["low"] == line["high"] == [None] * 3, "no interval below three seeds"
    assert line["x"] == dict(
        epoch=[0, 5, 10], parameter_updates=[0, 20, 40], block_gradients=[0, 55, 110],
        flops=[0, 14028900000, 28057700000],
    )  # fmt: skip
    assert chart["panels"]["MNIST"][ODD]["objective"]["mean"][0] == 10  # geometric
    alone = chart["panels"]["MNIST"]["GD"]["test_accuracy"]
    assert (alone["n"], alone["whole"], alone["diverged"]) == ([1, 1, 1], 3, False)  # the failed run counts for nothing
    assert chart["styles"]["GD"]["colour"] == style_of("gd").colour


def test_seconds_are_an_axis_in_the_time_lane(tmp_path):
    run = run_row("TIAM", 0, lane="time", data_official="False")
    runs = [run, run | dict(label="the same run again")]
    points = [curve_rows(row, [0.1, 0.7], seconds=[0, 1.5], gradient_norm=[2, 1]) for row in runs]
    write(tmp_path / "tiny" / "runs.csv", runs)
    write(tmp_path / "tiny" / "curves.csv", sum(points, []))
    write_report(tmp_path, tmp_path, tmp_path / "page.html", abouts())
    (chart,) = Page(tmp_path / "page.html").charts
    for row in runs:
        line = chart["panels"]["MNIST†"][row["label"]]["gradient_norm"]
        assert (line["x"]["seconds"], line["mean"], line["n"]) == ([0, 1.5], [2, 1], [1, 1])


def test_figures_that_no_chart_shows_are_inside_and_say_what_is_seen(page):
    images = dict(zip(
        [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")],
        [value for tag, name, value in page.attributes if tag == "img" and name in ("src", "data-gzip")],
    ))  # fmt: skip
    bench, effects, interaction = images
    assert base64.b64decode(images[bench].partition(",")[2]) == PNG
    assert "alone, on average and last" in effects and "every combination" in interaction
    seen = "MNIST: highest final accuracy TIAM (0.9, 0.9) 75.5 %, lowest TIAM (0.0, 0.0) 60.5 %, of 4 labels."
    assert effects.endswith(seen) and interaction.endswith(seen)
    svg = gzip.decompress(base64.b64decode(images[effects])).decode()
    assert svg.startswith("<svg") and ">p1 alone</text>" in svg, "text stays text"


def test_final_accuracies_come_with_the_chart_best_first(page):
    finals = page.charts[0]["finals"]["MNIST"]
    assert list(finals) == ["TIAM (0.9, 0.9)", "TIAM (0.9, 0.0)", "TIAM (0.0, 0.9)", "TIAM (0.0, 0.0)"]
    assert finals["TIAM (0.9, 0.9)"]["seeds"] == [0.75, 0.76] and finals["TIAM (0.9, 0.9)"]["mean"] == 0.755
    lost = page.charts[1]["finals"]["MNIST"][ODD]
    assert (lost["seeds"], lost["runs"], lost["diverged"]) == ([0.8], 2, 1)
    assert "1 of 3 runs diverged" in page.charts[1]["seen"]["MNIST"]


def test_figures_beyond_the_limit_are_left_out_by_name(tmp_path, monkeypatch):
    tiny(tmp_path)
    tiny(tmp_path, "tiny2")
    for name in ("tiny", "tiny2"):
        (tmp_path / f"{name}.png").write_bytes(PNG + bytes(10_000))
    assert write_report(tmp_path, tmp_path, tmp_path / "page.html", abouts()) == []
    whole = (tmp_path / "page.html").stat().st_size
    monkeypatch.setattr(report, "PAGE_BYTES", whole - 5_000)
    assert write_report(tmp_path, tmp_path, tmp_path / "page.html", abouts()) == ["tiny2: tiny2"]
    assert (tmp_path / "page.html").stat().st_size < whole - 5_000
    page = Page(tmp_path / "page.html")
    assert page.tags.count("img") == 1
    assert page.text.count("left out, the page would be too big") == 1


def test_the_page_of_a_profile_has_its_claims_alone(tmp_path):
    tiny(tmp_path)
    claims = [CLAIM | dict(id=f"TIAM-{profile}", profile=profile) for profile in ("light", "paper")]
    write(tmp_path / "claims.csv", claims)
    write_report(tmp_path, tmp_path, tmp_path / "page.html", abouts(), profile="light")
    page = Page(tmp_path / "page.html")
    ids = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert ids == ["claims", "grid-tiny", "provenance"]
    assert "TIAM-light" in page.text and "TIAM-paper" not in page.text


def test_provenance_says_what_made_the_runs(page):
    foot = page.text[page.text.rindex("Provenance") :]
    for words in ("light", "accuracy", "2 done, 1 diverged, 1 failed", "cpu", "2.15.0", "7de4bb77c076+"):
        assert words in foot
    assert "MNIST: official, d027fbe1abd1b831" in foot


def test_the_same_csvs_give_the_same_bytes(place):
    write_report(place / "results", place / "figures", place / "again.html", abouts())
    assert (place / "again.html").read_bytes() == (place / "page.html").read_bytes()
    assert (place / "again.html").read_bytes().startswith(b"<!doctype html>")


def test_without_claims_a_sentence_stands_in_their_place(tmp_path):
    tiny(tmp_path)
    assert main(["report", "--results", str(tmp_path)]) == 0
    text = Page(tmp_path / "report.html").text
    assert 0 < text.index("The claims are not judged yet") < text.index("Summary")


def test_no_results_are_refused_in_one_sentence(tmp_path, capsys):
    assert main(["report", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"no CSVs in {tmp_path}; run `make quickstart` or `make reproduce-all` first.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "file, old, new, found",
    [
        ("runs.csv", ",commit,", ",comit,", "no column 'commit'"),
        ("curves.csv", "0.6", "o.6", "'test_accuracy' o.6"),
        ("curves.csv", ",10,10.0,", ",5,10.0,", "two points of run"),
        ("summary.csv", "profile,dataset,label,mean,flops", "", "no columns|tokenizing"),
    ],
)
def test_a_malformed_csv_is_named(tmp_path, file, old, new, found):
    tiny(tmp_path)
    path = tmp_path / "tiny" / file
    assert old in path.read_text(encoding="utf-8")
    path.write_text(
        path.read_text(encoding="utf-8").replace(old, new) if file != "summary.csv" else "", encoding="utf-8"
    )
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))} is malformed \((?i:.*{found})[^\n]*\)[^\n]*\.$"):
        write_report(tmp_path, tmp_path, tmp_path / "page.html", abouts())


def test_a_figure_that_is_no_png_and_a_place_that_cannot_be_made_are_named(tmp_path):
    tiny(tmp_path)
    with pytest.raises(InputError, match=r"^\S+runs.csv cannot be made \(.*\); choose another place with --out\.$"):
        write_report(tmp_path, tmp_path, tmp_path / "tiny" / "runs.csv" / "page.html", abouts())
    (tmp_path / "tiny.png").write_bytes(b"GIF")
    with pytest.raises(InputError, match=r"tiny\.png is not a PNG image; .*\.$"):
        write_report(tmp_path, tmp_path, tmp_path / "page.html", abouts())


def test_every_style_of_a_method_can_be_drawn():
    for name in (*methods(), "unknown"):
        for position in range(20):
            style = style_of(name, position)
            assert style.marker in charts.SYMBOLS and style.line in charts.DASHES
            assert re.search(r' d="M[-\d. MLQCZ]+Z?" fill', charts.sample(style))
