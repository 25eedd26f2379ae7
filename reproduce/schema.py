"""Every column of every CSV, once: name, kind, unit and meaning; and the titles of data sets, activations and methods.

A further column is a line in COLUMNS and its name in the tables that have it. `python -m reproduce columns` writes
docs/columns.md from here; `reproduce.files` reads and writes by it.
"""

from dataclasses import dataclass

from am.data import DATASETS
from am.methods import methods
from reproduce.run.modules.networks import NETWORKS

KINDS = dict(text="text", flag="True or False", integer="integer", number="number", share="number in [0, 1]")


@dataclass(frozen=True)
class Column:
    """kind: one of KINDS. unit: "" for a word, a count, a ratio. later: CSVs from before it lack it; it is empty."""

    name: str
    kind: str
    meaning: str
    unit: str = ""
    later: bool = False


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


# What a run is, what came of it, and what every statistic is made of. A table that means something else by a name has
# a column of its own below.
COLUMNS = {
    column.name: column
    for column in (
        Column("grid", "text", "the grid, reproduce/grids/NAME.toml"),
        Column("profile", "text", "scale of the grid: smoke, light or paper"),
        Column("rule", "text", "paper: settings as the grid and the defaults say; tuned: the best of equal trials"),
        Column("lane", "text", "accuracy: stacked with other runs; time: alone on the device, under the clock"),
        Column("dataset", "text", "the data set"),
        Column("data_official", "flag", "whether the data are the official copy"),
        Column("data_rows", "integer", "training images of the copy, those held out among them", later=True),
        Column("data_fingerprint", "text", "SHA-256 of the data"),
        Column("n_train", "integer", "training images, after the validation images are held out"),
        Column("inputs", "text", "unit: pixels in [0, 1]; standardised: pixel mean 0 and deviation 1"),
        Column(
            "network", "text", "mlp: the multilayer perceptron; lenet5, cnn, resnet20: the module lane's", later=True
        ),
        Column("activation", "text", "the hidden layers' activation"),
        Column("hidden", "text", "units, or channels, that each layer or block but the last gives, joined by -"),
        Column("init", "text", "how weights and biases are drawn"),
        Column("method", "text", "the method's name, a file in am/methods"),
        Column("label", "text", "what the grid calls the method setting; figures and tables have a line for each"),
        Column("constants", "text", "scaled: those of a sum over rows, times n / N_full; published: not", later=True),
        Column("hyperparameters", "text", "every setting of the method as it was in force, as JSON"),
        Column("seed", "integer", "seed of the initial values and of the order of the batches"),
        Column("status", "text", "done, diverged (NaN or infinite) or failed (an error; tried again)"),
        Column("error", "text", "why a run failed"),
        Column("iterations", "integer", "steps of the method until the end, or until it diverged"),
        Column("epochs", "number", "passes over the training images; a full-batch iteration is one"),
        Column("parameter_updates", "integer", "block updates: SGD moves L layers a step, a sweep of SAMT counts L T"),
        Column("gradient_evaluations", "integer", "gradients of a loss or sub-problem, partial ones too"),
        Column("flops", "integer", "matrix-product FLOPs of the run", "FLOP"),
        Column("test_accuracy", "share", "accuracy on the test set, in runs.csv at the end"),
        Column("test_accuracy_best_val", "share", "test accuracy where validation accuracy was best"),
        Column("val_accuracy", "share", "accuracy on the training images held out, in runs.csv at the end"),
        Column("train_loss", "number", "mean cross-entropy on the training images, in runs.csv at the end", "nat"),
        Column("objective", "number", "the method's own objective, in runs.csv at the end; empty without one"),
        Column("gradient_norm", "number", "norm of the loss's gradient on the first 10,000 training rows", later=True),
        Column("diverged_at", "integer", "step at which the run diverged"),
        Column("seconds", "number", "training time alone on the device, rehearsed; time lane only", "s", later=True),
        Column("train_seconds", "number", "the run's share of its stack's training time: a cost, no speed", "s"),
        Column("evaluate_seconds", "number", "the run's share of its stack's evaluations", "s"),
        Column("record_seconds", "number", "the run's share of what else its stack took", "s"),
        Column("stack_runs", "integer", "runs that trained as one program with this one"),
        Column("device", "text", "what it ran on"),
        Column("torch", "text", "version of PyTorch"),
        Column("commit", "text", "commit of the code that ran, + where the working tree differed"),
        Column("run_key", "text", "hash of the configuration and of the code behind it"),
        Column("n_train_asked", "integer", "training images asked for at the most; 0: all", later=True),
        Column("epochs_asked", "integer", "epochs asked for", later=True),
        Column("batch_size", "integer", "rows of a mini-batch; 0: full batch", later=True),
        Column("evaluate_every", "number", "epochs between evaluations", later=True),
        Column("gradient_norms", "flag", "whether evaluations took the gradient's norm", later=True),
        Column("checksum", "text", "hash of what came of the run, its curve in it: `adopt` takes no other", later=True),
        Column("stale", "flag", "whether the code or the grid has changed since; only prune reads it", later=True),
        Column("iteration", "integer", "steps so far"),
        Column("epoch", "number", "passes over the training images so far"),
        Column("constraint_gap", "number", "root mean square of a - h(z) over hidden units and samples"),
        Column("trial", "integer", "number of the trial, in the order of its design"),
        Column("chosen", "flag", "whether the final runs took this trial's settings"),
        # summary.csv
        Column("runs", "integer", "runs"),
        Column("done", "integer", "runs that finished"),
        Column("diverged", "integer", "runs that diverged"),
        Column("failed", "integer", "runs that failed"),
        Column("mean", "number", "mean test accuracy of the finished runs"),
        Column("sd", "number", "its standard deviation over seeds"),
        Column("ci_low", "number", "lower end of Student's 95 % interval of the mean"),
        Column("ci_high", "number", "upper end of it"),
        Column("median", "number", "median test accuracy of the finished runs"),
        Column("iqm", "number", "their interquartile mean: of the middle half"),
        Column("min", "number", "their lowest test accuracy"),
        Column("max", "number", "their highest test accuracy"),
        Column("mean_all", "number", "mean test accuracy of all runs, a diverged or failed one at chance level"),
        # what is derived from runs and curves
        Column("seeds", "integer", "seeds behind the row"),
        Column("column", "text", "the column of curves.csv that is fitted"),
        Column("law", "text", "linear: decreases shrink by a factor an iteration; power: smallest so far ~ k^-rate"),
        Column("since", "integer", "the first iteration that counts"),
        Column("fitted", "integer", "finished runs with a rate"),
        Column("monotone_share", "number", "share of the evaluations at which the column stood no higher than before"),
        Column("rate", "number", "linear: the factor per iteration; power: the exponent"),
        Column("r_squared", "number", "R² of the fit"),
        Column("step_sizes", "integer", "initial step sizes tried"),
        Column("best_step_size", "number", "the one with the highest mean validation accuracy"),
        Column("usable_decades", "number", "width of the range around it that loses at most 5 points", "decades"),
        Column("diverged_share", "number", "share of the step sizes whose training did not end below its first loss"),
        Column("deviation", "number", "mean distance of a seed's accuracy from the other seeds' median at the best"),
        Column("mean_accuracy", "number", "mean test accuracy over all step sizes tried"),
        Column("reference", "text", "label whose accuracy sets the target"),
        Column("share", "number", "share of the reference's median final validation accuracy that is the target"),
        Column("target", "number", "validation accuracy to reach"),
        Column("cost", "text", "the column of costs that the row is about"),
        Column("reached", "integer", "seeds that reached the target"),
        Column("updates_per_step", "number", "block updates of one step"),
        Column("block_step", "number", "mean cost of a block update", "s or FLOP"),
        Column("full_step", "number", "mean cost of a step", "s or FLOP"),
        Column("against", "text", "what the method is compared with"),
        Column("data_sets", "integer", "data sets that both were run on, each with the same weight"),
        Column("probability", "number", "that the label is more accurate on the same seed; a tie counts as half"),
        # claims.csv
        Column("id", "text", "the claim"),
        Column("paper", "text", "the paper that makes it"),
        Column("claim", "text", "what it says, in our words"),
        Column("note", "text", "what to know of how it is read here"),
        Column("protocol", "text", "what is equal in the comparison, a word of reproduce/judge/claims.toml"),
        Column("verdict", "text", "reproduced, partly, not reproduced, not tested here or not run"),
        Column("agreement", "text", "whether profiles paper and light agree; empty where one was not judged"),
        Column("reason", "text", "where it holds, is open, is the opposite (what is better) or is not tested"),
        Column("measure", "text", "what is measured"),
        Column("bound", "number", "bound of the rule, where it has one"),
        Column("evidence", "text", "smallest and largest effect, and the outermost ends of their 95 % intervals"),
        Column("basis", "text", "data sets with their training images and seeds"),
        Column("trials", "integer", "tuning trials of every setting, on seeds that do not count here; 0: not tuned"),
        Column("changed", "text", "what of the rule was changed after runs of earlier code, and why"),
        Column("scale", "text", "difference: above 0 favours the method; ratio: below 1 does; level: of one label"),
        Column("unit", "text", "unit of the numbers of the row"),
        Column("a_value", "number", "the method's mean over seeds, or the median of its costs"),
        Column("b_value", "number", "the comparator's"),
        Column("effect", "number", "mean difference, median ratio, or mean level; 0 or infinite where one missed"),
        Column("p", "number", "p value of the test"),
        Column("p_holm", "number", "the same after Holm's correction over the data sets"),
        Column(
            "outcome", "text", "better (the rule holds), worse (the opposite), tied or untested; best of some labels"
        ),
        Column("counts_against", "text", "what would count against the claim"),
        # published/comparison.csv
        Column("at", "integer", "iteration (full batch) or epoch that the number belongs to"),
        Column("theirs", "number", "published test accuracy"),
        Column("theirs_sd", "number", "its standard deviation, where several runs were published"),
        Column("ours", "number", "our mean test accuracy at the same evaluation"),
        Column("ours_sd", "number", "its standard deviation over seeds"),
        Column("tolerance", "number", "how near ours must be"),
        Column("met", "text", "yes, no, or not run or measured"),
        Column("source", "text", "where the number comes from"),
        # bench
        Column("n", "integer", "rows of data, or of a mini-batch"),
        Column("batch", "integer", "rows of a mini-batch; 0: full batch"),
        Column("steps", "integer", "steps of one reading"),
        Column("repetitions", "integer", "readings"),
        Column("ratio", "number", "median over neighbouring readings of theirs over ours"),
        Column("difference", "number", "largest distance between iterates, relative to the variable's largest value"),
        Column("difference_in", "text", "the variable that it is in"),
        Column("majoriser", "text", "whether the straightforward side keeps the gradient over trials"),
        Column("straightforward_seconds", "number", "an iteration of the straightforward implementation", "s"),
        Column("trials_per_iteration", "number", "backtracking trials of the straightforward iteration"),
        Column("flops_ratio", "number", "FLOPs of the straightforward iteration over ours"),
        Column("epoch_seconds_per_run", "number", "an epoch, divided by the runs of the stack", "s"),
        Column("against_epoch_seconds", "number", "an epoch of what is compared", "s"),
        Column("step_seconds", "number", "a step of the stack", "s"),
        Column("run_steps_per_second", "number", "steps a second, summed over the runs", "1/s"),
        Column("axis", "text", "the size that grows: rows, width, depth or runs"),
        Column("value", "integer", "its value"),
        Column("exponent", "number", "exponent of seconds ~ size^exponent"),
        Column("points", "integer", "sizes that the exponent is fitted to"),
        Column("flops_least", "number", "FLOPs that a step needs at the least", "FLOP"),
        Column("flops_counted", "number", "FLOPs that it makes", "FLOP"),
        Column("flops_over_least", "number", "the one over the other"),
        Column("bytes_least", "number", "bytes that a step must move at the least", "byte"),
        Column("gemm_flops_per_second", "number", "rate of a square float32 matrix product", "FLOP/s"),
        Column("copy_bytes_per_second", "number", "rate of a copy, read and written", "byte/s"),
        Column("flop_seconds", "number", "least FLOPs at that rate", "s"),
        Column("byte_seconds", "number", "least bytes at that rate", "s"),
        Column("limit_seconds", "number", "the larger of the two", "s"),
        Column("share_of_sum", "number", "the sum of the two over the measured seconds"),
        Column("flops_over_sgd", "number", "FLOPs of a step over those of SGD"),
        Column("seconds_over_flops_over_sgd", "number", "seconds over SGD's, over that ratio"),
        Column("baseline_bytes", "integer", "peak memory of the process before", "byte"),
        Column("peak_bytes", "integer", "peak memory with the stack", "byte"),
        Column("bytes_per_run", "number", "what a run added", "byte"),
        Column("predicted_bytes", "number", "what am.machine.run_bytes says", "byte"),
        Column("difference_of_weights", "number", "the largest difference among the weights"),
        Column("eager_step_seconds", "number", "an eager step", "s"),
        Column("graph_step_seconds", "number", "a replayed step", "s"),
        Column("after_steps", "integer", "steps after which the iterates are compared"),
        Column("operations", "text", "kind of operation"),
        Column("calls", "number", "calls of it in a step"),
        Column("seconds_at_gemm_rate", "number", "what the matrix products would take at the best rate", "s"),
        Column("data", "text", "the rows measured on"),
        Column("threads", "integer", "threads of the process"),
        Column("grids", "text", "grids that were run"),
        Column("before_seconds", "number", "the earlier checkout", "s"),
        Column("required", "text", "what was asked for"),
        Column("low", "number", "lower quartile of it"),
        Column("high", "number", "upper quartile of it"),
    )
}


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
    "grid profile rule lane dataset data_official data_rows data_fingerprint n_train inputs network activation hidden "
    "init method label constants hyperparameters seed n_train_asked epochs_asked batch_size evaluate_every "
    "gradient_norms"
)
_SPENT = "iterations epochs parameter_updates gradient_evaluations flops"
_ENDED = (
    "val_accuracy train_loss objective gradient_norm diverged_at seconds train_seconds evaluate_seconds record_seconds "
    "stack_runs device torch commit run_key checksum stale"
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
            "seconds stale"
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
            "dataset label seeds done step_sizes best_step_size usable_decades~ diverged_share~ deviation~ "
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
            "id paper claim note protocol grid profile verdict agreement reason evidence basis",
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
            Column("ci_high", "number", "upper end of it"), "p p_holm outcome",
        ), "claims",
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
            "method hidden n runs majoriser repetitions", _SECONDS, "straightforward_seconds ratio~ trials_per_iteration "
            "flops_ratio difference difference_in", _MACHINE,
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
    "light": Table(
        "bench/light.csv", "the suite, before and after",
        _columns(
            "grids", Column("epochs", "text", "share of the profile's epochs"), "repetitions before_seconds",
            Column("seconds", "number", "this checkout", "s"), "ratio~",
        ), "bench",
    ),
    "earlier": Table(
        "bench/earlier.csv", "an iteration in an earlier checkout and in this one, in alternation",
        _columns(
            "method hidden n runs threads repetitions before_seconds",
            Column("seconds", "number", "an iteration here", "s"), "ratio~ gemm_flops_per_second limit_seconds",
            Column("share", "number", "limit_seconds over the measured seconds"), *_ends(_SHARE), "data device torch",
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

_ACTIVATIONS = dict(
    relu="ReLU", leaky_relu="leaky ReLU", elu="ELU", selu="SELU", celu="CELU", relu6="ReLU6", gelu="GELU", silu="SiLU"
)


def dataset_title(name: str) -> str:
    title = DATASETS[name].title if name in DATASETS else name
    return title.capitalize() if title.islower() and name in DATASETS else title


def activation_title(name: str) -> str:
    return _ACTIVATIONS.get(name, name)


def network_title(network: str, hidden: str) -> str:
    """What figures and tables call a network: its name, or of a multilayer perceptron the widths."""
    return NETWORKS[network].title if network in NETWORKS else hidden


def method_title(name: str) -> str:
    return methods()[name].title if name in methods() else name
