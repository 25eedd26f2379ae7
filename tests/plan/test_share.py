"""Shares: every stack belongs to one of them, and three folders merge into what one machine has."""

import pytest
from helpers import METHODS, TUNED, Place, one_sentence, place_fixture  # noqa: F401

from am.data import identity_of
from reproduce.__main__ import main
from reproduce.plan.grid import read_grid
from reproduce.plan.plan import plan, share_of


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
def test_every_run_is_in_one_share(place, shares):
    place.write("shared")
    runs = plan(read_grid(place.grids / "shared.toml", "smoke"), {"digits": identity_of("digits")})
    parts = [share_of([runs], number, shares) for number in range(1, shares + 1)]
    assert sorted(key for part in parts for key in part) == sorted({run.run_key for run in runs})
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1  # six stacks of one seed


@pytest.mark.parametrize("word", ["0/3", "4/3", "1/0", "2", "1/3/3", "-1/3", "a/b"])
def test_a_share_that_is_none_is_refused(place, word, capsys):
    assert place.do("run", "tiny", f"--share={word}") == 2
    assert "must be I/N with I from 1 to N, for example 2/3" in one_sentence(capsys)


def shares_run(places: list[Place]) -> None:
    for number, place in enumerate(places, 1):
        place.run("tiny", "--share", f"{number}/{len(places)}")


def adopt(into: Place, sources: list[Place]) -> None:
    assert main(["adopt", *(str(place.results) for place in sources), "--results", str(into.results)]) == 0


def three(tmp_path, **changes) -> tuple[list[Place], Place]:
    """Three folders of shares, and one to merge them in."""
    made = [Place(tmp_path / name) for name in ("a", "b", "c", "merged")]
    for place in made:
        place.write(**changes)
    return made[:3], made[3]


def test_three_shares_adopted_are_what_one_machine_has(place, tmp_path, capsys):
    place.run()
    shares, merged = three(tmp_path)
    shares_run(shares)
    assert [len(one.stored()) for one in shares] == [2, 2, 2]
    assert "share 3 of 3: all of its runs are there." in capsys.readouterr().out
    adopt(merged, shares)
    capsys.readouterr()
    merged.run()
    assert "Nothing to train: all 6 runs are there." in capsys.readouterr().out
    assert merged.untimed() == place.untimed()


def test_a_share_begun_again_trains_nothing_of_the_others(place, capsys):
    place.run("tiny", "--share", "1/3")
    before = place.shards()
    place.run("tiny", "--share", "1/3")
    assert place.shards() == before
    place.run("tiny", "--methods", "sgd,adam,mdlam")
    assert len(place.stored()) == 6


def test_of_a_tuned_grid_the_array_runs_twice_with_the_trials_adopted_between(place, tmp_path, capsys):
    tuned = TUNED | dict(methods=METHODS)  # a stack of trials for each share
    place.write(**tuned)
    place.run()
    shares, merged = three(tmp_path, **tuned)
    shares_run(shares)
    out = capsys.readouterr().out
    assert "tiny: `adopt` the other shares' trials here" in out
    assert sum(len(one.stored()) for one in shares) == 9  # trials alone
    for one in shares:
        adopt(one, shares)
    shares_run(shares)
    adopt(merged, shares)
    capsys.readouterr()
    merged.run()
    assert "Nothing to train" in capsys.readouterr().out
    assert merged.untimed() == place.untimed()
    choices = [[row["chosen"] for row in one.rows(file="tuning.csv")] for one in (place, merged)]
    assert choices[0] == choices[1]
