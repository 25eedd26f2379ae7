"""Colours, lines and markers.

A method has one colour and one marker in every figure, whichever others are there. The settings of one method (the
four shapes of SAMT, the inertias of TIAM) share its hue and differ in lightness, line style and marker.
"""

import colorsys
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.colors import to_hex, to_rgb

from reproduce.judge.rows import with_role

STYLE = Path(__file__).with_name("style.mplstyle")
SMALL = 6  # points, size of notes and subtitles
GREY = "#4d4d4d"
PALE = "#d9dbde"  # lines that are there for comparison
# Chosen together for distance in CIE Lab as seen with normal, deuteranopic and protanopic eyes, also from the lighter
# and darker settings of SAMT and TIAM; the markers tell apart what sixteen colours cannot.
_METHODS = {
    "samt": ("#0072B2", "o"),
    "tiam": ("#D55E00", "s"),
    "adam": ("#009E73", "^"),
    "sgd": ("#000000", "v"),
    "mdlam": ("#CC79A7", "D"),
    "sam": ("#2233AA", "P"),
    "momentum": ("#991188", "X"),
    "nesterov": ("#BBAAFF", "<"),
    "gd": ("#AABBAA", ">"),
    "adamw": ("#DDBB22", "p"),
    "rmsprop": ("#FF5577", "*"),
    "adagrad": ("#3388FF", "h"),
    "adadelta": ("#776633", "d"),
    "dladmm": ("#552222", "8"),
    "bcd": ("#005555", (4, 1, 0)),
    "am-adam": ("#33AA33", "H"),
    # Their names' hashes came out beside Adam's green triangle and the blue of SAM.
    "schedule-free-adamw": ("#FF9966", "8"),
    "osgm": ("#8B0000", ">"),
}
_MARKERS = tuple(dict.fromkeys(marker for _, marker in _METHODS.values()))
_LINES = ("solid", "dashed", "dotted", "dashdot")
_SHAPES = ("row", "element", "column", "scalar")  # the default first


@dataclass(frozen=True)
class Style:
    """How a label is drawn."""

    colour: str
    line: str
    marker: str | tuple[int, int, int]


def style_of(method: str, position: int = 0) -> Style:
    """The style of a method's setting number `position`; 0 is the method's own colour.

    An unknown method gets a colour and a marker from the hash of its name; NAME-released is a lighter NAME.
    """
    base = method.removesuffix("-released")
    if base in _METHODS:
        colour, marker = _METHODS[base]
    else:
        digest = hashlib.sha256(base.encode()).digest()
        colour = to_hex(colorsys.hls_to_rgb(int.from_bytes(digest[:4]) / 2**32, 0.3 + 0.3 * digest[4] / 255, 0.55))
        marker = _MARKERS[digest[5] % len(_MARKERS)]
    style = Style(colour, _LINES[0], marker)
    if base != method:
        style = replace(style, colour=_with_lightness(colour, lambda l: l + 0.45 * (1 - l)), line=_LINES[3])
    if position:
        # Bit-reversed fractions 1/2, 1/4, 3/4, 1/8 ...: few settings lie far apart, many still evenly.
        share = int(f"{position:b}"[::-1], 2) / 2 ** position.bit_length()
        shifted = _with_lightness(style.colour, lambda l: 0.12 + (l - 0.12 + 0.66 * share) % 0.66)
        marker = _MARKERS[(_MARKERS.index(style.marker) + position) % len(_MARKERS)]
        style = Style(shifted, _LINES[(_LINES.index(style.line) + position) % len(_LINES)], marker)
    return style


def _with_lightness(colour: str, change: Callable[[float], float]) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    return to_hex(colorsys.hls_to_rgb(hue, min(1.0, max(0.0, change(lightness))), saturation))


def styles(rows: Iterable[tuple[str, str, str]]) -> dict[str, Style]:
    """The style of each label of a grid, from its rows' (method, label, hyper-parameters as JSON).

    Shapes of the step sizes, and inertias that are off, have fixed positions in every grid; any other label takes the
    first position that its method has free. No label depends on another method's.
    """
    settings: dict[tuple[str, str], set[str]] = {}
    for method, label, hyperparameters in rows:
        settings.setdefault((method, label), set()).add(hyperparameters)
    labels = list(settings)
    positions: dict[tuple[str, str], int] = {}
    taken: dict[str, set[int]] = {method: set() for method, _ in labels}
    for method, label in labels:
        found = {_fixed_position(method, text) for text in settings[method, label]}
        position = found.pop() if len(found) == 1 else None
        if position is not None and position not in taken[method]:
            taken[method].add(position)
            positions[method, label] = position
    for method, label in labels:
        if (method, label) not in positions:
            free = next(p for p in range(len(labels)) if p not in taken[method])
            taken[method].add(free)
            positions[method, label] = free
    return {label: style_of(method, positions[method, label]) for method, label in labels}


def _fixed_position(method: str, hyperparameters: str) -> int | None:
    """The shape of the step sizes, or which of the inertias are off, as a number; None without either."""
    settings = json.loads(hyperparameters)
    for key in with_role(method, "shape"):
        if settings.get(key) in _SHAPES:
            return _SHAPES.index(settings[key])
    inertias = [settings[key] for key in with_role(method, "inertia") if key in settings]
    return sum(2**i for i, p in enumerate(reversed(inertias)) if p == 0) if len(inertias) > 1 else None


def look_of(style: Style) -> dict:
    edge = dict(markeredgecolor="white", markeredgewidth=0.3)
    return dict(color=style.colour, linestyle=style.line, marker=style.marker, **edge)


def tone(style: Style) -> tuple[float, float, float]:
    """The colour of a label, dark enough for a thin line on white."""
    rgb = to_rgb(style.colour)
    factor = min(1.0, 0.5 / max(luminance(rgb), 1e-9))
    return tuple(factor * part for part in rgb)


def luminance(rgb: Sequence[float]) -> float:
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]
