"""The commands that show and judge what the CSVs hold, and those that list what there is."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from am.errors import InputError, unknown
from am.methods import methods as all_methods
from reproduce.cli.requests import Csvs, listed
from reproduce.evidence import door, schema
from reproduce.evidence.files import Stale, make_folder, write_whole
from reproduce.evidence.places import grids_to_show, place, profiles_with_csvs
from reproduce.plan.chosen import chosen_of, profiles_with_trials
from reproduce.plan.grid import FOLDER, abouts, grid_names, load_grid
from reproduce.run.copies import listing
from reproduce.run.engines.work import device_of


def figures(csvs: Csvs, figures: Path, style: str, methods: str, columns: int | None) -> None:
    from reproduce.show.figures import Paper, figures_of
    from reproduce.show.forest import draw_claims

    words = listed(methods)
    paper = Paper(words, columns == 1) if style == "paper" else None
    if paper is None and (words or columns):
        raise InputError("--methods and --columns go with --style paper.")
    root = figures / "paper_style" if paper else figures
    if not csvs.grids and not paper:
        for path in draw_claims(csvs.results, figures):
            print(path)
    has = _methods_of_each(csvs, words) if words and not csvs.grids else {}
    for results, name, grid in csvs.each():
        out = place(root, grid.profile)
        with suppress(Stale):  # the door tells why no row counts, and the other grids go on
            mine = dataclasses.replace(paper, methods=has[results, name]) if (results, name) in has else paper
            if words and not mine.methods:
                continue
            for path in figures_of(results, name, out, grid.about, mine):
                print(path)


def _methods_of_each(csvs: Csvs, words: Sequence[str]) -> dict[tuple[Path, str], tuple[str, ...]]:
    """(folder of the profile, grid) -> which of the methods it has; raises InputError for one that no grid has."""
    there = {}
    for results, name, _ in csvs.each():
        with suppress(Stale):
            there[results, name] = set(door.text(results / name, "runs", ["method"])["method"])
    every = set().union(*there.values())
    if absent := [word for word in words if word not in every]:
        raise unknown("method", absent[0], sorted(every), str(csvs.results))
    return {key: tuple(word for word in words if word in found) for key, found in there.items()}


def tables(csvs: Csvs, page: Path | None) -> None:
    from reproduce.show.tables import fill, pages, tables_of

    for results, name, grid in csvs.each():
        with suppress(Stale):  # the door tells why no row counts, and the other grids go on
            for path in tables_of(results, name, grid.title):
                print(path)
    for target in [page] if page else pages(Path()):
        print(f"{target}: {', '.join(fill(target, csvs.results)) or 'no table to fill'}")


def claims(results: Path, profile: str | None, grid_folder: Path | None) -> None:
    from reproduce.judge.command import judge

    judge(results, list(grids_to_show(results, profile=profile)), abouts(grid_folder, FOLDER))


def check(results: Path, grid_folder: Path | None) -> None:
    from reproduce.judge import command

    command.check(results, abouts(grid_folder, FOLDER))


def report(results: Path, figures: Path, profile: str | None, out: Path | None, grid_folder: Path | None) -> None:
    from reproduce.show.report import write_report

    found = profiles_with_csvs(results, profile) or [profile or "paper"]
    if out and len(found) > 1:
        raise InputError(
            f"there is a page for each of {', '.join(found)}; choose one with --profile, or leave --out out."
        )
    for one in found:
        page = out or place(results, one) / "report.html"
        beside = () if one == "paper" else ((results, figures),)
        places = place(results, one), place(figures, one)
        for path in write_report(*places, page, abouts(grid_folder), beside, one):
            print(f"{path} is not in it: the page would be too big")
        print(page)


def chosen(csvs: Csvs) -> None:
    csvs.known()
    for name in csvs.grids:
        for profile in profiles_with_trials(csvs.results, name, csvs.profile):
            grid = load_grid(name, profile, folder=csvs.grid_folder)
            print(f"# {grid.name}, profile {profile}: for each label the trial that is best over all data sets\n")
            print("\n\n".join(map(str, chosen_of(grid, place(csvs.results, profile)))))


def bench(data: str | None, device: str, results: Path, figures: Path, only: str) -> None:
    from reproduce.bench.command import bench as measured

    print(f"{measured(data, device_of(device), results, figures, list(listed(only)))}/*.csv")


def list_methods() -> None:
    for name, chosen in all_methods().items():
        print(f"{name:<18} {chosen.title}: {chosen.family}, {'full batch' if chosen.full_batch else 'mini-batch'}")
        for f in dataclasses.fields(chosen.hyperparameters):
            search = f.metadata["search"]
            print(f"    {f.name} = {f.default!r:<14} {f.metadata['doc']}" + (f"; searched {search}" if search else ""))


def list_grids(grid_folder: Path | None) -> None:
    for name in grid_names(grid_folder):
        grid = load_grid(name, "light", folder=grid_folder)
        print(f"{name:<18} {grid.title} [{grid.paper}]\n    {grid.question}")


def list_datasets() -> None:
    print("\n".join(listing()))


def columns(out: Path) -> None:
    make_folder(out.parent)
    write_whole(out, schema.page())
    print(out)
