"""Colours: fixed, distinct, and told apart by every eye."""

import itertools

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
    own = [style_of(name).colour for name in KNOWN if not name.endswith("-released")]
    for eye, matrix in EYES.items():
        assert smallest_distance(own, matrix) > 12, eye


def test_a_label_looks_the_same_whichever_methods_are_there():
    pairs = [(method, label) for label, (method, *_) in LABELS.items()]
    everywhere = styles(pairs)
    assert everywhere["Adam"] == styles([("adam", "Adam")])["Adam"] == style_of("adam")
    assert everywhere["SAMT element"] == styles([("samt", "SAMT element")])["SAMT element"]
    assert styles(reversed(pairs)) == everywhere


@pytest.mark.parametrize(
    "pairs",
    [
        [("samt", f"SAMT {shape}") for shape in ("scalar", "row", "column", "element")],
        [("tiam", f"TIAM p=({a},{b},{c})") for a in (".9", "0.0") for b in (".9", "0") for c in (".5", "0")],
        [("sgd", f"SGD {rate}") for rate in range(12)],
        [("samt", "SAMT"), ("samt", "SAMT row"), ("samt", "SAMT row, T = 2")],
    ],
)
def test_settings_of_one_method_are_told_apart(pairs):
    looks = list(styles(pairs).values())
    assert len({look.colour for look in looks}) == len({(look.line, look.marker) for look in looks}) == len(pairs)


def test_full_inertia_is_tiams_own_colour_and_unknown_methods_have_one():
    look = styles([("tiam", "TIAM p=(0,0,0)"), ("tiam", "TIAM p=(.9,.9,.5)"), ("heavy-ball", "Heavy ball")])
    assert look["TIAM p=(.9,.9,.5)"] == style_of("tiam")
    assert look["Heavy ball"] == style_of("heavy-ball") != style_of("light-ball")
    assert style_of("heavy-ball").colour == "#cf5a9b"  # a hash of the name, the same on every machine
