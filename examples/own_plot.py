"""A plot of your own from the CSVs, in a few lines: median test accuracy of every method against gradient evaluations.

    python examples/own_plot.py results/tiam_accuracy mnist own.png

docs/columns.md says what every column of curves.csv and runs.csv is.
"""

import sys

import matplotlib.pyplot as plt
import pandas as pd

folder, dataset, out = sys.argv[1:]
curves = pd.read_csv(f"{folder}/curves.csv")
if dataset not in set(curves["dataset"]):
    sys.exit(f"{folder}/curves.csv has no data set '{dataset}'; it has {', '.join(curves['dataset'].unique())}.")
curves = curves[(curves["dataset"] == dataset) & (curves["epoch"] > 0)]
medians = curves.groupby(["gradient_evaluations", "label"])["test_accuracy"].median().unstack()
medians.interpolate(method="index", limit_area="inside").plot(
    logx=True, ylabel="test accuracy", title=dataset, colormap="tab20"
)
plt.legend(bbox_to_anchor=(1, 1))
plt.savefig(out, bbox_inches="tight")
