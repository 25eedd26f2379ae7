# Variables: PROFILE=smoke|light|paper  DATA=folder  DEVICE=cpu|cuda  SEEDS=n  METHODS=a,b  DATASETS=a,b  RESULTS=folder  FIGURES=folder  GRIDS=folder  GRAPHS=1  FOR=2h  ROUND=n  ROWS=n  SHARE=2/3  STYLE=paper  WIDTH=1|2  FROM="folder ..."  OF=component  WHY="..."  MOVES="..."
SHELL := /bin/bash
.SHELLFLAGS := -f -c
VENV ?= .venv
VALUES := VENV PROFILE DATA DEVICE SEEDS METHODS DATASETS RESULTS FIGURES GRIDS GRAPHS FOR ROUND ROWS SHARE STYLE WIDTH FROM OF WHY MOVES
# As they were typed, and by the environment: neither make nor the shell looks into them.
$(foreach name,$(VALUES),$(eval override $(name) := $$(value $(name))))
export $(VALUES)
PYTHON := "$$VENV"/bin/python
READY := $(VENV)/.ready
$(if $(word 2,$(VENV))$(findstring %,$(VENV))$(findstring :,$(VENV)),$(error VENV must be a folder without blanks, ':' and '%'))
option = $(if $($(1)),$(2)="$$$(1)")
DATA_OPTION := $(call option,DATA,--data)
DEVICE_OPTION := $(call option,DEVICE,--device)
CSVS := $(call option,RESULTS,--results)
FIGURES_OPTION := $(call option,FIGURES,--figures)
KIND := $(call option,PROFILE,--profile) $(call option,GRIDS,--grids)
PART := $(call option,SEEDS,--seeds) $(call option,METHODS,--methods) $(call option,DATASETS,--datasets)
OPTIONS := $(KIND) $(PART) $(DATA_OPTION) $(DEVICE_OPTION) $(CSVS) $(FIGURES_OPTION) $(if $(GRAPHS),--graphs)
PLACES := $(CSVS) $(FIGURES_OPTION) $(KIND)

.PHONY: help quickstart test lint test-slow gpu-check plan reproduce-all figures tables claims check bench bench-gpu report collect columns adopt audit prune version fingerprints methods grids clean env ray-check

help:  ## This list.
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo "  Variables: PROFILE=smoke|light|paper DATA=folder DEVICE=cpu|cuda SEEDS=n METHODS=a,b DATASETS=a,b RESULTS=folder FIGURES=folder GRIDS=folder GRAPHS=1 FOR=2h ROUND=n ROWS=n SHARE=2/3 STYLE=paper WIDTH=1|2 FROM=folder"
	@echo "  Each target is also a command: $(PYTHON) -m reproduce --help"

# Bytecode is compiled here, once: elsewhere it may never be, and every start would pay for it.
INSTALL := uv pip install --quiet --compile-bytecode --python $(PYTHON) -r requirements.txt

env: $(READY)  ## The Python environment in .venv (made by any target that needs it).

$(READY): requirements.txt
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing "$$VENV" && $(INSTALL); \
	else \
		python3 -m venv "$$VENV" && $(PYTHON) -m pip install --quiet uv && PATH="$$VENV/bin:$$PATH" $(INSTALL); \
	fi
	@touch "$$VENV/.ready"

quickstart: $(READY)  ## The methods on the embedded digits: CSVs and figures in a few minutes.
	$(PYTHON) -m reproduce run quickstart --profile smoke $(DEVICE_OPTION)

PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n auto --dist worksteal

test: $(READY)  ## The tests: first, in a minute, whether a number of any method moved, then the rest.
	$(PYTEST) tests/evidence
	$(PYTEST) -m "not slow and not gpu" --ignore tests/evidence tests

CODE := am reproduce tests examples

lint: $(READY)  ## Format and lint, and the types of the library.
	"$$VENV"/bin/ruff format --check $(CODE)
	"$$VENV"/bin/ruff check $(CODE)
	"$$VENV"/bin/mypy

test-slow: $(READY)  ## The long checks.
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n auto -m "slow" tests

gpu-check: $(READY)  ## On a machine with a GPU: its tests, then the smoke profile of every grid on it.
	$(PYTHON) -m pytest -q -m "gpu" tests
	$(PYTHON) -m reproduce run all quickstart fair fair_minibatch scale published_bcd released_vs_paper samt_networks samt_networks_resnet20 --profile smoke --device cuda

plan: $(READY)  ## What reproduce-all would do: runs, what is already there, estimated time.
	$(PYTHON) -m reproduce plan all $(OPTIONS)

RUN := $(OPTIONS) $(call option,FOR,--for) $(call option,ROUND,--seeds-per-round) $(call option,SHARE,--share)

reproduce-all: $(READY)  ## Every grid but quickstart, fair, fair_minibatch, scale, published_bcd, released_vs_paper, samt_networks, samt_networks_resnet20: train what is missing, write CSVs and figures. FOR=2h: for so long.
	$(PYTHON) -m reproduce run all $(RUN)

reproduce-%: export GRID = $*
reproduce-%: $(READY)  ## One grid, for example reproduce-tiam_accuracy.
	$(PYTHON) -m reproduce run $(RUN) -- "$$GRID"

collect: $(READY)  ## Write the CSVs again from the finished runs.
	$(PYTHON) -m reproduce collect all $(OPTIONS)

adopt: $(READY)  ## Take finished runs from the CSVs into the store: of FROM="folder ..." (default: of results/).
	$(PYTHON) -m reproduce adopt $(CSVS) $(if $(FROM),-- $$FROM)

audit: $(READY)  ## Train finished runs again, drawn at random, and hold every number against its row. ROWS=10 FOR=20m
	$(PYTHON) -m reproduce audit $(call option,ROWS,--rows) $(call option,FOR,--for) $(DATA_OPTION) $(DEVICE_OPTION) $(CSVS) $(KIND)

ray-check: $(READY)  ## With requirements-distributed.txt: a cluster of two nodes here that loses a worker and a node.
	$(PYTHON) -m reproduce raycheck

prune: $(READY)  ## Remove the rows that the grids plan no longer, the folders `former`.
	$(PYTHON) -m reproduce prune $(CSVS) $(KIND)

version: $(READY)  ## Step the version of what moved and was meant to. OF=method:tiam WHY="..." MOVES='on = "gpu"': for such rows alone.
	@$(PYTHON) -m reproduce version --of="$$OF" --why="$$WHY" --moves="$$MOVES"

fingerprints: $(READY)  ## Write the fingerprints that are missing, of a new method for example; those that are there stay.
	$(PYTHON) -m reproduce fingerprints

LOOK := $(call option,STYLE,--style) $(call option,METHODS,--methods) $(call option,WIDTH,--columns)

figures: $(READY)  ## Draw all figures again from the CSVs. STYLE=paper METHODS=a,b WIDTH=1: for a paper of yours, one column wide.
	$(PYTHON) -m reproduce figures $(PLACES) $(LOOK)

tables: $(READY)  ## Write the tables again from the CSVs, and those of README.md and docs/ with them.
	$(PYTHON) -m reproduce tables $(CSVS) $(KIND)

claims: $(READY)  ## Judge the papers' claims on the CSVs: results/claims.csv, and published numbers beside ours.
	$(PYTHON) -m reproduce claims $(CSVS) $(KIND)

check: $(READY)  ## Check that the runs and curves behind the figures bear out every verdict.
	$(PYTHON) -m reproduce check $(CSVS)

report: $(READY)  ## One HTML page of it all, results/report.html: claims, tables, interactive curves, figures, provenance.
	$(PYTHON) -m reproduce report $(PLACES)

BENCH := $(DATA_OPTION) $(CSVS) $(FIGURES_OPTION)

bench: $(READY)  ## Speed and memory against straightforward code and the machine's limit, on an idle machine: about half an hour.
	$(PYTHON) -m reproduce bench $(BENCH) --device cpu

bench-gpu: $(READY)  ## The same on a GPU, into results/bench_gpu.
	$(PYTHON) -m reproduce bench $(BENCH) --device cuda

columns: $(READY)  ## Write docs/columns.md: every column of every CSV.
	$(PYTHON) -m reproduce columns

methods: $(READY)  ## List the methods with their settings and search spaces.
	$(PYTHON) -m reproduce methods

grids: $(READY)  ## List the grids with the question that each answers.
	$(PYTHON) -m reproduce grids

clean: $(READY)  ## Delete the store of finished runs; CSVs and figures stay.
	$(PYTHON) -m reproduce clean $(CSVS)
