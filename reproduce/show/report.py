"""One HTML page from the CSVs: the answer, the claims, each grid's tables, charts and figures, provenance.

The page is one file that works offline: the library of the charts, the data and the figures are inside it, and its
content security policy forbids every request. Curves and final accuracies are drawn by the page's script, in the
colours of the reader's theme; other figures are drawn here, as SVG. The same CSVs give the same bytes.
"""

import base64
import gzip
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from am.errors import InputError
from reproduce.evidence import door
from reproduce.evidence.about import Abouts
from reproduce.evidence.files import Stale, finite, malformed, read_text, write_whole
from reproduce.evidence.places import PROFILES
from reproduce.evidence.schema import titled
from reproduce.judge.claims import counted_from
from reproduce.judge.targets import with_block_gradients
from reproduce.judge.verdicts import HELD, NOT_TESTED, OPEN, PARTLY, REFUTED, RULES
from reproduce.show.cells import Table, number_cell, table_of
from reproduce.show.charts import AXES, MEASURES, PROBLEM, chart_of, seen_in
from reproduce.show.figures import csvs_of, draw, svg_of
from reproduce.show.forest import forests, judged
from reproduce.show.look import STYLE
from reproduce.show.panels import Marks

FOLDER = Path(__file__).parent
PAGE_BYTES = 8_000_000  # beyond it, a page is slow to open; figures are left out by name
_NEEDED = (
    *PROBLEM, "profile", "rule", "lane", "data_official", "data_fingerprint", "method", "label", "hyperparameters",
    "seed", "status", "test_accuracy", "device", "torch", "commit", "run_key",
)  # fmt: skip
VERDICTS = (HELD, PARTLY, OPEN, REFUTED, NOT_TESTED)
TITLES = dict(bench="Benchmarks", bench_gpu="Benchmarks on a GPU")
PAPERS = dict(
    SAMT=("2508.04193", "stochastic alternating minimisation with trainable step sizes"),
    TIAM=("2503.08489", "a triple-inertial alternating minimisation"),
)
_CLAIM_LINE = ("id", "paper", "claim", "verdict", "reason")
# What the script does not draw, and what stands in words where a figure cannot be seen.
STILL = dict(
    effects="What each setting adds to the accuracy, alone, on average and last",
    interaction="Accuracy of every combination of the settings",
    sensitivity="Final accuracy against a hyper-parameter, a width or a depth",
    activations="Heat map of final accuracies, labels by activations",
    activation_gain="Gain of the first label over the others, by activation",
    critical_difference="Average ranks over the data sets",
    performance_profile="Cost of reaching a target over problems, as a multiple of the cheapest method's",
    cost="Seconds and FLOPs of a block update, as multiples of SGD's",
    subsets="Final accuracy against the training images, with constants scaled and as published",
)


@dataclass(frozen=True)
class Image:
    """A figure. data: as an address of the page itself; empty where the page has no room for it. seen: in words.

    packed: whether data is no address but an SVG, gzipped, in base64, which the page unpacks.
    """

    name: str
    data: str
    seen: str
    packed: bool = False


@dataclass(frozen=True)
class Section:
    """What the page shows of one folder of results."""

    name: str
    title: str
    question: str
    facts: list[str]
    files: list[tuple[str, str]]  # name and address of the CSVs
    tables: list[Table]  # the first is the one to see at once
    chart: dict[str, Any] | None  # see `charts.chart_of`
    legend: list[tuple[str, Markup]]  # labels of the chart and how they are drawn, as SVG
    images: list[Image]


@dataclass(frozen=True)
class Claim:
    """A row of claims.csv. details: the other columns that say something, (name, lines) each."""

    id: str
    paper: str
    claim: str
    where: str  # protocol and grid
    verdict: str
    reason: str
    details: list[tuple[str, list[str]]]


def write_report(
    results: Path,
    figures: Path,
    out: Path,
    about: Abouts,
    beside: Sequence[tuple[Path, Path]] = (),
    profile: str | None = None,
) -> list[str]:
    """Write the page to `out`; returns the names of figures that it has no room for.

    figures: where the benchmarks' figure lies. beside: folders of results and of figures whose benchmarks and claims
    belong on the page, too. profile: only its claims, all that are there by default.
    Raises InputError where results has no CSV, or one that the suite did not write.
    """
    folders = _folders(results, figures, beside)
    claims = next((p for folder in (results, *(b for b, _ in beside)) if (p := folder / "claims.csv").exists()), None)
    if not folders and claims is None:
        raise InputError(f"no CSVs in {results}; run `make quickstart` or `make reproduce-all` first.")
    runs = {folder.name: _read_runs(folder) for folder in folders if (folder / "runs.csv").exists()}
    published = [
        table_of(p) for name in ("comparison", "released_code") if (p := results / "published" / f"{name}.csv").exists()
    ]
    found = None if claims is None else _claims(claims, profile)
    values = dict(
        claims=found,
        answer=_answer(found or []),
        forest=[] if claims is None else _forest(claims),
        verdicts=VERDICTS,
        papers=PAPERS,
        published=published,
        sections=[
            _section(folder, runs.get(folder.name), drawn, about, out.parent) for folder, drawn in folders.items()
        ],
        provenance=[_provenance(name, table) for name, table in runs.items()],
        axes=AXES,
        measures=MEASURES,
        style=_text("report.css"),
        script=_text("report.js"),
        plotly=_text("plotly-basic.min.js"),
    )
    room = PAGE_BYTES - len(_render(_without_images(values)).encode())
    left_out = []
    for i, section in enumerate(values["sections"]):
        images = []
        for image in section.images:
            room -= len(image.data)
            images.append(replace(image, data=image.data if room >= 0 else ""))
        left_out += [f"{section.name}: {image.name}" for image in images if not image.data]
        values["sections"][i] = replace(section, images=images)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out.parent} cannot be made ({error.strerror}); choose another place with --out.") from None
    write_whole(out, _render(values), "choose another place with --out")
    return left_out


def _folders(results: Path, figures: Path, beside: Sequence[tuple[Path, Path]]) -> dict[Path, Path]:
    """Folder of CSVs -> folder of its figures, by name; the folder of another profile is no grid."""
    found = {path.parent: figures for path in results.glob("*/*.csv") if path.parent.name not in PROFILES}
    for more, drawn in beside:
        found |= {path.parent: drawn for path in more.glob("bench*/*.csv")}
    return {folder: found[folder] for folder in sorted(found, key=lambda f: f.name) if not _is_stale(folder)}


def _is_stale(folder: Path) -> bool:
    """Whether no run of a grid counts: no section shows those."""
    try:
        if (folder / "runs.csv").exists():
            door.text(folder, "runs")
    except Stale:
        return True
    return False


def _without_images(values: dict[str, Any]) -> dict[str, Any]:
    return values | dict(sections=[replace(section, images=[]) for section in values["sections"]])


def _text(name: str) -> Markup:
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


def _render(values: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = dict(separators=(",", ":"), allow_nan=False)
    return environment.get_template("report.html.j2").render(values)


def _read_runs(folder: Path) -> pd.DataFrame:
    runs = finite(door.runs(folder, _NEEDED))
    runs["network"] = door.text(folder, "runs", ["network"])["network"]  # empty in CSVs from before the column
    if runs.empty:
        raise malformed(folder / "runs.csv", "no runs in it")
    return runs


def _read_curves(folder: Path, runs: pd.DataFrame) -> pd.DataFrame:
    """The curves as numbers; seconds only where the runs were alone on the device."""
    curves = finite(door.curves(folder, ("run_key", "label", "iteration", "epoch", "test_accuracy")))
    return curves if (runs.lane == "time").all() else curves.drop(columns="seconds", errors="ignore")


# The claims -----------------------------------------------------------------------------------------------------------


def _claims(path: Path, profile: str | None) -> list[Claim]:
    table = read_text(path, _CLAIM_LINE)
    if profile is not None and "profile" in table:
        table = table[table["profile"].isin(["", profile])]
    claims = []
    for row in table.to_dict("records"):
        details = []
        for column in table.columns.drop([*_CLAIM_LINE]):
            text = RULES.get(row[column], row[column]) if column == "rule" else row[column]
            if text:
                shown = number_cell(text).text if column == "seeds" else titled(text)
                details.append((column.replace("_", " ").capitalize(), shown.split("; ")))
        where = ", ".join(filter(None, [row.get("protocol", ""), row.get("grid", "")]))
        line = {key: titled(row[key]) if key == "reason" else row[key] for key in _CLAIM_LINE}
        claims.append(Claim(**line, where=where, details=details))
    return claims


def _answer(claims: Sequence[Claim]) -> list[tuple[str, str, list[tuple[str, list[tuple[str, str]]]]]]:
    """(paper, counts in words, (verdict, its claims with where they were judged) each): no claim is left out."""
    answer = []
    for paper in dict.fromkeys(claim.paper for claim in claims):
        found = []
        for verdict in dict.fromkeys([*VERDICTS, *(claim.verdict for claim in claims)]):
            places: dict[str, list[str]] = {}
            for claim in claims:
                if claim.paper == paper and claim.verdict == verdict:
                    places.setdefault(claim.claim, []).append(claim.where)
            if places:
                found.append((verdict, [(text, "; ".join(filter(None, where))) for text, where in places.items()]))
        counts = ", ".join(f"{sum(c.paper == paper and c.verdict == v for c in claims)} {v}" for v, _ in found)
        answer.append((paper, counts, found))
    return answer


def _forest(path: Path) -> list[Image]:
    """The claims' effects as figures, a paper each; with both profiles, since they stand side by side."""
    found = judged(path.parent)
    if found is None:
        return []
    with matplotlib.style.context(str(STYLE), after_reset=True):
        drawn = forests(*found)
        return [Image(f"claims, {paper}", _address(svg_of(f)), f.get_label()) for paper, f in drawn.items()]


# A grid ---------------------------------------------------------------------------------------------------------------


def _section(folder: Path, runs: pd.DataFrame | None, figures: Path, about: Abouts, page: Path) -> Section:
    name = folder.name
    told = about(name, "light" if runs is None or runs.profile.iloc[0] not in PROFILES else runs.profile.iloc[0])
    # What the page shows in another form or elsewhere.
    other = ("runs.csv", "curves.csv") + (("comparison.csv", "released_code.csv") if name == "published" else ())
    csvs = sorted(folder.glob("*.csv"), key=lambda p: (p.stem not in ("summary", "targets"), p.name))
    tables = [table_of(path) for path in csvs if path.name not in other]
    files = [(path.name, Path(os.path.relpath(path, page)).as_posix()) for path in csvs]
    chart, legend, images = None, [], []
    if runs is not None and (folder / "curves.csv").exists():
        chart, legend = chart_of(runs, with_block_gradients(runs, _read_curves(folder, runs)))
        with matplotlib.style.context(str(STYLE), after_reset=True):
            marks = Marks(told.floors, since=counted_from(name))
            drawn = draw(*csvs_of(folder.parent, name), target=told.target, marks=marks, kinds=tuple(STILL))
            seen = seen_in(runs) if drawn else ""
            for kind, figure in drawn.items():
                words = f"{STILL[kind.rpartition('-')[0] or kind]}. {seen}"
                images.append(Image(kind, _packed(svg_of(figure)), words, packed=True))
    images += [_drawn(path) for path in sorted(figures.glob(f"{name}.png"))]
    facts = [] if runs is None else _facts(runs)
    title = told.title or TITLES.get(name, name)
    return Section(name, title, told.question, facts, files, tables, chart, legend, images)


def _address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _packed(svg: str) -> str:
    """A ninth of what `_address` needs. mtime: so that the same figure has the same bytes."""
    return base64.b64encode(gzip.compress(svg.encode(), mtime=0)).decode()


def _drawn(path: Path) -> Image:
    """A figure of the benchmarks, which have no runs to draw it from here."""
    content = path.read_bytes()
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise InputError(f"{path} is not a PNG image; delete it and run `make figures` to draw it anew.")
    words = "Ratios of speed, growth of a step's time, share of the machine's limit, and memory, with their intervals"
    return Image(path.stem, f"data:image/png;base64,{base64.b64encode(content).decode()}", words)


def _facts(runs: pd.DataFrame) -> list[str]:
    facts = [f"{key} {', '.join(dict.fromkeys(runs[key]))}" for key in ("profile", "rule", "lane")]
    return [*facts, f"{len(runs):,} runs: {_counts(runs.status)}"]


def _counts(column: Iterable[str]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in pd.Series(column).value_counts(sort=False).items())


def _provenance(name: str, runs: pd.DataFrame) -> dict[str, Any]:
    """What made a grid's runs, from runs.csv alone."""
    sets = runs.drop_duplicates(["dataset", "data_official", "data_fingerprint"])
    return dict(
        grid=name,
        runs=f"{len(runs):,}",
        statuses=_counts(runs.status),
        datasets=[
            (titled(row.dataset), "official" if row.data_official else "not the official copy", row.data_fingerprint)
            for row in sets.itertuples()
        ],
        **{key: ", ".join(dict.fromkeys(runs[key])) for key in ("profile", "lane", "device", "torch", "commit")},
    )
