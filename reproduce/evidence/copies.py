"""Which copy of a data set collected rows were made of."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from am.data import Identity, dataset
from reproduce.evidence import door
from reproduce.evidence.files import Stale


def identities_of_rows(wanted: Sequence[str], folders: Iterable[Path]) -> dict[str, Identity]:
    """Of each of the data sets the copy behind most rows that count in these grids' CSVs; none where there is none.

    Raises InputError for a CSV that cannot be read whole.
    """
    columns = ("dataset", "data_fingerprint", "data_official", "data_rows")
    found: Counter[tuple[str, Identity]] = Counter()
    for folder, name in ((folder, name) for folder in folders for name in ("runs", "tuning")):
        try:
            there = (folder / f"{name}.csv").exists()
            # Quiet: what does not count is told by what judges it, and the same command may collect it anew.
            rows = door.text(folder, name, columns, quiet=True).to_dict("records") if there else []
        except Stale:
            continue
        for row in rows:
            if row["dataset"] in wanted and re.fullmatch(r"[1-9]\d{1,8}", row["data_rows"], re.ASCII):
                official, classes = row["data_official"] == "True", dataset(row["dataset"]).classes
                copy = Identity(row["data_fingerprint"], official, int(row["data_rows"]), classes)
                found[row["dataset"], copy] += 1
    return {name: copy for (name, copy), _ in reversed(found.most_common())}
