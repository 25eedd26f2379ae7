"""A data set of your own: two files in the data folder, and every command knows it.

    python examples/own_data.py data                                  # writes data/wine.npz and data/wine.toml
    python -m reproduce datasets                                      # lists it
    make reproduce-own_data GRIDS=examples PROFILE=light              # trains it, seconds

The set is scikit-learn's wine: 178 wines of three cultivars, 13 measured features each. docs/own-data.md says what else
may be in the files.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split


def main(folder: Path) -> None:
    wine = load_wine()
    x_train, x_test, y_train, y_test = train_test_split(
        wine.data, wine.target, test_size=0.2, random_state=0, stratify=wine.target
    )
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "wine.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    (folder / "wine.toml").write_text('title = "Wine"\nsource = "scikit-learn, load_wine"\n', encoding="utf-8")
    print(f"{folder / 'wine.npz'}: {x_train.shape[0]} + {x_test.shape[0]} rows of {x_train.shape[1]} features")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
