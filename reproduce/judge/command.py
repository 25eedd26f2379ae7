"""The commands `claims` and `check`."""

from collections.abc import Sequence
from pathlib import Path

from am.errors import InputError
from reproduce.evidence.about import Abouts
from reproduce.evidence.places import place
from reproduce.judge.check import disagreements
from reproduce.judge.claims import EVIDENCE, write_claims
from reproduce.judge.derived import write_derived
from reproduce.judge.published import write_comparisons


def judge(results: Path, profiles: Sequence[str], about: Abouts) -> None:
    """Write what is derived from the CSVs of these profiles, and the claims, and say where.

    The claims set light and paper side by side, so that they are judged on both when either is asked for; those of
    smoke, which is no evidence, lie in its own folder.
    """
    for profile in profiles:
        write_derived(results, profile, about)
    groups = [EVIDENCE] if set(EVIDENCE) & set(profiles) else []
    for group in [*groups, *([profile] for profile in profiles if profile not in EVIDENCE)]:
        path, verdicts = write_claims(results, about, group)
        print(f"{path}: " + ", ".join(f"{count} {word}" for word, count in verdicts.items()))
    for profile in profiles:
        for path in write_comparisons(place(results, profile)):
            print(path)


def check(results: Path, about: Abouts) -> None:
    """Say that the CSVs that the figures draw bear out every verdict; raises InputError with those that are not."""
    checked, found = disagreements(results, about)
    if found:
        raise InputError(
            f"{len(found)} of {checked} outcomes behind the verdicts are contradicted by what the figures draw:\n"
            + "\n".join(found)
        )
    print(f"{checked} outcomes say better, worse or best: the figures' own data agree with each.")
