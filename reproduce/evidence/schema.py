"""Every table of the results, once: its columns in their order; and the titles of data sets, activations and methods.

A further column is a line in `columns` and its name in the tables that have it. `python -m reproduce columns` writes
docs/columns.md from here; `files` reads and writes by it.
"""

import re
from dataclasses import dataclass

from am.activations import ACTIVATIONS
from am.data import DATASETS, dataset
from am.errors import InputError
from am.methods import methods
from am.modules.networks import NETWORKS
from reproduce.evidence.column import KINDS, Column
from reproduce.evidence.columns import COLUMNS
from reproduce.evidence.config import ASKED


@dataclass(frozen=True)
class Table:
    """A CSV: where it lies, what a row of it is, its columns in their order, and the make target that writes it.

    key: columns that no two of its rows share, as far as the reader checks them.
    """

    path: str
    row: str
    columns: tuple[Column, ...]
    target: str
    key: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _columns(*words: str | Column) -> tuple[Column, ...]:
    """Columns by name, several names a string; NAME~ is NAME and the two ends of its interval."""
    found: list[Column] = []
    for word in words:
        if isinstance(word, Column):
            found.append(word)
            continue
        for name in word.split():
            column = COLUMNS[name.removesuffix("~")]
            found.append(column)
            if name.endswith("~"):
                found += _ends(column)
    return tuple(found)


def _ends(column: Column) -> list[Column]:
    ends = dict(low="lower", high="upper")
    return [
        Column(f"{column.name}_{end}", "number", f"{word} end of its interval", column.unit)
        for end, word in ends.items()
    ]


_SETTING = "grid profile dataset data_official n_train activation hidden method label constants"
_IDENTITY = (
    "grid profile rule lane dataset data_official data_rows data_fingerprint classes n_train inputs network activation "
    "hidden init method label constants hyperparameters seed n_train_asked epochs_asked batch_size evaluate_every "
    "gradient_norms"
)
_IDENTITY = " ".join(dict.fromkeys([*_IDENTITY.split(), *ASKED]))  # a further field's column comes last
_SPENT = "iterations epochs parameter_updates gradient_evaluations flops"
_ENDED = (
    "val_accuracy train_loss objective gradient_norm diverged_at seconds train_seconds evaluate_seconds record_seconds "
    "stack_runs device cpu torch commit run_key versions checksum seal"
)
_BESIDE = "grid label at theirs theirs_sd ours ours_sd seeds n_train profile tolerance met source"
_MACHINE = "data device threads torch"
_SECONDS = Column("seconds", "number", "median of the readings of an iteration or a step", "s")
_SHARE = Column("share", "number", "share of the time")

TABLES = {
    "runs": Table(
        "<grid>/runs.csv", "a run",
        _columns(_IDENTITY, "status error", _SPENT, "test_accuracy test_accuracy_best_val", _ENDED), "collect",
    ),
    "curves": Table(
        "<grid>/curves.csv", "an evaluation of a run",
        _columns(
            "run_key dataset activation hidden method label seed iteration epoch parameter_updates "
            "gradient_evaluations flops val_accuracy test_accuracy train_loss objective constraint_gap gradient_norm "
            "seconds"
        ), "collect", key=("run_key", "label", "iteration"),
    ),
    "tuning": Table(
        "<grid>/tuning.csv", "a trial; no column of it saw the test set",
        _columns(_IDENTITY, "trial chosen status error", _SPENT, _ENDED), "collect",
    ),
    "summary": Table(
        "<grid>/summary.csv", "a setting, over its seeds; after mean_all, means over the finished runs",
        _columns(
            _SETTING, "runs done diverged failed mean sd ci_low ci_high median iqm min max mean_all "
            "test_accuracy_best_val val_accuracy train_loss epochs",
            Column("parameter_updates", "number", COLUMNS["parameter_updates"].meaning),
            Column("gradient_evaluations", "number", COLUMNS["gradient_evaluations"].meaning),
            Column("flops", "number", COLUMNS["flops"].meaning, "FLOP"),
        ), "collect",
    ),
    "convergence": Table(
        "<grid>/convergence.csv", "a setting and a column; means and Student's 95 % intervals over seeds",
        _columns("dataset activation hidden label column law since seeds done fitted monotone_share~ rate~ r_squared"),
        "claims",
    ),
    "stability": Table(
        "<grid>/stability.csv", "a data set and method, over its initial step sizes and seeds",
        _columns(
            "dataset label seeds done step_sizes best_step_size usable_decades~ cut_off diverged_share~ deviation~ "
            "mean_accuracy~"
        ), "claims",
    ),
    "to_target": Table(
        "<grid>/to_target.csv", "a target, data set, label and cost",
        _columns(
            "reference share dataset label target cost seeds reached",
            Column("median", "number", "median over seeds of what had been spent at the target; a miss is infinite"),
        ), "claims",
    ),
    "step_cost": Table(
        "<grid>/step_cost.csv", "a data set, label and cost; means and Student's 95 % intervals over seeds",
        _columns("dataset label cost seeds updates_per_step block_step~ full_step~"), "claims",
    ),
    "improvement": Table(
        "<grid>/improvement.csv", "two labels; with the bootstrap's 95 % interval over seeds, data sets as strata",
        _columns("label against data_sets", Column("seeds", "integer", "seeds of both, the fewest of a data set"),
                 "probability~"), "claims",
    ),
    "claims": Table(
        "claims.csv", "a claim under a protocol and a profile",
        _columns(
            "id paper claim note protocol grid profile verdict wins ties losses agreement reason evidence basis",
            Column("seeds", "integer", "fewest seeds behind a comparison"), "trials measure",
            Column("method", "text", "label that it is about"), "against",
            Column("rule", "text", "how it is judged"), "bound counts_against changed",
        ), "claims",
    ),
    "claim_effects": Table(
        "claim_effects.csv", "a comparison behind a verdict of claims.csv",
        _columns(
            "id protocol grid profile dataset n_train", Column("method", "text", "label that it is about"), "against",
            "measure scale unit seeds a_value b_value effect",
            Column("ci_low", "number", "lower end of the effect's 95 % interval"),
            Column("ci_high", "number", "upper end of it"), "test p p_holm outcome",
        ), "claims",
    ),
    "claim_seeds": Table(
        "claim_seeds.csv", "a seed of a comparison behind a verdict: what a test of claim_effects.csv is made from",
        _columns(
            "id protocol grid profile dataset", Column("method", "text", "label that it is about"),
            "against measure scale seed",
            Column("a", "number", "the method's value, in the unit of the grid's CSVs; a share of 1 for an accuracy"),
            Column("b", "number", "the comparator's; empty where a level is judged"),
        ), "claims",
    ),
    "keys_1_to_2": Table(
        "keys_1_to_2.csv", "a run that was trained when keys hashed the text of the code",
        _columns(
            Column("key_1", "text", "its key then"), Column("key_2", "text", "its `run_key` now"),
        ), "",
    ),
    "audit": Table(
        "audit.csv", "a run that was trained again",
        _columns(
            "grid profile dataset label seed run_key device cpu torch commit test_accuracy device_now cpu_now "
            "torch_now test_accuracy_now allowed same holds wrong_at_most"
        ), "audit",
    ),
    "comparison": Table(
        "published/comparison.csv", "a number that an author printed", _columns(_BESIDE), "claims",
    ),
    "released_code": Table(
        "published/released_code.csv", "a number that released code gave when we ran it",
        _columns(
            "grid label at", Column("theirs", "number", "test accuracy of the released code"),
            *_BESIDE.split()[4:],
        ), "claims",
    ),
    "iteration": Table(
        "bench/iteration.csv", "a full-batch method and network",
        _columns(
            "method hidden n runs majoriser repetitions", _SECONDS, "straightforward_seconds ratio~ "
            "trials_per_iteration flops_ratio difference difference_in", _MACHINE,
        ), "bench",
    ),
    "epoch": Table(
        "bench/epoch.csv", "a mini-batch method, stack and comparator",
        _columns(
            "method hidden batch runs", Column("against", "text", "the usual loop that it is compared with"),
            "steps repetitions epoch_seconds_per_run against_epoch_seconds ratio~", _MACHINE,
        ), "bench",
    ),
    "stacking": Table(
        "bench/stacking.csv", "a size of the stack",
        _columns("method hidden batch runs steps repetitions step_seconds run_steps_per_second ratio~", _MACHINE),
        "bench",
    ),
    "growth": Table(
        "bench/growth.csv", "a method and size",
        _columns("method axis value n hidden runs", _SECONDS, *_ends(_SECONDS), _MACHINE), "bench",
    ),
    "exponents": Table(
        "bench/exponents.csv", "a method and axis", _columns("method axis exponent~ points", _MACHINE), "bench"
    ),
    "limit": Table(
        "bench/limit.csv", "a method, network and stack",
        _columns(
            "method hidden n runs flops_least flops_counted flops_over_least bytes_least gemm_flops_per_second "
            "copy_bytes_per_second flop_seconds byte_seconds limit_seconds", _SECONDS,
            Column("share", "number", "limit_seconds over the measured seconds"), *_ends(_SHARE),
            "share_of_sum flops_over_sgd seconds_over_flops_over_sgd~", _MACHINE,
        ), "bench",
    ),
    "memory": Table(
        "bench/memory.csv", "a method and stack",
        _columns(
            "method hidden n batch runs baseline_bytes peak_bytes bytes_per_run predicted_bytes",
            Column("ratio", "number", "measured over predicted"), _MACHINE,
        ), "bench",
    ),
    "precision": Table(
        "bench/precision.csv", "a full-batch method, in float32 against float64",
        _columns("method hidden n runs iterations difference difference_in difference_of_weights", _MACHINE), "bench",
    ),
    "graphs": Table(
        "bench/graphs.csv", "a mini-batch method and stack, replayed as a CUDA graph against eager",
        _columns(
            "method hidden batch runs steps repetitions eager_step_seconds graph_step_seconds ratio~ after_steps "
            "difference difference_in", _MACHINE,
        ), "bench",
    ),
    "profile": Table(
        "bench/profile.csv", "a method, network and kind of operation",
        _columns(
            "method hidden n runs step_seconds operations", _SHARE,
            Column("seconds", "number", "that share of the step", "s"), "calls seconds_at_gemm_rate", _MACHINE,
        ), "bench",
    ),
    "targets": Table(
        "bench/targets.csv", "something asked of the library's speed, memory or precision",
        _columns(
            Column("target", "text", "what is asked for"), "required",
            Column("reached", "number", "the worst row that matches"), "low high met",
        ), "bench",
    ),
}  # fmt: skip


def by_unit(table: str, unit: str) -> tuple[str, ...]:
    """The columns of a table that have this unit: those in seconds depend on the machine's mood."""
    return tuple(column.name for column in TABLES[table].columns if column.unit == unit)


def page() -> str:
    """docs/columns.md: every table with its columns."""
    lines = ["# Columns", "", "Every CSV of a results folder, written by `python -m reproduce columns`.", ""]
    for table in TABLES.values():
        lines += [f"## {table.path}", "", f"A row: {table.row}.", "", "| Column | Kind | Unit | Meaning |"]
        lines += ["|---|---|---|---|"]
        lines += [f"| `{c.name}` | {KINDS[c.kind]} | {c.unit} | {c.meaning} |" for c in table.columns]
        lines.append("")
    return "\n".join(lines)


# Titles --------------------------------------------------------------------------------------------------------------


def dataset_title(name: str) -> str:
    """What figures and tables call a data set; one of one's own, of which only the rows are here, by its name."""
    if name not in DATASETS:
        try:
            return dataset(name).title
        except InputError:
            return name
    title = DATASETS[name].title
    return title.capitalize() if title.islower() else title


def titled(text: str) -> str:
    """A text with data sets by the names that readers know."""
    return re.sub(r"\w+", lambda word: dataset_title(word[0]), text)


def activation_title(name: str) -> str:
    return ACTIVATIONS[name].title if name in ACTIVATIONS else name


def network_title(network: str, hidden: str) -> str:
    """What figures and tables call a network: its name, or of a multilayer perceptron the widths."""
    return NETWORKS[network].title if network in NETWORKS else hidden


def method_title(name: str) -> str:
    return methods()[name].title if name in methods() else name
