"""Axes and their ticks.

Accuracy axes are logarithmic in the error: .5 and .9, .97 and .98 can be told apart in one panel that holds them all.
"""

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

ERROR_SCALE = "log scale of the error"  # said on every axis of accuracy
_DECADES = 3  # of a symmetric logarithmic axis, above its linear part
_LINEAR_PART = 0.5  # its half width, in decades of the rest
_CHARACTER = 0.056  # inches of a tick label
FAR, MANY = 4.0, 6  # of `far_below`
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def set_x(ax: Axes, ends: tuple[float, float], log_x: bool) -> None:
    low, high = ends
    if log_x:
        margin = (high / low) ** 0.03
        ax.set_xscale("log")
        ax.set_xlim(low / margin, high * margin)
        powers = math.floor(math.log10(high) + 1e-9) - math.ceil(math.log10(low) - 1e-9) + 1
        width = ax.get_position().width * ax.figure.get_figwidth()
        longest = _CHARACTER * (1 + len(short(10.0 ** math.floor(math.log10(high)))))
        crowded = powers > 1 and math.log10(2) * width < longest * math.log10(high / low)
        ax.xaxis.set_major_locator(LogLocator(subs=(1,) if powers > 2 or crowded else (1, 2, 5), numticks=5))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        pad = 0.02 * max(high, 1e-9)
        ax.set_xlim(-pad, high + pad)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=high >= 4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """1, 10, 1k, 100k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def set_y(ax: Axes, ends: tuple[float, float], scale: str, linear: float = 1.0) -> None:
    """scale: error, log, symlog or linear. linear: a symlog axis is linear up to this, either side of 0."""
    if scale == "error":
        ax.set_yscale("function", functions=(log_error, accuracy_at))
        ax.set_ylim(ends)
        accuracy_ticks(ax.yaxis, *ends, gap=1 / 7)
    elif scale == "log":
        ax.set_yscale("log")
        ax.set_ylim(ends)
        decades = math.log10(ends[1] / ends[0])
        subs = (1,) if decades > 2 else (1, 2, 5) if decades > 0.7 else range(1, 10)
        ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    elif scale == "symlog":
        ax.set_yscale("symlog", linthresh=linear, linscale=_LINEAR_PART)
        ax.set_ylim(ends)
        above = [10.0**k for k in range(math.ceil(math.log10(linear) - 1e-9), math.floor(_decade(ends)) + 1)]
        ax.yaxis.set_major_locator(FixedLocator([*(-tick for tick in reversed(above)), 0.0, *above]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(ends)
        ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _decade(values: Iterable[float]) -> float:
    return math.log10(max(*(abs(value) for value in values), 1e-300))


def linear_part(values: np.ndarray) -> float:
    """Where a symmetric logarithmic axis of these values becomes linear: a power of ten, three decades below them."""
    return 10.0 ** (math.ceil(_decade([float(np.abs(values).max()), 0.0])) - _DECADES)


def padded_symlog(low: float, high: float, linear: float) -> tuple[float, float]:
    """The ends of a symmetric logarithmic axis, a twentieth of its length beyond the values."""
    places = SymmetricalLogTransform(10, linear, _LINEAR_PART)
    bottom, top = places.transform(np.array([low, high]))
    pad = 0.05 * max(top - bottom, 0.1 * linear)
    return tuple(places.inverted().transform(np.array([bottom - pad, top + pad])))


def log_error(accuracy: float | np.ndarray) -> np.ndarray:
    """The place of an accuracy on its axis: even steps are even factors of the error, down to an error of 0.1 %."""
    return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=float), 1e-3))


def accuracy_at(place: float | np.ndarray) -> np.ndarray:
    return 1 - 10.0 ** -np.asarray(place, dtype=float)


def far_below(accuracy: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which of a panel's labels do not stretch its range, so that the others can be told apart; what draws them says
    so. accuracy, high: of each label, and the end of its interval, NaN without one.

    Those under a third of the best. And those whose error is FAR times the median label's, if a lost seed explains it
    (the interval reaches the best), or if, of MANY labels, one also lies below the median FAR times what the best lies
    above it.
    """
    best = np.nanmax(accuracy)
    failed = ~(accuracy >= best / 3)
    place = log_error(accuracy)
    median = np.median(place[~failed])
    far = median - place > math.log10(FAR)
    odd = (np.sum(~failed) >= MANY) & (median - place > FAR * (log_error(best) - median))
    return failed | far & (odd | (high >= best))


def accuracy_ticks(axis: Axis, low: float, high: float, gap: float) -> None:
    """Ticks at round percentages, the roundest first, at least `gap` of the axis apart and at most about twice that."""
    apart = gap * (log_error(high) - log_error(low))
    places = {log_error(low): None, log_error(high): None}  # place -> tick, and none at the ends
    for step in (10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01):
        if max(np.diff(sorted(places))) < 2.2 * apart:
            break
        for k in range(math.floor(100 * high / step), math.ceil(100 * low / step) - 1, -1):
            tick = round(k * step, 2) / 100
            if all(abs(log_error(tick) - place) >= apart for place, other in places.items() if other is not None):
                places[log_error(tick)] = tick
    axis.set_major_locator(FixedLocator(sorted(tick for tick in places.values() if tick is not None)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


def power(value: float) -> str:
    """10⁴, 2·10⁴, 9.5·10⁻⁴, −10³; plain between 0.1 and 1,000."""
    if value == 0:
        return "0"
    sign, size = "−" if value < 0 else "", abs(value)
    exponent = math.floor(math.log10(size) + 1e-9)
    if -1 <= exponent <= 2:
        return f"{sign}{size:.4g}"
    factor = f"{size / 10**exponent:.3g}"
    return sign + ("" if factor == "1" else f"{factor}·") + "10" + str(exponent).translate(_SUPERSCRIPTS)
