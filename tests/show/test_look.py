"""Colours: fixed, distinct, and told apart by every eye."""

import itertools
import json

import numpy as np
import pytest
from figure_csvs import LABELS
from matplotlib.colors import to_rgb

from reproduce.show.look import style_of, styles

KNOWN = (
    "gd sgd momentum nesterov adam adamw rmsprop adagrad adadelta sam samt mdlam mdlam-released tiam dladmm "
    "dladmm-released bcd am-adam am-adam-released"
).split()
# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
EYES = dict(
    normal=np.eye(3),
    deuteranopic=np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    protanopic=np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
)


SETTINGS = {f"SAMT {shape}": dict(shape=shape) for shape in ("scalar", "row", "column", "element")}


def smallest_distance(colours: list[str], eye: np.ndarray) -> float:
    """The least distance in CIE Lab between any two of the colours, as the eye sees them."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear @ eye.T, 0, 1) @ to_xyz.T / to_xyz.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))


def test_known_methods_have_fixed_and_distinct_colours():
    assert style_of("tiam").colour == "#D55E00" and style_of("samt").colour == "#0072B2"
    looks = [style_of(name) for name in KNOWN]
    assert len({look.colour for look in looks}) == len({(look.line, look.marker) for look in looks}) == len(KNOWN)
    assert smallest_distance([look.colour for look in looks], EYES["normal"]) > 20
    rivals = ("schedule-free-adamw", "osgm")
    own = [style_of(name).colour for name in (*KNOWN, *rivals) if not name.endswith("-released")]
    for eye, matrix in EYES.items():
        assert smallest_distance(own, matrix) > 12, eye


def row(method: str, label: str, **settings) -> tuple[str, str, str]:
    return method, label, json.dumps(settings)


def test_a_label_looks_the_same_whichever_methods_are_there():
    rows = [row(method, label, **SETTINGS.get(label, {})) for label, (method, *_) in LABELS.items()]
    everywhere = styles(rows)
    assert everywhere["Adam"] == styles([row("adam", "Adam")])["Adam"] == style_of("adam")
    assert everywhere["SAMT element"] == styles([row("samt", "My SAMT", shape="element")])["My SAMT"]
    assert styles(reversed(rows)) == everywhere


@pytest.mark.parametrize(
    "rows",
    [
        [row("samt", f"SAMT {shape}", shape=shape) for shape in ("scalar", "row", "column", "element")],
        [row("tiam", f"{p}", **dict(zip(("p1", "p2", "p3"), p))) for p in itertools.product((0.9, 0.0), repeat=3)],
        [row("sgd", f"SGD {rate}") for rate in range(12)],
        [row("samt", label, shape="row") for label in ("SAMT", "SAMT row", "SAMT row, T = 2")],
    ],
)
def test_settings_of_one_method_are_told_apart(rows):
    looks = list(styles(rows).values())
    assert len({look.colour for look in looks}) == len({(look.line, look.marker) for look in looks}) == len(rows)


def test_full_inertia_is_tiams_own_colour_and_unknown_methods_have_one():
    none, full = dict(p1=0.0, p2=0.0, p3=0.0), dict(p1=0.9, p2=0.9, p3=0.5)
    look = styles([row("tiam", "None", **none), row("tiam", "Full", **full), row("heavy-ball", "Heavy ball")])
    assert look["Full"] == style_of("tiam") and look["None"] == style_of("tiam", 7)
    assert look["Heavy ball"] == style_of("heavy-ball") != style_of("light-ball")
    assert style_of("heavy-ball").colour == "#cf5a9b"  # a hash of the name, the same on every machine


def test_a_setting_that_varies_within_a_label_fixes_no_position():
    varied = [row("tiam", "p1", p1=p, p2=0.9, p3=0.5) for p in (0.0, 0.9)]
    assert styles([*varied, row("tiam", "TIAM", p1=0.9, p2=0.9, p3=0.5)])["TIAM"] == style_of("tiam")
