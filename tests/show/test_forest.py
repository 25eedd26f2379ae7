"""The claims as a forest plot, from made-up claims.csv and claim_effects.csv."""

import math
import re

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from figure_csvs import texts

from reproduce.show.forest import Row, draw_claims, forests, judged, least_favourable
from reproduce.show.look import STYLE
from reproduce.show.panels import PAGE_HEIGHT, TWO_COLUMNS

# id -> (paper, sentence, protocol, rule, bound, scale, unit, {comparator: effect})
CLAIMS = {
    "SAMT-1": ("SAMT", "It is better.", "equal epochs", "better", "", "difference", "points", dict(SGD=1.0, Adam=-0.5)),
    "TIAM-1": ("TIAM", "It needs fewer.", "equal iterations", "fewer", "", "ratio", "times the epochs",
               dict(mDLAM=0.5, GD=math.inf)),
    "TIAM-7": ("TIAM", "It falls.", "from the start", "at_least", 0.99, "level", "% of the evaluations", {"": 99.5}),
    "TIAM-8": ("TIAM", "It shrinks.", "from the start", "at_most", 1.0, "level", "per iteration", {"": 0.9}),
}  # fmt: skip
ENDS = ("effect", "ci_low", "ci_high")
VERDICT = dict(paper="refuted", light="held")


@pytest.fixture(name="results")
def results_fixture(tmp_path):
    claims, effects = [], []
    for ident, (paper, sentence, protocol, rule, bound, scale, unit, found) in CLAIMS.items():
        for profile in ("paper", "light"):
            place = dict(id=ident, protocol=protocol, grid="g", profile=profile)
            reason = "the opposite: mnist" if profile == "paper" else "holds: mnist"
            words = dict(paper=paper, claim=sentence, rule=rule, bound=bound, verdict=VERDICT[profile], reason=reason)
            claims.append(place | words)
            for dataset, shift in (("mnist", 0.0), ("svhn", 0.01)):
                for against, effect in found.items():
                    ends = dict(effect=effect + shift, ci_low=effect + shift - 0.1, ci_high=effect + shift + 0.1)
                    told = dict(dataset=dataset, scale=scale, unit=unit, against=against, outcome="tied")
                    effects.append(place | told | ends)
    pd.DataFrame(claims).to_csv(tmp_path / "claims.csv", index=False)
    pd.DataFrame(effects).to_csv(tmp_path / "claim_effects.csv", index=False)
    return tmp_path


@pytest.fixture(name="drawn")
def drawn_fixture(results):
    with matplotlib.style.context(str(STYLE), after_reset=True):
        yield forests(*judged(results))


def dots(ax) -> list[float]:
    return [line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("None", "", "|", None)]


def test_a_dot_is_the_least_favourable_comparator_of_a_data_set(results):
    _, effects = judged(results)
    better = Row(("SAMT-1", "equal epochs", "g"), "", "points", "difference", 1, 0.0)
    found = least_favourable(effects, better)
    assert found.against.tolist() == ["Adam"] * 4 and found.effect.tolist() == [-0.5, -0.49] * 2
    sure = effects.assign(outcome=effects.outcome.where(effects.against != "Adam", "better"))
    assert set(least_favourable(sure, better).against) == {"SGD"}, (
        "what is open decides the verdict, what holds does not"
    )
    fewer = Row(("TIAM-1", "equal iterations", "g"), "", "times", "ratio", -1, 1.0)
    assert least_favourable(effects, fewer).against.tolist() == ["GD"] * 4, "a miss costs infinitely much"


def test_each_paper_has_a_page_with_the_profiles_side_by_side(drawn):
    assert list(drawn) == ["SAMT", "TIAM"]
    assert len(drawn["SAMT"].axes) == 2 and len(drawn["TIAM"].axes) == 6, "two columns of one and of three units"
    for figure in drawn.values():
        assert figure.get_figwidth() == TWO_COLUMNS and figure.get_figheight() <= PAGE_HEIGHT
        assert {"At the papers' scale", "On two cores (light)"} <= set(texts(figure))
    paper, light = drawn["SAMT"].axes
    assert dots(paper) == [-0.5, -0.49] == dots(light) and paper.get_xlim() == light.get_xlim()
    assert [ax.texts[-1].get_text() for ax in (paper, light)] == ["✗", "✓"]


def test_what_is_open_is_told_from_the_opposite(results):
    claims, effects = judged(results)
    with matplotlib.style.context(str(STYLE), after_reset=True):
        figure = forests(claims.replace("refuted", "open"), effects)["SAMT"]
    assert [ax.texts[-1].get_text() for ax in figure.axes] == ["○", "✓"]


def test_two_grids_that_share_their_runs_are_no_two_results(results):
    claims, effects = judged(results)
    again = [table[table.id == "SAMT-1"].assign(grid="h") for table in (claims, effects)]
    again[1].loc[again[1].profile == "light", "effect"] += 0.01
    with matplotlib.style.context(str(STYLE), after_reset=True):
        drawn = forests(*(pd.concat(both) for both in zip((claims, effects), again)))
    assert texts(drawn["SAMT"]).count("the same runs as above") == 1, "in paper alone: light has other numbers"
    assert [len(dots(ax)) for ax in drawn["SAMT"].axes] == [2, 4]


def test_a_claim_of_far_wider_effects_has_an_axis_of_its_own(results):
    claims, effects = judged(results)
    parts = [(claims, effects)] + [
        (claims.assign(grid=f"g{i}"), effects.assign(grid=f"g{i}", **{c: effects[c] * by for c in ENDS}))
        for i, by in enumerate((1.01, 1.02, 50))
    ]
    with matplotlib.style.context(str(STYLE), after_reset=True):
        figure = forests(*(pd.concat(tables, ignore_index=True) for tables in zip(*parts)))["SAMT"]
    near, _, far, _ = figure.axes
    assert len(dots(near)) == 6 and dots(far) == [-25, pytest.approx(-24.5)] and near.get_xlim()[0] > -2


def test_right_is_always_in_the_claims_favour(drawn):
    ratio, _, at_least, _, at_most, _ = drawn["TIAM"].axes
    assert ratio.xaxis_inverted() and at_most.xaxis_inverted() and not at_least.xaxis_inverted()
    lines = [
        [x[0] for line in ax.lines if len(x := line.get_xdata()) == 2 and x[0] == x[1]]
        for ax in (ratio, at_least, at_most)
    ]
    assert lines == [[1.0], [99.0], [1.0]], "bounds in the unit of the effects"


def test_what_lies_beyond_the_axis_is_a_triangle_at_its_edge(drawn):
    ratio = drawn["TIAM"].axes[0]
    triangles = [line for line in ratio.lines if line.get_marker() in ("<", ">")]
    assert len(triangles) == 2 and {line.get_marker() for line in triangles} == {"<"}, "a miss is against the claim"
    np.testing.assert_allclose([line.get_xdata()[0] for line in triangles], max(ratio.get_xlim()))


def test_what_was_not_run_says_so_and_what_has_no_effect_is_named(results):
    effects = pd.read_csv(results / "claim_effects.csv")
    effects[(effects.profile == "light") & (effects.id != "TIAM-8")].to_csv(results / "claim_effects.csv", index=False)
    claims = pd.read_csv(results / "claims.csv")
    claims.loc[claims.profile == "paper", "verdict"] = "not run"
    claims.to_csv(results / "claims.csv", index=False)
    with matplotlib.style.context(str(STYLE), after_reset=True):
        tiam = forests(*judged(results))["TIAM"]
    assert texts(tiam).count("not run") == 2 and len(tiam.axes) == 4
    assert "not run or of another kind: TIAM-8." in tiam.get_label()


def test_many_claims_pass_on_to_a_second_page(results):
    claims, effects = judged(results)
    grown = [
        (claims.assign(unit=f"unit {i}", grid=f"g{i}"), effects.assign(unit=f"unit {i}", grid=f"g{i}"))
        for i in range(9)
    ]
    with matplotlib.style.context(str(STYLE), after_reset=True):
        drawn = forests(*(pd.concat(tables, ignore_index=True) for tables in zip(*grown)))
    assert {"TIAM", "TIAM-2"} <= set(drawn) and all(figure.get_figheight() <= PAGE_HEIGHT for figure in drawn.values())
    assert len([name for name in drawn if name.startswith("SAMT")]) == 1


def test_files_are_a_pdf_and_a_png_a_paper_with_the_same_bytes_again(results, tmp_path):
    first = draw_claims(results, tmp_path / "a")
    assert [path.name for path in first] == ["claims_samt.pdf", "claims_samt.png", "claims_tiam.pdf", "claims_tiam.png"]
    for path, again in zip(first, draw_claims(results, tmp_path / "b")):
        assert path.read_bytes() == again.read_bytes()


def test_claims_of_which_none_was_run_have_no_figure(results, tmp_path):
    effects = pd.read_csv(results / "claim_effects.csv")
    effects[effects.id == "SAMT-1"].to_csv(results / "claim_effects.csv", index=False)
    for name in ("claims_samt-2.png", "claims_tiam.pdf"):
        (tmp_path / name).touch()
    assert {re.sub(r"\..*", "", path.name) for path in draw_claims(results, tmp_path)} == {"claims_samt"}
    assert {path.stem for path in tmp_path.glob("claims_*.p*")} == {"claims_samt"}, "pages of another time are gone"
    (results / "claim_effects.csv").unlink()
    assert draw_claims(results, tmp_path) == []
