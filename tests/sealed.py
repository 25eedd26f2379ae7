"""CSVs of a grid as `collect` writes them, sealed and with a manifest, of runs that nobody trained."""

import csv
import zlib
from pathlib import Path

import pytest

from reproduce.evidence.files import make_folder
from reproduce.evidence.manifest import write_evidence
from reproduce.evidence.rows import Row
from reproduce.evidence.schema import TABLES
from reproduce.evidence.seal import sealed
from reproduce.judge.claims import load_claims

GRID = "tiam_accuracy"  # TIAM-3 is judged on it: TIAM generalises better than other AM methods
LABELS = next(["TIAM", *claim.against] for claim in load_claims() if (claim.id, claim.grid) == ("TIAM-3", GRID))
NUMBERS = dict(parameter_updates=3, gradient_evaluations=11, flops=1000)  # a step's


def run_of(
    label: str, seed: int, grid: str = GRID, lane: str = "accuracy", accuracy: float = 0.8
) -> tuple[Row, list[Row]]:
    """A finished run of six evaluations and its curve, every column filled that a run of a full-batch method has."""
    whose = dict(run_key=f"{zlib.crc32(f'{label}{seed}'.encode()):020x}", dataset="mnist", activation="relu")
    whose |= dict(hidden="100-100", method=label.partition(" ")[0].lower(), label=label, seed=str(seed))
    curve = []
    for i in range(6):
        at = accuracy * (1 - 0.5**i) + 0.001 * seed
        point = dict(
            iteration=str(5 * i), epoch=f"{5 * i}.0", val_accuracy=f"{at:.4f}", test_accuracy=f"{at + 0.01:.4f}"
        )
        point |= {name: str(count * 5 * i) for name, count in NUMBERS.items()}
        point |= dict(train_loss=f"{2.3 - at}", objective=f"{100 * 0.5**i}", constraint_gap="0.1")
        curve.append(whose | point | (dict(seconds=f"{0.1 * i:.2f}") if lane == "time" else {}))
    last = curve[-1]
    row = whose | dict(
        grid=grid, profile="light", rule="paper", lane=lane, data_official="True", data_rows="60000",
        data_fingerprint="d027", n_train="5000", inputs="unit", network="mlp", init="normal(0.1)", constants="scaled",
        hyperparameters='{"rho": 0.1}', n_train_asked="5000", epochs_asked="25", batch_size="0", evaluate_every="5",
        gradient_norms="False", status="done", iterations=last["iteration"], epochs=last["epoch"],
        test_accuracy_best_val=last["test_accuracy"], train_seconds="1.5", evaluate_seconds="0.25",
        record_seconds="0.125", stack_runs="5", device="cpu", torch="2.11.0", commit="abc",
        versions=f"method:{whose['method']} 1",
    )  # fmt: skip
    row |= {name: last[name] for name in (*NUMBERS, "test_accuracy", "val_accuracy", "train_loss", "objective")}
    return row | (dict(seconds=last["seconds"]) if lane == "time" else {}), curve


def grid_of(folder: Path, lane: str = "accuracy", seeds: int = 3) -> None:
    """A grid's three files: TIAM is the best."""
    made = [
        run_of(label, seed, folder.name, lane, 0.9 if label == "TIAM" else 0.8 - 0.01 * i)
        for i, label in enumerate(LABELS)
        for seed in range(seeds)
    ]
    make_folder(folder)
    write_evidence(folder / "runs.csv", [sealed(row, curve) for row, curve in made])
    write_evidence(folder / "curves.csv", [point for _, curve in made for point in curve])


def trials_of(folder: Path, count: int = 3) -> None:
    """tuning.csv: trials of TIAM and mDLAM."""
    rows = []
    for label, trial in ((label, trial) for label in LABELS[:2] for trial in range(count)):
        row, _ = run_of(label, 1000, folder.name)
        row |= dict(trial=str(trial), chosen=str(trial == 0), run_key=f"{label}{trial}", val_accuracy=f"0.{trial}5")
        rows.append(sealed({name: row[name] for name in TABLES["tuning"].names if name in row}, []))
    write_evidence(folder / "tuning.csv", rows)


def table(path: Path) -> list[Row]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def put(path: Path, rows: list[Row]) -> None:
    """Rows by somebody's hand: no seal, no manifest."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(name="of_now")
def of_now_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up keys count: whether a key is its configuration's is asked elsewhere."""
    monkeypatch.setattr("reproduce.evidence.rows.standing", lambda row, trial=False: None)
