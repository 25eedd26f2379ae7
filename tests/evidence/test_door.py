"""The door: what is not what was written is told and left out by every reader; no damage is a traceback."""

import io
import random
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from mutations import mutated_bytes, mutated_field, mutated_text
from sealed import GRID, LABELS, grid_of, of_now_fixture, put, table, trials_of  # noqa: F401

from am.errors import InputError
from reproduce.__main__ import main
from reproduce.evidence import door
from reproduce.evidence.files import Stale, read
from reproduce.evidence.manifest import NAME
from reproduce.judge.claims import load_claims

pytestmark = pytest.mark.usefixtures("of_now")
ROWS = 3 * len(LABELS)
READERS = ("claims", "check", "tables", "figures", "report")


@pytest.fixture(scope="module", autouse=True)
def one_claim():
    """Of the claims only that which is judged on the grid: the others' grids take their time to read."""
    mine = [claim for claim in load_claims() if (claim.id, claim.grid) == ("TIAM-3", GRID)][:1]
    with pytest.MonkeyPatch.context() as patch:
        for module in ("claims", "check"):
            patch.setattr(f"reproduce.judge.{module}.load_claims", lambda *args: mine)
        yield


@pytest.fixture(scope="module")
def collected(tmp_path_factory, one_claim):
    """Results of one grid, as collected, and judged."""
    root = tmp_path_factory.mktemp("collected")
    grid_of(root / "results" / "light" / GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reproduce.evidence.rows.standing", lambda row, trial=False: None)
        assert do(root, "claims") == (0, "")
    return root


@pytest.fixture
def place(collected, tmp_path, monkeypatch):
    """A copy of them, in which figures cost nothing."""
    for name in ("figures.draw", "report.draw", "report._forest", "forest.draw_claims"):
        monkeypatch.setattr(f"reproduce.show.{name}", lambda *args, **more: {})
    monkeypatch.setattr("reproduce.show.report._text", lambda name: "")
    return shutil.copytree(collected, tmp_path / "place")


def do(root: Path, command: str) -> tuple[int, str]:
    """The command's exit status, and what it said on stderr."""
    words = [command, "--results", str(root / "results")]
    if command in ("figures", "report"):
        words += ["--figures", str(root / "figures")]
    if command == "tables":
        (root / "page.md").write_text("A page.\n", encoding="utf-8")
        words += ["--page", str(root / "page.md")]
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        status = main(words)
    return status, said.getvalue()


def csvs(place: Path) -> Path:
    return place / "results" / "light" / GRID


def changed(place: Path, name: str, change) -> None:
    path = csvs(place) / f"{name}.csv"
    put(path, change(table(path)))


def each(change):
    """Every row, changed where `change` gives something."""
    return lambda rows: [row | (change(row) or {}) for row in rows]


def swapped(row):
    other = {LABELS[0]: LABELS[1], LABELS[1]: LABELS[0]}
    return dict(label=other.get(row["label"], row["label"]))


def forge(place: Path) -> None:
    more = lambda row: row["label"] == "TIAM" and dict(test_accuracy=f"{float(row['test_accuracy']) + 0.03:.4f}")
    changed(place, "runs", each(more))


def swap_labels(place: Path) -> None:
    for name in ("runs", "curves"):
        changed(place, name, each(swapped))


def cut_runs(place: Path) -> None:
    changed(place, "runs", lambda rows: rows[:-2])


def cut_curves(place: Path) -> None:
    changed(place, "curves", lambda rows: rows[:-2])


def remove(place: Path) -> None:
    for name in ("runs", "curves"):
        changed(place, name, lambda rows: [row for row in rows if (row["label"], row["seed"]) != ("TIAM", "1")])


def reorder(place: Path) -> None:
    changed(place, "runs", lambda rows: rows[::-1])


def repeat(place: Path) -> None:
    changed(place, "runs", lambda rows: [*rows, rows[0]])


def move_curve(place: Path) -> None:
    changed(place, "curves", each(lambda row: row["seed"] == "2" and row["iteration"] == "25" and dict(train_loss="0")))


def divide_seconds(place: Path) -> None:
    shutil.rmtree(csvs(place))
    grid_of(csvs(place), lane="time")
    hundredth = lambda row: dict(seconds=str(float(row["seconds"]) / 100))
    for name in ("runs", "curves"):
        changed(place, name, each(hundredth))


# what somebody did -> the rows that still count, and words of what is told
DONE = [
    (forge, ROWS - 3, ["runs.csv: 3 rows do not have the numbers that they were sealed with (the first is line 2, "
                       "'TIAM', seed 0, by its 'test_accuracy') and are left out; restore the file"]),
    (swap_labels, ROWS - 6, ["6 rows do not have the label, settings or seconds that they were sealed with (the first "
                             f"is line 2, '{LABELS[1]}', seed 0)", "runs.csv: its rows are not those",
                             "curves.csv: its rows are not those"]),
    (divide_seconds, 0, [f"{ROWS} rows do not have the label, settings or seconds that they were sealed with"]),
    (cut_runs, ROWS - 2, [f"runs.csv: 2 of the {ROWS} rows that manifest.json knows are missing",
                          "curves.csv: 12 rows are of no run of runs.csv"]),
    (cut_curves, ROWS - 1, [f"curves.csv: 2 of the {6 * ROWS} rows that manifest.json knows are missing",
                            f"curves.csv: 1 runs do not have their whole curve there (the first is line {ROWS + 1} of "
                            "runs.csv"]),
    (remove, ROWS - 1, [f"runs.csv: 1 of the {ROWS} rows that manifest.json knows are missing", "curves.csv: 6 of"]),
    (reorder, ROWS, ["runs.csv: its rows do not stand in the order in which they were collected"]),
    (repeat, ROWS, ["1 rows repeat a row (line 2)", "not those that were collected"]),
    (move_curve, ROWS - len(LABELS), [f"curves.csv: {len(LABELS)} runs do not have the curve that they were sealed"]),
]  # fmt: skip


@pytest.mark.parametrize("damage, left, told", DONE, ids=[damage.__name__ for damage, *_ in DONE])
def test_what_was_changed_is_told_and_left_out_by_every_reader(place, damage, left, told):
    damage(place)
    folder = csvs(place)
    if left:
        rows, points = door.runs(folder), door.curves(folder)
        assert len(rows) == left and set(points["run_key"]) == set(rows["run_key"])
        assert not points.duplicated(["run_key", "label", "iteration"]).any()
    else:
        with pytest.raises(Stale, match="none of its"):
            door.runs(folder)
    expected = door.told()
    assert len(expected) == len(told)
    assert all(any(words in sentence for sentence in expected) for words in told), expected
    assert all(one.endswith(".") and "delete it" not in one and "\n" not in one for one in expected)
    for command in READERS:
        status, said = do(place, command)
        lines = said.splitlines()
        assert status == 1 and set(expected) == set(lines) and len(set(lines)) == len(lines), (command, said)


def test_what_was_collected_counts_and_nothing_is_told(place):
    for command in READERS:
        assert do(place, command) == (0, ""), command
    assert len(door.runs(csvs(place))) == ROWS and len(door.curves(csvs(place))) == 6 * ROWS
    assert door.runs(csvs(place)).equals(read(csvs(place) / "runs.csv"))
    assert door.told() == []


def test_a_forged_row_has_no_part_in_a_verdict(place):
    """TIAM's rows are the best; without them nothing is judged."""
    assert "reproduced" in (place / "results" / "claims.md").read_text(encoding="utf-8")
    forge(place)
    assert do(place, "claims")[0] == 1
    judged = {row["verdict"] for row in table(place / "results" / "claims.csv") if row["grid"] == GRID}
    assert "reproduced" not in judged


def test_rows_of_other_versions_or_under_keys_that_are_not_theirs_are_told_with_the_reason(place, monkeypatch):
    why = lambda row, trial=False: "is of method:tiam 1 → 2 (2026-01-01): a fault" if row["label"] == "TIAM" else None
    monkeypatch.setattr("reproduce.evidence.rows.standing", why)
    assert len(door.runs(csvs(place))) == ROWS - 3
    (sentence,) = door.told()
    assert (
        "3 rows do not count, since each is of method:tiam 1 → 2 (2026-01-01): a fault (the first is line 2" in sentence
    )


def test_csvs_without_checksums_do_not_count(place):
    changed(place, "runs", lambda rows: [{name: row[name] for name in row if name != "checksum"} for row in rows])
    with pytest.raises(Stale):
        door.runs(csvs(place))
    assert "has no column 'checksum'" in door.told()[0]


def test_rows_from_before_seals_count_and_seals_that_are_taken_away_are_missed(place):
    changed(place, "runs", each(lambda row: row["seed"] == "0" and dict(seal="")))
    assert len(door.runs(csvs(place))) == ROWS - len(LABELS)
    assert f"{len(LABELS)} rows have lost their seal" in door.told()[0]
    (csvs(place) / NAME).unlink()
    assert len(door.runs(csvs(place))) == ROWS
    assert door.told() == [
        f"{csvs(place) / NAME} is not there, so that nothing shows whether rows are missing; restore the file, for "
        "example by `git checkout`, or run `make collect`."
    ]
    changed(place, "runs", each(lambda row: dict(seal="")))
    assert len(door.runs(csvs(place))) == ROWS and door.told() == []


def test_trials_are_looked_at_too(place):
    trials_of(csvs(place))
    assert len(door.trials(csvs(place))) == 6 and door.told() == []
    changed(place, "tuning", each(lambda row: row["trial"] == "2" and dict(val_accuracy="0.99")))
    assert len(door.text(csvs(place), "tuning")) == 4
    assert "tuning.csv: 2 rows do not have the numbers that they were sealed with" in door.told()[0]
    assert len(door.trials(csvs(place), quiet=True)) == 4 and door.told() == []


def test_a_look_is_taken_once_and_again_when_a_file_changes(place, monkeypatch):
    looks = []
    real = door._look
    monkeypatch.setattr(door, "_look", lambda *args: looks.append(args) or real(*args))
    for _ in range(2):
        door.runs(csvs(place)), door.curves(csvs(place)), door.text(csvs(place), "runs")
    assert len(looks) == 1
    forge(place)
    assert len(door.runs(csvs(place))) == ROWS - 3 and len(looks) == 2


# Spreadsheets, and CSVs that are none ---------------------------------------------------------------------------------


def sentence(command: str, said: str) -> str:
    """The one that the command says."""
    assert said.count("\n") == 1, (command, said)
    return said


def resaved(place: Path, change) -> None:
    for name in ("runs.csv", "curves.csv"):
        path = csvs(place) / name
        path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"True", b"TRUE").replace(b"False", b"FALSE"),
    ],
    ids=["BOM", "CRLF", "TRUE"],
)
def test_what_a_spreadsheet_changes_without_harm_is_taken(place, change):
    resaved(place, change)
    for command in READERS:
        assert do(place, command) == (0, ""), command


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda data: data.replace(b",", b";"),
            "is separated by semicolons, as a spreadsheet saves it; take the file from",
        ),
        (
            lambda data: data.replace(b",", b"\t"),
            "is separated by tabs, as a spreadsheet saves it; take the file from git",
        ),
        (
            lambda data: data.replace(b"0.125", b'"0,125"'),
            "has decimal commas ('record_seconds' 0,125 in line 2), as a",
        ),
    ],
    ids=["semicolons", "tabs", "decimal commas"],
)
@pytest.mark.parametrize("command", READERS)
def test_another_kind_of_csv_is_one_sentence_that_names_it(place, change, words, command):
    path = csvs(place) / "runs.csv"
    path.write_bytes(change(path.read_bytes()))
    status, said = do(place, command)
    assert status == 2 and f"{path} {words}" in sentence(command, said) and "delete it" not in said


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("name", ["seed", "label", "dataset", "run_key"])
def test_a_column_that_is_missing_is_one_sentence(place, command, name):
    changed(place, "runs", lambda rows: [{key: row[key] for key in row if key != name} for row in rows])
    status, said = do(place, command)
    assert status == 2 and f"runs.csv is malformed (no column '{name}')" in sentence(command, said)
    assert "delete it" not in said


@pytest.mark.parametrize("command", READERS)
def test_a_header_alone_is_told(place, command):
    path = csvs(place) / "runs.csv"
    path.write_text(path.read_text(encoding="utf-8").partition("\n")[0] + "\n", encoding="utf-8")
    status, said = do(place, command)
    assert status and f"{path} has no rows, a header alone; restore the file" in said and "delete it" not in said


def test_digits_that_are_cut_name_the_file_and_the_column(place):
    changed(place, "runs", each(lambda row: dict(train_loss=row["train_loss"][:6])))
    with pytest.raises(Stale):
        door.runs(csvs(place))
    (sentence,) = door.told()
    assert door.problems(csvs(place)) == [sentence] and door.told() == []
    assert sentence.startswith(f"{csvs(place) / 'runs.csv'}: {ROWS} rows") and "by its 'train_loss'" in sentence


# Random damage --------------------------------------------------------------------------------------------------------


def damaged(draw: random.Random, path: Path) -> str:
    kind = draw.choice(("field", "field", "text", "text", "bytes", "columns", "rows", "encoding"))
    if kind == "field":
        return mutated_field(draw, path)
    if kind == "text":
        path.write_text(
            mutated_text(draw, path.read_text(encoding="utf-8"))[1], encoding="utf-8", errors="surrogateescape"
        )
    elif kind == "bytes":
        path.write_bytes(mutated_bytes(draw, path.read_bytes()))
    elif kind == "encoding":
        text = path.read_text(encoding="utf-8")
        path.write_text(text, encoding=draw.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le")))
    else:
        rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
        if kind == "columns":
            i, j = draw.randrange(len(rows[0])), draw.randrange(len(rows[0]))
            for row in rows:
                if max(i, j) < len(row):
                    row[i], row[j] = row[j], row[i]
        else:
            some = draw.sample(range(1, len(rows)), 3)
            rows[some[0]] = rows[some[1]]
            del rows[some[2]]
        path.write_text("\n".join(map(",".join, rows)) + "\n", encoding="utf-8")
    return kind


def test_no_damage_is_a_traceback_or_advice_to_delete(place, tmp_path):
    keep = shutil.copytree(csvs(place), tmp_path / "keep")
    for number in range(100):
        draw = random.Random(f"door {number}")
        path = csvs(place) / draw.choice(("runs.csv", "runs.csv", "curves.csv", NAME))
        what = damaged(draw, path) if path.suffix == ".csv" else mutated_text(draw, "")[0]
        if path.name == NAME:
            path.write_text(mutated_text(draw, path.read_text(encoding="utf-8"))[1], encoding="utf-8")
        for command in ("claims", "tables") if number % 20 else READERS:
            status, said = do(place, command)  # an exception would end the test
            where = (number, what, path.name, command, said[:1000])
            assert status in (0, 1, 2) and (status == 0) == (said == ""), where
            assert "delete it" not in said and all(line.endswith((".", "?", ":")) for line in said.splitlines()), where
        shutil.rmtree(csvs(place))
        shutil.copytree(keep, csvs(place))


def test_a_curve_without_a_row_beside_it_is_told(place):
    (csvs(place) / "runs.csv").rename(csvs(place) / "kept")
    assert len(door.curves(csvs(place))) == 0
    assert "runs.csv is not there" in door.told()[0]
    with pytest.raises(InputError, match=r"runs\.csv is not there; run `make reproduce-tiam_accuracy` to write it"):
        door.runs(csvs(place))
