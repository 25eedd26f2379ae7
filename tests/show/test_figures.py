"""Figures from made-up CSVs: what is drawn and what is never dropped."""

import re

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from figure_csvs import LABELS, PLAIN, check_texts, name_of, one_line, texts, write_csvs
from matplotlib.figure import Figure

from am.errors import InputError
from am.modules.networks import NETWORKS
from reproduce.evidence.about import About, Target
from reproduce.judge.estimates import mean_intervals
from reproduce.show import figures
from reproduce.show.axes import accuracy_ticks, log_error, power
from reproduce.show.figures import draw, figures_of
from reproduce.show.finals import REPORTED
from reproduce.show.look import PALE, STYLE
from reproduce.show.panels import MOST_LINES, ONE_COLUMN, OTHERS, PAGE_HEIGHT, TWO_COLUMNS, Marks


@pytest.fixture(scope="module", autouse=True)
def style():
    with matplotlib.style.context(str(STYLE), after_reset=True):
        yield


LABELS_OF = {
    "Full-batch AM": ["TIAM", "mDLAM", "dlADMM"],
    "Gradient methods": ["GD", "SGD", "Momentum", "Adam"],
    "Stochastic AM": ["SAM", "SAMT scalar", "SAMT row", "SAMT column", "SAMT element"],
}
DIVERGED = {
    ("mnist", "SAMT element"): {0: 3, 3: 20},
    ("fashion_mnist", "mDLAM"): {1: 12},
    ("cifar10", "SAMT element"): dict.fromkeys(range(5), -1),
    ("svhn", "dlADMM"): {seed: 5 + seed for seed in range(5)},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The figures of four data sets x twelve labels x five seeds, ten runs diverged, two data sets not official."""
    results = tmp_path_factory.mktemp("results")
    write_csvs(results, "main", diverged=DIVERGED, unofficial=("cifar10", "svhn"))
    runs, curves = figures._read_runs(results, "main"), figures._read_curves(results, "main")
    return draw(runs, curves, "A title", Target("SGD", 0.98))


def test_every_kind_is_drawn_at_the_width_of_a_paper(drawn):
    assert tuple(drawn) == (*PLAIN, "performance_profile"), "ranks of twelve labels would decide nothing"
    assert all(figure.get_figwidth() == TWO_COLUMNS for figure in drawn.values())
    assert all(figure.get_figheight() <= PAGE_HEIGHT for figure in drawn.values())
    for name in PLAIN:
        times = 3 if name.startswith("accuracy") else 1  # twelve labels are three groups of methods
        assert [name_of(ax) for ax in drawn[name].axes] == ["MNIST", "Fashion-MNIST", "CIFAR-10†", "SVHN†"] * times
        assert texts(drawn[name]).count("n = 10,000, 5 seeds") == 4 * times


def test_the_legend_has_the_order_of_runs_csv_read_row_by_row(drawn):
    drawn["accuracy_epochs"].canvas.draw()
    entries = [text for legend in drawn["accuracy_epochs"].legends for text in legend.get_texts()]
    place = {text.get_text(): text.get_window_extent() for text in entries if text.get_text() != OTHERS}
    families = [LABELS_OF[family] for family in ("Full-batch AM", "Gradient methods", "Stochastic AM")]
    assert sorted(place, key=lambda label: (-round(place[label].y0), place[label].x0)) == sum(families, [])
    only = [text.get_text() for text in drawn["objective"].legends[0].get_texts()]
    assert only == ["TIAM", "mDLAM", "dlADMM"], "labels without an objective have no line there"


def test_updates_are_logarithmic_and_objectives_too(drawn):
    assert {ax.get_xscale() for ax in drawn["accuracy_updates"].axes} == {"log"}
    both = [ax for name in ("objective", "constraint_gap") for ax in drawn[name].axes]
    assert {scale for ax in both for scale in (ax.get_xscale(), ax.get_yscale())} == {"log"}


def test_a_panel_has_eight_lines_in_colour_and_the_others_in_grey(drawn):
    """Every label is in colour in one panel of each data set, and there in grey where another group is."""
    for figure in (drawn["accuracy_epochs"], drawn["accuracy_updates"]):
        seen = {}
        for ax in figure.axes:
            colours = [line.get_color() for line in ax.lines if len(line.get_xdata()) > 1 and line.get_marker() != "x"]
            own = [line for line in ax.lines if line.get_marker() not in ("None", "x")]
            missing = name_of(ax) == "CIFAR-10†"  # SAMT element diverged before its first evaluation
            assert len(own) <= MOST_LINES and colours.count(PALE) == len(LABELS) - missing - len(own)
            (group,) = [text.get_text() for text in ax.texts if text.get_text() in LABELS_OF]
            assert len(own) == len(LABELS_OF[group]) - (missing and group == "Stochastic AM")
            seen.setdefault(name_of(ax), []).append(group)
        assert all(sorted(groups) == sorted(LABELS_OF) for groups in seen.values()) and len(seen) == 4


def test_updates_that_repeat_the_epochs_are_not_drawn_again(tmp_path):
    labels = {label: LABELS[label] for label in ("SGD", "Adam")}
    write_csvs(tmp_path, "g", labels, {"mnist": 0.9}, seeds=2, evaluations=4)
    runs, curves = figures.csvs_of(tmp_path, "g")
    some = draw(runs, curves)
    assert "accuracy_updates" not in some and "An epoch is 400 parameter updates." in one_line(some["accuracy_epochs"])
    slower = curves.assign(parameter_updates=curves.parameter_updates.where(curves.label == "SGD", 1))
    assert "accuracy_updates" in draw(runs, slower)


def test_a_data_set_of_far_fewer_updates_has_a_range_of_its_own(tmp_path):
    """4,000 images of SVHN beside 55,000 of MNIST: on one range the short lines would stand in a corner."""
    write_csvs(tmp_path, "g", {k: LABELS[k] for k in ("SGD", "SAM")}, dict(mnist=0.9, svhn=0.8), seeds=2, evaluations=9)
    runs, curves = figures.csvs_of(tmp_path, "g")
    alike = draw(runs, curves, kinds=["accuracy_updates"])["accuracy_updates"]
    few = curves.run_key.isin(runs.run_key[runs.dataset == "svhn"])
    curves["parameter_updates"] = curves.parameter_updates.where(~few, curves.parameter_updates // 10)
    apart = draw(runs, curves, kinds=["accuracy_updates"])["accuracy_updates"]
    note = "Panels differ in the range of the horizontal axis."
    assert len({ax.get_xlim() for ax in alike.axes}) == 1 and note not in one_line(alike)
    ends = {name_of(ax): ax.get_xlim()[1] for ax in apart.axes}
    assert 8 * ends["SVHN"] < ends["MNIST"] and note in one_line(apart)


def test_a_data_set_that_lost_every_run_at_its_start_has_the_range_of_the_others(tmp_path):
    some = {k: LABELS[k] for k in ("SGD", "SAM")}
    lost = {("svhn", label): {0: 0, 1: 0} for label in some}
    write_csvs(tmp_path, "g", some, dict(mnist=0.9, svhn=0.8), seeds=2, evaluations=9, diverged=lost)
    figure = draw(*figures.csvs_of(tmp_path, "g"), kinds=["accuracy_updates"])["accuracy_updates"]
    assert [name_of(ax) for ax in figure.axes] == ["MNIST", "SVHN"] and len({ax.get_xlim() for ax in figure.axes}) == 1


def test_small_budgets_are_not_crushed_at_the_left_edge(tmp_path):
    labels = {"GD": ("gd", 1, 3, 0.7, 0.1, False), "SGD": ("sgd", 1, 40, 1.0, 0.5, False)}
    write_csvs(tmp_path, "g", labels, {"mnist": 0.9}, seeds=2, evaluations=5)
    (ax,) = draw(*figures.csvs_of(tmp_path, "g"))["accuracy_updates"].axes
    assert ax.get_xscale() == "log", "GD ends at 15 updates, SGD at 200"


def test_lines_have_their_names_beside_them_where_there_is_room(tmp_path):
    labels = {label: LABELS[label] for label in ("TIAM", "mDLAM", "dlADMM")}
    write_csvs(tmp_path, "g", labels, {"mnist": 0.9, "svhn": 0.8}, seeds=3, evaluations=9)
    figure = draw(*figures.csvs_of(tmp_path, "g"))["constraint_gap"]
    check_texts(figure, "constraint_gap")
    assert not figure.legends
    for ax in figure.axes:
        names = {text.get_text(): text for text in ax.texts if text.get_text() in labels}
        assert set(names) == set(labels)
        ends = dict(zip(labels, [line.get_ydata()[-1] for line in ax.lines if len(line.get_ydata())]))
        heights = {label: text.get_position()[1] for label, text in names.items()}
        assert sorted(labels, key=ends.get) == sorted(labels, key=heights.get), "in the order of the lines"
        ticks = [ax.yaxis.get_major_formatter()(tick) for tick in ax.yaxis.get_majorticklocs()]
        assert len(set(ticks)) == len(ticks)


def test_ticks_of_a_narrow_logarithmic_axis_differ():
    assert [power(v) for v in (0.00095, 0.001, 0.00105, -2e4, 0.0, 12.5)] == [
        "9.5·10⁻⁴", "10⁻³", "1.05·10⁻³", "−2·10⁴", "0", "12.5",
    ]  # fmt: skip


def test_an_objective_shows_its_first_iterations_and_from_where_claims_count(tmp_path):
    """A rise in the first iterations, below a start a thousand times as high, must not be a millimetre of the page."""
    write_csvs(tmp_path, "g", {"TIAM": LABELS["TIAM"]}, {"mnist": 0.9}, seeds=3, evaluations=40)
    runs, curves = figures.csvs_of(tmp_path, "g")
    curves["objective"] = np.where(curves["iteration"] == 0, 4e4, 40 / (1 + curves["iteration"]))
    figure = draw(runs, curves, marks=Marks(since=18))["objective"]
    (ax,) = figure.axes
    assert ax.get_ylim()[1] < 50 and any(list(line.get_xdata()) == [18, 18] for line in ax.lines)
    assert "Dotted: iteration 18" in one_line(figure)
    assert "Dotted" not in one_line(draw(runs, curves)["objective"])


def test_floors_and_reported_numbers_are_drawn(tmp_path):
    labels = {label: LABELS[label] for label in ("TIAM", "Adam")}
    write_csvs(tmp_path, "g", labels, {"mnist": 0.95, "svhn": 0.8}, seeds=2, evaluations=5)
    table = pd.DataFrame(
        dict(grid=["g", "h"], label=["TIAM", "Adam"], at=[6, 1], theirs=[0.5, 0.6], theirs_sd=[0.1, None])
    )
    (tmp_path / "published").mkdir()
    table.to_csv(tmp_path / "published" / "comparison.csv", index=False)
    table.assign(at=9, theirs=0.7).to_csv(tmp_path / "published" / "released_code.csv", index=False)
    marks = Marks(dict(mnist=0.97), figures.reported(tmp_path, "g"))
    some = draw(*figures.csvs_of(tmp_path, "g"), marks=marks)
    mnist, svhn = some["accuracy_epochs"].axes
    level = lambda ax: [
        line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1 and len(line.get_ydata()) == 2
    ]
    assert level(mnist) == [0.97] and level(svhn) == [] and mnist.get_ylim()[1] > 0.97
    marks = {
        line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in mnist.lines
        if line.get_marker() in "Do" and len(line.get_xdata()) == 1
    }
    assert marks == {"D": (6, 0.5), "o": (9, 0.7)}, "printed, and what released code gave"
    notes = one_line(some["accuracy_epochs"])
    assert (
        "above, MNIST 97 %." in notes and "◆: the number that its authors printed" in notes and "○: what the" in notes
    )
    final = some["final_accuracy"]
    assert 0.97 in [line.get_xdata()[0] for line in final.axes[0].lines]
    assert "MNIST 97 %." in one_line(final) and REPORTED not in texts(final), "at epochs 6 and 9, of 15"


def test_a_reported_final_accuracy_has_a_row_below_the_labels_own(tmp_path):
    """And a label alone has its whole interval, which no other label makes room for."""
    write_csvs(tmp_path, "g", {"TIAM": LABELS["TIAM"]}, {"mnist": 0.95}, seeds=3, evaluations=5)
    table = pd.DataFrame(dict(grid="g", label="TIAM", at=[6, 15], theirs=[0.5, 0.56], theirs_sd=[None, 0.01]))
    (tmp_path / "published").mkdir()
    table.to_csv(tmp_path / "published" / "comparison.csv", index=False)
    runs, curves = figures.csvs_of(tmp_path, "g")
    figure = draw(runs, curves, marks=Marks(reported=figures.reported(tmp_path, "g")))["final_accuracy"]
    check_texts(figure, "final_accuracy")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["TIAM", REPORTED]
    points = [line.get_xydata()[0].tolist() for line in ax.lines if line.get_marker() == "D"]
    assert points == [[0.56, 1]] and "its authors printed" in one_line(figure)
    _, low, high = mean_intervals(runs.test_accuracy)
    ends = ax.get_xlim()
    assert ends[0] < min(low, 0.56) and max(high, 0.56) < ends[1]


def test_for_a_paper_there_is_no_title_and_no_note_but_a_caption_beside(tmp_path):
    write_csvs(tmp_path, "g", LABELS, {"mnist": 0.95, "svhn": 0.8}, seeds=3, evaluations=5)
    paper = figures.Paper(("sgd", "adam", "tiam"), one_column=True)
    written = figures_of(tmp_path, "g", tmp_path / "out", About("A title"), paper)
    caption = (tmp_path / "out" / "g" / "accuracy_epochs.txt").read_text(encoding="utf-8")
    assert caption.startswith("A title. Mean over seeds; band: 95 % t interval of the mean.")
    assert {path.suffix for path in written} == {".pdf", ".png", ".txt"}
    runs, curves = figures.csvs_of(tmp_path, "g")
    kept = runs.method.isin(paper.methods)
    some = draw(runs[kept], curves[curves.run_key.isin(runs.run_key[kept])], "A title", paper=paper)
    for name, figure in some.items():
        check_texts(figure, name)
        assert figure.get_figwidth() == ONE_COLUMN and "A title" not in texts(figure)
        assert not any("over seeds" in text for text in texts(figure))
    assert set(texts(some["final_accuracy"])) & set(LABELS) == {"SGD", "Adam", "TIAM"}
    with pytest.raises(InputError, match="unknown method 'adm'; did you mean 'adam'"):
        figures_of(tmp_path, "g", tmp_path / "out", paper=figures.Paper(("adm",)))


def test_no_text_is_cut_or_covers_another(drawn):
    for name, figure in drawn.items():
        check_texts(figure, name)


def test_diverged_runs_are_shown(drawn):
    rows = {name_of(ax): [t.get_text() for t in ax.texts] for ax in drawn["final_accuracy"].axes}
    assert "× 2/5 diverged" in rows["MNIST"] and "× 1/5 diverged" in rows["Fashion-MNIST"]
    assert "× 5/5 diverged" in rows["CIFAR-10†"] and "× 5/5 diverged" in rows["SVHN†"]
    last = {name_of(ax): ax.get_yticklabels()[-1].get_text() for ax in drawn["final_accuracy"].axes}
    assert last["CIFAR-10†"] == "SAMT element" and last["SVHN†"] == "dlADMM", "no finished run ranks last"
    lost = "MNIST: SAMT element 2/5; Fashion-MNIST: mDLAM 1/5; CIFAR-10: SAMT element 5/5; SVHN: dlADMM 5/5."
    for name in ("accuracy_epochs", "accuracy_updates"):
        assert f"Diverged runs – {lost}" in one_line(drawn[name])
    crosses = [[line.get_xdata()[0] for line in ax.lines if line.get_marker() == "x"] for ax in drawn["objective"].axes]
    assert crosses == [[], [36], [], [15]], "a cross at the last evaluation that all seeds reached"


def test_what_lost_every_run_at_once_has_no_name_beside_a_line_and_no_part_in_the_scale(tmp_path):
    labels = {name: LABELS[name] for name in ("SGD", "Adam", "SAM")} | {"GD": ("gd", 5, 400, 0.72, 0.2, False)}
    lost = {("mnist", "Adam"): dict.fromkeys(range(3), 0)}
    write_csvs(tmp_path, "g", labels, {"mnist": 0.9}, seeds=3, evaluations=8, diverged=lost)
    figure = draw(*figures.csvs_of(tmp_path, "g"))["accuracy_epochs"]
    (ax,) = figure.axes
    assert {text.get_text() for text in ax.texts} >= {"SGD", "SAM", "GD"} and "Adam 3/3" in one_line(figure)
    assert "Adam" not in {text.get_text() for text in ax.texts}
    assert ax.get_xscale() == "log", "budgets of 4 and of 40 epochs, whoever was lost at 0"


def test_every_label_ends_in_the_panel_unless_it_failed_and_is_named(drawn, tmp_path):
    for ax in drawn["accuracy_epochs"].axes:
        bottom, top = ax.get_ylim()
        assert all(bottom < line.get_ydata()[-1] < top for line in ax.lines if len(line.get_ydata()))
    labels = {"Adam": LABELS["Adam"], "Stuck": ("adadelta", 0.5, 400, 0.12, 0.5, False)}
    write_csvs(tmp_path, "g", labels, {"mnist": 0.98}, seeds=2, evaluations=30)
    some = draw(figures._read_runs(tmp_path, "g"), figures._read_curves(tmp_path, "g"))
    assert re.search(r"Below the panel \(last mean\) – MNIST: Stuck 1\d\.\d\.", one_line(some["accuracy_epochs"]))
    assert any(re.fullmatch(r"◂ 1\d\.\d", text) for text in texts(some["final_accuracy"]))
    assert "◂: mean below the axis." in one_line(some["final_accuracy"])


def test_a_mean_that_one_lost_seed_pulled_down_leaves_the_panel_to_the_others(tmp_path):
    write_csvs(tmp_path, "g", {name: LABELS[name] for name in ("SGD", "Adam", "SAM")}, {"mnist": 0.98}, seeds=3)
    runs, curves = figures.csvs_of(tmp_path, "g")
    lost = runs.run_key[(runs.label == "SAM") & (runs.seed == 1)].item()
    curves.loc[curves.run_key == lost, "test_accuracy"] = 0.25
    figure = draw(runs, curves)["accuracy_epochs"]
    (ax,) = figure.axes
    assert ax.get_ylim()[0] > 0.9 and re.search(r"MNIST: SAM 7\d\.\d\.", one_line(figure))
    assert len(ax.collections) == 2, "no band of SAM covers the others"


@pytest.mark.parametrize(
    "low, high", [(0.3, 0.985), (0.2, 0.53), (0.83, 0.845), (0.972, 0.979), (0.1, 0.9999), (0.9961, 0.9985)]
)
def test_accuracy_ticks_are_round_and_spread(low, high):
    axis = Figure().add_subplot().yaxis
    accuracy_ticks(axis, low, high, gap=1 / 7)
    places = np.diff(log_error(np.array([low, *axis.get_majorticklocs(), high])))
    length = places.sum()
    assert (places[1:-1] > length / 7 - 1e-9).all() and (places < 2.5 * length / 7).all()
    labels = [axis.get_major_formatter()(tick) for tick in axis.get_majorticklocs()]
    assert len(set(labels)) == len(labels) >= 3 and all(len(label) <= 5 for label in labels)


def test_unofficial_data_has_a_dagger_and_a_footnote(drawn, tmp_path):
    assert all("† not the official copy of the data set" in one_line(figure) for figure in drawn.values())
    write_csvs(tmp_path, "g", {"GD": LABELS["GD"]}, {"digits": 0.9}, seeds=1, evaluations=3)
    official = draw(figures._read_runs(tmp_path, "g"), figures._read_curves(tmp_path, "g"))
    assert not any("†" in text for figure in official.values() for text in texts(figure))
    assert official["accuracy_epochs"].get_figwidth() == ONE_COLUMN
    assert set(official) == {"accuracy_epochs"}, "no objective, updates a multiple of the epochs, and a single dot"
    assert "An epoch is 1 parameter updates." in one_line(official["accuracy_epochs"])


def test_networks_are_rows_and_pass_on_to_a_second_page(tmp_path):
    names = dict(relu="ReLU", leaky_relu="leaky ReLU", elu="ELU", selu="SELU", softplus="softplus")
    networks = [(activation, "100-100") for activation in names]
    datasets = dict(mnist=0.9, svhn=0.8)
    write_csvs(tmp_path, "g", {"GD": LABELS["GD"]}, datasets, seeds=2, evaluations=4, networks=networks)
    both = draw(figures._read_runs(tmp_path, "g"), figures._read_curves(tmp_path, "g"))
    pages = [both["accuracy_epochs"], both["accuracy_epochs-2"]]
    assert [name_of(ax) for page in pages for ax in page.axes] == ["MNIST", "SVHN"] * 5
    shown = [text.get_text() for page in pages for ax in page.axes for text in ax.texts]
    assert [text for text in shown if text in names.values()] == [name for name in names.values() for _ in datasets]
    assert all(page.get_figheight() <= PAGE_HEIGHT for page in pages)


def test_networks_of_the_module_lane_have_their_names_and_an_axis_of_gradients(tmp_path):
    labels = {label: LABELS[label] for label in ("SGD", "SAMT row")}
    datasets = dict(mnist=0.9, fashion_mnist=0.9, cifar10=0.5, svhn=0.8)
    write_csvs(tmp_path, "g", labels, datasets, seeds=2, evaluations=4, lane="time")
    runs, curves = figures._read_runs(tmp_path, "g"), figures._read_curves(tmp_path, "g")
    assert "accuracy_gradients" not in draw(runs, curves)
    networks = runs.dataset.map(dict(mnist="lenet5", fashion_mnist="lenet5", cifar10="cnn", svhn="cnn"))
    hidden = {name: "-".join(map(str, known.hidden)) for name, known in NETWORKS.items()}
    drawn = draw(runs.assign(network=networks, hidden=networks.map(hidden)), curves)
    for kind in ("accuracy_epochs", "accuracy_gradients", "accuracy_seconds"):
        panels = drawn[kind].axes
        assert [name_of(ax) for ax in panels] == ["MNIST", "Fashion-MNIST", "CIFAR-10", "SVHN"]
        shown = [text.get_text() for ax in panels for text in ax.texts]
        assert [text for text in shown if text in ("LeNet-5", "CNN")] == ["LeNet-5"] * 2 + ["CNN"] * 2
        check_texts(drawn[kind], kind)
    assert "Gradients of a layer" in texts(drawn["accuracy_gradients"])


def test_a_negative_objective_has_an_axis_on_both_sides_of_0_and_failed_runs_a_note(tmp_path):
    labels = {label: LABELS[label] for label in ("TIAM", "Adam")}
    write_csvs(tmp_path, "g", labels, {"digits": 0.9}, seeds=2, evaluations=3)
    runs, curves = figures._read_runs(tmp_path, "g"), figures._read_curves(tmp_path, "g")
    curves["objective"] -= 25_000
    runs.loc[runs.label == "Adam", ["status", "test_accuracy"]] = ["failed", np.nan]
    some = draw(runs, curves)
    (ax,) = some["objective"].axes
    assert ax.get_yscale() == "symlog" and "(linear between ±10)" in one_line(some["objective"])
    drawn, (bottom, top) = ax.lines[0].get_ydata(), ax.get_ylim()
    assert drawn.max() > 0 > drawn.min() and bottom < drawn.min() and drawn.max() < top
    check_texts(some["objective"], "objective")
    assert "Failed, to be run again, not in the figure: Adam on Digits (2)." in one_line(some["final_accuracy"])
    assert draw(runs[runs.status == "failed"], curves[:0]) == {}, "no finished run, no figure"
