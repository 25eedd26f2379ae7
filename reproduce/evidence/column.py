"""A column of a CSV: name, kind, unit and meaning."""

from dataclasses import dataclass

KINDS = dict(text="text", flag="True or False", integer="integer", number="number", share="number in [0, 1]")


@dataclass(frozen=True)
class Column:
    """kind: one of KINDS. unit: "" for a word, a count, a ratio. later: CSVs from before it lack it; it is empty."""

    name: str
    kind: str
    meaning: str
    unit: str = ""
    later: bool = False
