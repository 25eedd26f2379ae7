"""One HTML page from the CSVs and figures: the claims, each grid's tables, curves and figures, provenance.

The page is one file that works offline: the library of the curves, the data and the figures are inside it, and its
content security policy forbids every request. The same CSVs and figures give the same bytes.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.markers import MarkerStyle
from plotly.offline import get_plotlyjs

from am.errors import InputError
from reproduce.columns import COLUMNS
from reproduce.files import Stale, finite, malformed, read, read_text, write_whole
from reproduce.judge.verdicts import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, RULES
from reproduce.run.grid import grid_names, load_grid
from reproduce.schema import activation_title, dataset_title, network_title
from reproduce.show.curves import curve_of
from reproduce.show.look import Style, styles

FOLDER = Path(__file__).parent
PAGE_BYTES = 40_000_000  # beyond it, a page is slow to open; figures are left out by name
PROBLEM = ["dataset", "n_train", "activation", "hidden"]
RUN_COLUMNS = (
    *PROBLEM, "profile", "rule", "lane", "data_official", "data_fingerprint", "method", "label", "hyperparameters",
    "network", "seed", "status",
    "device", "torch", "commit", "run_key",
)  # fmt: skip
AXES = dict(
    epoch="Epochs",
    parameter_updates="Parameter updates",
    gradient_evaluations="Gradient evaluations",
    flops="FLOPs",
    seconds="Training seconds",
)
MEASURES = dict(
    test_accuracy="Test accuracy (%)",
    objective="Objective",
    constraint_gap="Constraint gap",
    gradient_norm="Gradient norm",
)
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED)
TITLES = dict(bench="Benchmarks", bench_gpu="Benchmarks on a GPU")
_CLAIM_LINE = ("id", "paper", "claim", "verdict", "reason")
# A line style in plotly's words, and as the dashes of an SVG in pixels.
_DASHES = dict(
    solid=("solid", ""), dashed=("dash", "5 3"), dotted=("dot", "1.5 2.5"), dashdot=("dashdot", "5 2.5 1.5 2.5")
)
_SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond", "P": "cross", "X": "x",
    "<": "triangle-left", ">": "triangle-right", "p": "pentagon", "*": "star", "h": "hexagon2", "d": "diamond-tall",
    "8": "octagon", (4, 1, 0): "star-diamond", "H": "hexagon",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """text: as shown. value: what it sorts by, where that is not the text."""

    text: str
    value: str | None


@dataclass(frozen=True)
class Table:
    """A CSV as shown. kinds: number, short or long, a column each. same: what all rows share, (column, text) each."""

    name: str
    columns: list[str]
    kinds: list[str]
    rows: list[list[Cell]]
    same: list[tuple[str, str]]
    datasets: list[str]


@dataclass(frozen=True)
class Image:
    """A figure. data: base64; empty where the page has no room for it."""

    path: Path
    name: str
    width: int  # pixels
    height: int
    data: str


@dataclass(frozen=True)
class Section:
    """What the page shows of one folder of results."""

    name: str
    title: str
    question: str
    facts: list[str]
    tables: list[Table]  # the first is the one to see at once
    chart: dict[str, Any] | None  # the panels, see `_chart`
    legend: list[tuple[str, Markup]]  # labels of the chart and how they are drawn, as SVG
    images: list[Image]


@dataclass(frozen=True)
class Claim:
    """A row of claims.csv. details: the other columns that say something, (name, lines) each."""

    id: str
    paper: str
    claim: str
    verdict: str
    reason: str
    details: list[tuple[str, list[str]]]


def write_report(
    results: Path,
    figures: Path,
    out: Path,
    grid_folder: Path | None = None,
    beside: Sequence[tuple[Path, Path]] = (),
) -> list[Path]:
    """Write the page to `out`; returns the paths of figures that it has no room for.

    beside: folders of results and of figures whose benchmarks belong on the page, too.
    Raises InputError where results has no CSV, or one that the suite did not write.
    """
    found = {path.parent: figures for path in results.glob("*/*.csv")}
    for more, drawn in beside:
        found |= {path.parent: drawn for path in more.glob("bench*/*.csv")}
    folders = sorted((folder for folder in found if not _is_stale(folder)), key=lambda folder: folder.name)
    claims = results / "claims.csv"
    if not folders and not claims.exists():
        raise InputError(f"no CSVs in {results}; run `make quickstart` or `make reproduce-all` first.")
    known = grid_names(grid_folder)
    runs = {folder.name: _read_runs(folder) for folder in folders if (folder / "runs.csv").exists()}
    comparison = results / "published" / "comparison.csv"
    values = dict(
        claims=_claims(claims) if claims.exists() else None,
        verdicts=VERDICTS,
        comparison=_table(comparison) if comparison.exists() else None,
        sections=[_section(folder, runs.get(folder.name), found[folder], known, grid_folder) for folder in folders],
        provenance=[_provenance(name, table) for name, table in runs.items()],
        axes=AXES,
        measures=MEASURES,
        style=_text("report.css"),
        script=_text("report.js"),
        plotly=Markup(get_plotlyjs()),
    )
    room = PAGE_BYTES - len(_render(values).encode())
    left_out = []
    for i, section in enumerate(values["sections"]):
        images = []
        for image in section.images:
            data = base64.b64encode(image.path.read_bytes()).decode()
            room -= len(data)
            images.append(replace(image, data=data if room >= 0 else ""))
        left_out += [image.path for image in images if not image.data]
        values["sections"][i] = replace(section, images=images)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out.parent} cannot be made ({error.strerror}); choose another place with --out.") from None
    write_whole(out, _render(values), "choose another place with --out")
    return left_out


def _text(name: str) -> Markup:
    return Markup((FOLDER / name).read_text())


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


def _is_stale(folder: Path) -> bool:
    """Whether a grid has none but stale runs: no section shows those."""
    try:
        if (folder / "runs.csv").exists():
            read_text(folder / "runs.csv")
    except Stale:
        return True
    return False


def _read_runs(folder: Path) -> pd.DataFrame:
    runs = read_text(folder / "runs.csv", RUN_COLUMNS)
    if runs.empty:
        raise malformed(folder / "runs.csv", "no runs in it")
    return runs


def _read_curves(path: Path, runs: pd.DataFrame) -> pd.DataFrame:
    """The curves as numbers; seconds only where the runs were alone on the device."""
    curves = finite(read(path, ("run_key", "label", "iteration", "epoch", "test_accuracy")))
    return curves if (runs.lane == "time").all() else curves.drop(columns="seconds", errors="ignore")


def _claims(path: Path) -> list[Claim]:
    table = read_text(path, _CLAIM_LINE)
    claims = []
    for row in table.to_dict("records"):
        details = []
        for column in table.columns.drop(list(_CLAIM_LINE)):
            text = RULES.get(row[column], row[column]) if column == "rule" else row[column]
            if text:
                lines = text.split("; ") if column == "effects" else [_shown(text).text if column == "seeds" else text]
                details.append((column.replace("_", " ").capitalize(), lines))
        claims.append(Claim(**{key: row[key] for key in _CLAIM_LINE}, details=details))
    return claims


def _table(path: Path) -> Table:
    frame = read_text(path)
    name = path.stem.replace("_", " ").capitalize()
    same = [column for column in frame if len(frame) > 1 and frame[column].nunique() == 1]
    common = [(c, frame[c].iloc[0]) for c in same if frame[c].iloc[0]]
    datasets = list(dict.fromkeys(frame["dataset"])) if "dataset" in frame and "dataset" not in same else []
    frame = frame.drop(columns=same)
    kinds = [_kind(frame[column]) for column in frame]
    rows = [
        [_shown(text) if kind == "number" else Cell(text, None) for text, kind in zip(row, kinds)]
        for row in frame.itertuples(index=False, name=None)
    ]
    return Table(name, list(frame), kinds, rows, common, datasets)


def _kind(column: pd.Series) -> str:
    filled = column[column != ""]
    known = COLUMNS.get(column.name)
    if (known is None or known.kind != "text") and len(filled) and pd.to_numeric(filled, errors="coerce").notna().all():
        return "number"
    return "long" if column.str.len().max() > 40 else "short"


def _shown(text: str) -> Cell:
    """A number to five digits, sorted by all of them; an infinite one by the name that a browser knows."""
    if not text:
        return Cell("", None)
    value = float(text)
    if math.isinf(value):
        return Cell("∞" if value > 0 else "−∞", "Infinity" if value > 0 else "-Infinity")
    shown = f"{value:,.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.5g}"
    return Cell(shown, None if shown == text else text)


def _section(
    folder: Path, runs: pd.DataFrame | None, figures: Path, known: Sequence[str], grid_folder: Path | None
) -> Section:
    name = folder.name
    title, question = TITLES.get(name, name), ""
    if name in known:
        grid = load_grid(name, "light", folder=grid_folder)
        title, question = grid.title, grid.question
    # What the page shows in another form, or, comparison.csv, elsewhere.
    other = ("runs.csv", "curves.csv") + (("comparison.csv",) if name == "published" else ())
    shown = [path for path in folder.glob("*.csv") if path.name not in other]
    tables = [_table(path) for path in sorted(shown, key=lambda p: (p.stem not in ("summary", "targets"), p.name))]
    chart, legend = None, []
    if runs is not None and (folder / "curves.csv").exists():
        chart, legend = _chart(runs, _read_curves(folder / "curves.csv", runs))
    drawn = [*figures.glob(f"{name}.png"), *figures.glob(f"{name}/*.png")]
    images = [_image(path) for path in sorted(drawn, key=_figure_order)]
    facts = [] if runs is None else _facts(runs)
    return Section(name, title, question, facts, tables, chart, legend, images)


def _facts(runs: pd.DataFrame) -> list[str]:
    facts = [f"{key} {', '.join(dict.fromkeys(runs[key]))}" for key in ("profile", "rule", "lane")]
    return [*facts, f"{len(runs):,} runs: {_counts(runs.status)}"]


def _counts(column: Iterable[str]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in pd.Series(column).value_counts(sort=False).items())


def _figure_order(path: Path) -> tuple:
    """NAME, NAME-2, ..., NAME-10."""
    kind, _, page = path.stem.rpartition("-")
    return (kind, int(page)) if page.isdecimal() and kind else (path.stem, 1)


def _image(path: Path) -> Image:
    head = path.read_bytes()[:24]
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        raise InputError(f"{path} is not a PNG image; delete it and run `make figures` to draw it anew.")
    width, height = (int.from_bytes(head[i : i + 4]) for i in (16, 20))
    return Image(path, path.stem.replace("_", " ").capitalize(), width, height, "")


def _provenance(name: str, runs: pd.DataFrame) -> dict[str, Any]:
    """What made a grid's runs, from runs.csv alone."""
    sets = runs.drop_duplicates(["dataset", "data_official", "data_fingerprint"])
    return dict(
        grid=name,
        runs=f"{len(runs):,}",
        statuses=_counts(runs.status),
        datasets=[
            (row.dataset, "official" if row.data_official == "True" else "not the official copy", row.data_fingerprint)
            for row in sets.itertuples()
        ],
        **{key: ", ".join(dict.fromkeys(runs[key])) for key in ("profile", "lane", "device", "torch", "commit")},
    )


def _chart(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[dict[str, Any] | None, list[tuple[str, Markup]]]:
    """The curves of a grid for the page's script, and its legend.

    styles: label -> colour, dash, symbol. axes, measures: those with values; log: measures with a logarithmic axis,
    whose mean is geometric. panels: name -> label -> measure -> x by axis, mean, low, high and n (seeds) a point;
    whole: how many of the points, from the first, all runs reached; diverged: whether a run did.
    """
    look = styles(zip(runs.method, runs.label, runs.hyperparameters))
    axes = [axis for axis in AXES if axis in curves and curves[axis].notna().any()]
    measures = [measure for measure in MEASURES if measure in curves and curves[measure].notna().any()]
    log = [measure for measure in measures if measure != "test_accuracy" and not (curves[measure] < 0).any()]
    panels: dict[str, dict[str, dict[str, Any]]] = {}
    varied = [column for column in PROBLEM if runs[column].nunique() > 1 or column == "dataset"]
    for key, here in runs[runs.status != "failed"].groupby(PROBLEM, sort=False):
        dataset, n_train, activation, hidden = key
        words = dict(
            dataset=dataset_title(dataset) + ("†" if (here.data_official == "False").any() else ""),
            n_train=f"n = {_shown(n_train).text}",
            activation=activation_title(activation),
            hidden=network_title(here.network.iloc[0], hidden),
        )
        name = ", ".join(words[column] for column in varied)
        for label, mine in here.groupby("label", sort=False):
            points = curves[curves.run_key.isin(mine.run_key) & (curves.label == label)]
            lines = {m: line for m in measures if (line := _line(mine, points, axes, m, m in log))}
            if lines:
                panels.setdefault(name, {})[label] = lines
    if not panels:
        return None, []
    shown = {label: style for label, style in look.items() if any(label in panel for panel in panels.values())}
    drawn = {
        label: dict(colour=style.colour, dash=_DASHES[style.line][0], symbol=_SYMBOLS[style.marker])
        for label, style in shown.items()
    }
    chart = dict(styles=drawn, axes=axes, measures=measures, log=log, panels=panels)
    return chart, [(label, _sample(style)) for label, style in shown.items()]


def _line(
    runs: pd.DataFrame, points: pd.DataFrame, axes: Sequence[str], measure: str, logarithmic: bool
) -> dict[str, Any] | None:
    curve = curve_of(runs, points, "iteration", measure, logarithmic)
    if curve is None:
        return None
    by_iteration = points[points[measure].notna()].groupby("iteration")
    places = by_iteration[axes].mean().reindex(curve.x)
    return dict(
        x={axis: _rounded(places[axis]) for axis in axes},
        mean=_rounded(curve.mean),
        low=_rounded(curve.low),
        high=_rounded(curve.high),
        n=_rounded(by_iteration.size().reindex(curve.x)),
        whole=int(curve.whole),
        diverged=bool(curve.diverged),
    )


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Six digits; None, as JSON has no NaN."""
    short = [float(f"{value:.6g}") for value in values]
    return [None if not math.isfinite(value) else int(value) if value.is_integer() else value for value in short]


def _sample(style: Style) -> Markup:
    """A piece of line with its marker, 34 by 14 pixels; the marker's outline is matplotlib's."""
    marker = MarkerStyle(style.marker)
    outline = marker.get_path().transformed(marker.get_transform())
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    steps = [
        letters[code] + " ".join(f"{17 + 8 * x:.2f} {7 - 8 * y:.2f}" for x, y in points.reshape(-1, 2) if code != 79)
        for points, code in outline.iter_segments()
    ]
    return Markup(
        '<svg width="34" height="14" viewBox="0 0 34 14" aria-hidden="true">'
        '<path d="M1 7H33" stroke="{0}" stroke-width="2" stroke-dasharray="{1}"/><path d="{2}" fill="{0}"/></svg>'
    ).format(style.colour, _DASHES[style.line][1], "".join(steps))
