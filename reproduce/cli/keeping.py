"""The commands that keep house: the store, the rows of the CSVs, versions, the cluster."""

import functools
import itertools
import math
import random
import shutil
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from am.data import data_folder, identity_of, missing
from am.errors import InputError, unknown
from reproduce.cli.requests import Csvs
from reproduce.evidence import door
from reproduce.evidence.adopt import adopt as adopt_folder
from reproduce.evidence.adopt import folders_of
from reproduce.evidence.files import write
from reproduce.evidence.forget import forget as forget_run
from reproduce.evidence.kept import prune as prune_csvs
from reproduce.evidence.places import PROFILES, place, profiles_with_csvs
from reproduce.evidence.store import Store
from reproduce.run.engines.work import CHECKOUT, alone, commit, device_of


def adopt(folders: Sequence[Path], results: Path) -> int:
    sources = [folders_of(source) for source in folders or [results]]
    store = Store(results, only_look=True)  # what is refused makes no folder
    refused = 0
    for folder in itertools.chain.from_iterable(sources):
        adopted = adopt_folder(folder, store)
        print(adopted)
        refused += len(adopted.refused)
        for sentence in adopted.refused:
            print(sentence, file=sys.stderr)
    return 2 if refused else 0


def forget(key: str, results: Path) -> None:
    print(forget_run(key, results))


def audit(
    csvs: Csvs,
    rows: int,
    draw: int,
    label: str | None,
    seed: int | None,
    seconds: float | None,
    data: str | None,
    device: str,
) -> int:
    from reproduce.evidence import audit as auditing

    csvs.known()
    folders, on = csvs.folders(), device_of(device)
    wanted = lambda row: True
    if label is not None or seed is not None:
        there = [row for folder in folders for row in door.text(folder, "runs").to_dict("records")]
        wanted = auditing.named(there, label, seed)
    here = functools.cache(lambda name: "" if missing([name], data) else identity_of(name, data).fingerprint)
    weight = auditing.weights(csvs.results, CHECKOUT if commit() else None)
    drawn, left = auditing.draw(folders, random.Random(draw), here, weight, wanted)
    if left:
        print(f"{left} finished runs are of images that are not in {data_folder(data)}/.")
    if not drawn:
        raise InputError(f"no run in {csvs.results} can be trained again here.")
    print(f"{min(rows, len(drawn))} of {len(drawn)} runs, trained again one by one:")
    latest = time.monotonic() + (seconds or math.inf)
    made = []
    tell = lambda line: print(line, flush=True)
    for row in auditing.audit(drawn[:rows], alone(data, on), latest, tell):
        made.append(row)
        write(csvs.results / "audit.csv", made)  # at once, so that a stop loses none
    same, wrong = (sum(row[name] == said for row in made) for name, said in (("same", "True"), ("holds", "False")))
    print(
        f"{len(made)} runs: {same} the same in every digit, {len(made) - same - wrong} near, {wrong} not; "
        f"with 95 % confidence at the most {100 * float(made[-1]['wrong_at_most']):.3g} % of all would not hold"
    )
    return 1 if wrong else 0


def prune(csvs: Csvs) -> None:
    if csvs.profile and csvs.profile not in PROFILES:
        raise unknown("profile", csvs.profile, PROFILES)
    # Former rows may be of a grid whose file is elsewhere, or gone.
    profiles = [csvs.profile] if csvs.profile else PROFILES
    found = {path.parent for profile in profiles for path in place(csvs.results, profile).glob("*/former")}
    with_csvs = profiles_with_csvs(csvs.results, csvs.profile).values()
    csvs.known(others={folder.name for folder in found}.union(*with_csvs))
    for folder in sorted(folder for folder in found if not csvs.grids or folder.name in csvs.grids):
        print(f"{folder}: {prune_csvs(folder)} former rows removed")


def version(of: str, why: str, moves: str) -> None:
    from reproduce.evidence.fingerprint import step_version
    from reproduce.run.cases import everything

    try:
        facts = tomllib.loads(f"moves = {{ {moves} }}") if moves.isprintable() else {}
    except tomllib.TOMLDecodeError:
        facts = {}
    if list(facts) != ["moves"]:
        raise InputError(f"MOVES must be facts of rows, for example 'on = \"gpu\", stack_runs = 1', not {moves!r}.")
    chosen = [word.strip() for word in of.split(",") if word.strip()]
    print("\n".join(step_version(chosen, why, facts["moves"], everything())))


def fingerprints() -> None:
    from reproduce.evidence.fingerprint import write_missing
    from reproduce.run.cases import everything

    print("\n".join(write_missing(everything())) or "Every component has its fingerprints.")


def clean(results: Path) -> None:
    store = results / ".store"
    if store.is_symlink() or (store.exists() and not store.is_dir()):
        raise InputError(f"{store} is no folder of finished runs; it is left as it is.")
    if not store.exists():
        if not any(found for depth in ("*", "*/*") for found in results.glob(f"{depth}/runs.csv")):
            raise InputError(f"{results} is no results folder, with no .store and no CSVs; name it with RESULTS=.")
        print(f"{store} is not there: nothing to delete.")
        return
    shutil.rmtree(store)
    print(f"{store} deleted; CSVs and figures are untouched.")


def ray_check() -> None:
    from reproduce.run.engines.ray_check import check  # Ray need not be installed

    check()
