"""The papers' claims as a forest plot: effects and intervals by claim and protocol, the profiles side by side.

Drawn from claims.csv and claim_effects.csv. A claim must hold against every comparator, so the dot of a data set is
the comparison that decides it: of the worst outcome the least favourable one. Right is always in the claim's favour;
claims of one unit share an axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from reproduce.evidence.files import finite, read
from reproduce.evidence.schema import dataset_title
from reproduce.judge.verdicts import HELD, NOT_RUN, OPEN, PARTLY, REFUTED
from reproduce.show.figures import save
from reproduce.show.look import GREY, SMALL, STYLE
from reproduce.show.panels import NAME, PAGE_HEIGHT, TWO_COLUMNS, Ruler

SYMBOLS = {HELD: ("✓", "#0b6b35"), PARTLY: ("≈", "#7a4b00"), OPEN: ("○", GREY), REFUTED: ("✗", "#a3191f")}
COLUMNS = dict(paper="At the papers' scale", light="On two cores (light)", smoke="A trial (smoke)")
TITLE = "What the papers claim, and what was found"
NOTES = (
    "A dot: the comparator that decides a claim on one data set, with its 95 % interval over seeds; right of the line "
    "is in the claim's favour; hollow: not tested. An interval is of one comparison, a verdict is corrected for all of "
    "them (Holm). A sideways triangle: beyond the axis, or a target that one side never reached. No bar: all seeds "
    "alike, or fewer than five, too few for the interval of a ratio. A tick at an end of the axis: the interval goes "
    "on. ✓ held, ≈ partly, ✗ refuted (the opposite is shown), ○ open (neither is); no symbol: not run or not tested."
)
_CLAIMS = ("id", "paper", "claim", "protocol", "grid", "profile", "verdict", "reason", "rule", "bound")
_EFFECTS = ("id", "protocol", "grid", "profile", "dataset", "scale", "effect", "ci_low", "ci_high", "outcome")
_KEY = ["id", "protocol", "grid"]
_DATASETS = dict(
    mnist=("#0072B2", "o"), fashion_mnist=("#D55E00", "s"), cifar10=("#009E73", "^"), svhn=("#000000", "D"),
    digits=("#CC79A7", "v"),
)  # fmt: skip
_WIDE = 8  # times the median distance from the line: a claim of wider effects has an axis of its own
_POWERS, _ROUND = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100), (0.1, 0.2, 0.5, 1, 2, 5, 10)
_FINE = (0.5, 0.7, 1, 1.4, 2)
_ROW, _LINE, _GAP, _HEAD = 0.135, 0.105, 0.42, 0.5  # inches
_GROUND = "#f4f4f4"  # of a row
_NAMES, _STRIP = 2.75, 0.2  # inches left of the axes, and right of each


@dataclass(frozen=True)
class Row:
    """A claim under a protocol. favours: +1 where large effects favour it, -1 where small ones do. line: the effect
    at which nothing is said."""

    key: tuple[str, str, str]
    sentence: str
    unit: str
    scale: str
    favours: int
    line: float


def draw_claims(results: Path, figures: Path) -> list[Path]:
    """Write claims_PAPER.pdf and .png, a figure a paper; returns the files, none without claim_effects.csv.

    A paper without an effect has no figure; pages that are no longer drawn are deleted.
    """
    found = judged(results)
    if found is None:
        return []
    written = []
    with matplotlib.style.context(str(STYLE), after_reset=True):
        for paper, figure in forests(*found).items():
            for suffix in ("pdf", "png"):
                path = figures / f"claims_{paper.lower()}.{suffix}"
                save(figure, path)
                written.append(path)
    for path in figures.glob("claims_*"):
        if path not in written and path.suffix in (".pdf", ".png"):
            path.unlink()
    return written


def judged(results: Path) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """claims.csv and claim_effects.csv of a results folder; None where one is missing."""
    if not (results / "claims.csv").exists() or not (results / "claim_effects.csv").exists():
        return None
    return read(results / "claims.csv", _CLAIMS), read(results / "claim_effects.csv", _EFFECTS)


def forests(claims: pd.DataFrame, effects: pd.DataFrame) -> dict[str, Figure]:
    """Paper -> its figure, under the style in force; what passes a page goes on in PAPER-2."""
    drawn = {}
    for paper, mine in claims.groupby("paper", sort=False):
        rows = _rows_of(mine, effects)
        shown = {row.key[0] for row in rows}
        bare = [ident for ident in dict.fromkeys(mine.id) if ident not in shown]
        notes = (
            [NOTES, f"Without an effect to show, not run or of another kind: {', '.join(bare)}."] if bare else [NOTES]
        )
        for number, page in enumerate(_pages(rows, effects), 1):
            drawn[paper if number == 1 else f"{paper}-{number}"] = _forest(page, mine, effects, " ".join(notes))
    return drawn


def _rows_of(claims: pd.DataFrame, effects: pd.DataFrame) -> list[Row]:
    rows = []
    for key, mine in claims.groupby(_KEY, sort=False):
        found = _of(effects, key)
        first = mine.iloc[0]
        if found.empty or first["rule"] == "varies":
            continue
        scale, unit = found[["scale", "unit"]].iloc[0]
        # Bounds are as the rules have them, effects in the claim's unit.
        bound = (0.0 if math.isnan(first.bound) else float(first.bound)) * (
            100 if unit.startswith(("%", "points")) else 1
        )
        favours = -1 if scale == "ratio" or first["rule"] == "at_most" else 1
        line = 1.0 if scale == "ratio" else bound if scale == "level" else -bound
        rows.append(Row(key, first.claim, unit, scale, favours, line))
    return rows


Axis = tuple[str, str, int, bool]  # scale, unit, which way favours a claim, and whether its effects are wide


def _of(table: pd.DataFrame, key: tuple[str, ...]) -> pd.DataFrame:
    return table[(table[_KEY] == list(key)).all(axis=1)]


def least_favourable(effects: pd.DataFrame, row: Row) -> pd.DataFrame:
    """One row a profile and data set: the comparison that speaks least for the claim; those without an effect go.

    First by outcome, so that the dot is of a comparator that decides the verdict, then by effect.
    """
    found = _of(effects, row.key).dropna(subset=["effect"])
    severity = found.outcome.map(dict(worse=0, tied=1, untested=2, better=3))
    order = found.assign(severity=severity, favour=row.favours * found.effect)
    order = order.sort_values(["severity", "favour"], kind="stable")
    return order.drop_duplicates(["profile", "dataset"]).sort_index()


def _pages(rows: Sequence[Row], effects: pd.DataFrame) -> list[dict[Axis, list[Row]]]:
    """The rows by the axis that they share, page by page."""
    far = {row: (least_favourable(effects, row).effect - row.line).abs().max() for row in rows}
    groups: dict[Axis, list[Row]] = {}
    for row in rows:
        alike = [far[o] for o in rows if (o.scale, o.unit, o.favours) == (row.scale, row.unit, row.favours)]
        wide = row.scale == "difference" and far[row] > _WIDE * float(np.median(alike))
        groups.setdefault((row.scale, row.unit, row.favours, bool(wide)), []).append(row)
    texts = _sentences(rows)
    pages: list[dict[Axis, list[Row]]] = []
    left = 0.0
    for axis, mine in groups.items():
        room = _places(mine, texts)[1] + _GAP
        if not pages or room > left:
            pages.append({})
            left = PAGE_HEIGHT - _HEAD - 0.7  # what stands at the foot
        pages[-1][axis] = mine
        left -= room
    return pages


def _sentences(rows: Sequence[Row]) -> dict[Row, list[str]]:
    ruler = Ruler()
    return {row: ruler.wrap(f"{row.key[0]}  {row.sentence}", SMALL, _NAMES - 0.1) for row in rows}


def _forest(groups: dict[Axis, list[Row]], claims: pd.DataFrame, effects: pd.DataFrame, caption: str) -> Figure:
    profiles = [profile for profile in COLUMNS if profile in set(claims.profile)]
    texts = _sentences([row for mine in groups.values() for row in mine])
    places = {group: _places(mine, texts) for group, mine in groups.items()}
    notes = Ruler().wrap(caption, SMALL, TWO_COLUMNS - 0.1)
    foot = 0.16 + 0.11 * len(notes) + 0.1
    height = _HEAD + sum(end for _, end in places.values()) + _GAP * len(groups) + foot
    figure = Figure(figsize=(TWO_COLUMNS, height))
    FigureCanvasAgg(figure)
    figure.set_label(f"{TITLE}. {caption}")
    figure.text(0.5, 1 - 0.03 / height, TITLE, ha="center", va="top", fontsize=8)
    wide = (TWO_COLUMNS - _NAMES) / len(profiles)
    for column, profile in enumerate(profiles):
        x = (_NAMES + column * wide) / TWO_COLUMNS
        figure.text(x, 1 - 0.24 / height, COLUMNS[profile], va="top", fontsize=7, fontweight="bold")
    y = height - _HEAD
    for axis, mine in groups.items():
        (scale, unit, favours, _), (at, room) = axis, places[axis]
        y -= room
        shown = {row: least_favourable(effects, row) for row in mine}
        for row in mine:
            for line, text in enumerate(texts[row] if _first(row, mine) else []):
                above = y + room - (at[row] - _ROW / 2 - _LINE * (len(texts[row]) - line - 0.5))
                bold = dict(fontsize=SMALL, va="center")
                figure.text(0.03 / TWO_COLUMNS, above / height, text, **bold)
            words = f"{row.key[1]}, {row.key[2]}"
            figure.text((_NAMES - 0.08) / TWO_COLUMNS, (y + room - at[row]) / height, words, fontsize=NAME, ha="right",
                        va="center", color=GREY)  # fmt: skip
        for column, profile in enumerate(profiles):
            box = ((_NAMES + column * wide) / TWO_COLUMNS, y / height, (wide - _STRIP) / TWO_COLUMNS, room / height)
            ax = figure.add_axes(box)
            ax.set_ylim(room, 0)
            _set_axis(ax, scale, unit, favours, pd.concat(shown.values()), {row.line for row in mine})
            for row in mine:
                here = shown[row][shown[row].profile == profile]
                twin = next((o for o in mine if o is not row and _same_runs(o, row, shown, profile)), row)
                again = mine.index(twin) < mine.index(row)
                _draw_row(ax, at[row], row, here.iloc[:0] if again else here)
                found = _of(claims[claims.profile == profile], row.key)
                verdict = found.verdict.iloc[0] if len(found) else NOT_RUN
                symbol, colour = SYMBOLS.get(verdict, ("", GREY))
                if here.empty or again:
                    middle = dict(transform=ax.get_yaxis_transform(), ha="center", va="center", fontsize=SMALL)
                    ground = dict(facecolor=_GROUND, edgecolor="none", pad=1)  # the line may stand there
                    said = "the same runs as above" if again else verdict
                    ax.text(0.5, at[row], said, color=GREY, bbox=ground, **middle)
                ax.text(
                    1.03, at[row], symbol, transform=ax.get_yaxis_transform(), color=colour, fontsize=7, va="center"
                )
        y -= _GAP
    keys = {row.key for mine in groups.values() for row in mine}
    _draw_foot(figure, height, foot, notes, effects[[key in keys for key in zip(*(effects[k] for k in _KEY))]])
    return figure


def _same_runs(a: Row, b: Row, shown: dict[Row, pd.DataFrame], profile: str) -> bool:
    """Whether two rows are one claim under one protocol with the same numbers: grids may share runs."""
    columns = ["dataset", "effect", "ci_low", "ci_high"]
    ours, theirs = (shown[row][shown[row].profile == profile][columns].reset_index(drop=True) for row in (a, b))
    return a.key[:2] == b.key[:2] and len(ours) > 0 and ours.equals(theirs)


def _first(row: Row, rows: Sequence[Row]) -> bool:
    return next(other for other in rows if other.sentence == row.sentence and other.key[0] == row.key[0]) is row


def _places(rows: Sequence[Row], texts: dict[Row, list[str]]) -> tuple[dict[Row, float], float]:
    """The middle of each row in inches below the top of its axes, and the room of all; sentences stand above rows."""
    at, y = {}, 0.02
    for row in rows:
        y += (_LINE * len(texts[row]) + 0.03) if _first(row, rows) else 0
        at[row] = y + _ROW / 2
        y += _ROW
    return at, y + 0.03


def _set_axis(ax: Axes, scale: str, unit: str, favours: int, shown: pd.DataFrame, lines: set[float]) -> None:
    """One range for all columns of a group; few seeds may make an interval far wider than all means, and it is cut."""
    means = np.array([*finite(shown[["effect"]]).effect.dropna(), *lines], float)
    ends = finite(shown[["ci_low", "ci_high"]]).to_numpy(float).ravel()
    ends = ends[np.isfinite(ends)]
    if scale == "ratio":
        place, back = np.log10, lambda value: 10**value
        means, ends = np.clip(means[means > 0], 1e-3, 1e3), np.clip(ends[ends > 0], 1e-3, 1e3)
    else:
        place = back = lambda value: value
    low, high = place(means).min(), place(means).max()
    room = 0.5 * max(high - low, 0.5 if scale == "ratio" else 0.1)
    low = max(place(ends).min(initial=low), low - room) - 0.1 * room
    high = min(place(ends).max(initial=high), high + room) + 0.1 * room
    if scale == "ratio":
        ax.set_xscale("log")
        ticks = _POWERS if high - low > 1.5 else _ROUND if high - low > 0.5 else _FINE
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    span = (float(back(low)), float(back(high)))
    ax.set_xlim(span if favours > 0 else span[::-1])
    ax.set_xlabel(unit or "cost ratio", fontsize=SMALL, labelpad=1)
    ax.yaxis.set_major_locator(FixedLocator([]))
    ax.spines["left"].set_visible(False)


def _draw_row(ax: Axes, y: float, row: Row, shown: pd.DataFrame) -> None:
    low, high = sorted(ax.get_xlim())
    ax.axhspan(y - 0.45 * _ROW, y + 0.45 * _ROW, color=_GROUND, linewidth=0, zorder=0)
    ax.plot([row.line, row.line], [y - 0.5 * _ROW, y + 0.5 * _ROW], color="black", linewidth=0.8, zorder=1)
    for number, found in enumerate(shown.itertuples()):
        colour, marker = _DATASETS.get(found.dataset, (GREY, "o"))
        place = y + 0.8 * _ROW * ((number + 0.5) / len(shown) - 0.5)
        bar = np.clip([found.ci_low, found.ci_high], low, high)
        if bar[0] < bar[1]:  # not where there is none, nor where it lies beyond the axis
            ax.plot(bar, [place, place], color=colour, linewidth=0.7, solid_capstyle="butt", zorder=3)
            cut = dict(color=colour, marker="|", markersize=3, markeredgewidth=0.7, zorder=4, clip_on=False)
            for end, whole in zip(bar, (found.ci_low, found.ci_high)):
                if end != whole:
                    ax.plot(end, place, **cut)
        inside = low <= found.effect <= high
        right = (found.effect > high) == (row.favours > 0)
        symbol = marker if inside else ">" if right else "<"
        untested = found.outcome == "untested"
        ax.plot(
            np.clip(found.effect, low, high), place, marker=symbol, color=colour, markersize=2.8, zorder=4,
            markeredgewidth=0.6 if untested else 0, markerfacecolor="white" if untested else colour, clip_on=False,
        )  # fmt: skip


def _draw_foot(figure: Figure, height: float, foot: float, notes: Sequence[str], effects: pd.DataFrame) -> None:
    names = [name for name in _DATASETS if name in set(effects.dataset[effects.effect.notna()])]
    look = dict(linestyle="none", markersize=4, markeredgewidth=0)
    handles = [Line2D([], [], color=_DATASETS[name][0], marker=_DATASETS[name][1], **look) for name in names]
    anchor = (0.5, (foot - 0.02) / height)
    titles = [dataset_title(name) for name in names]
    figure.legend(handles, titles, ncols=len(names), loc="upper center", bbox_to_anchor=anchor)
    for number, line in enumerate(notes):
        at = (foot - 0.24 - 0.11 * number) / height
        figure.text(0.05 / TWO_COLUMNS, at, line, va="top", fontsize=SMALL, color=GREY)
