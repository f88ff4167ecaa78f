# Verbs only; the graph of runs is in the Snakefile. Each verb sets up .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORES  ?= 2
PYTEST_ARGS ?=
READY  := $(VENV)/.ready

.PHONY: help env demo figures evidence test test-lab lab lint notebooks build-paper

help:
	@echo "make demo         GenMix on the liver phantoms, from data to figure (minutes)"
	@echo "make figures      every notebook at demo scale, into figures/"
	@echo "make evidence     the long runs behind the verdicts (hours, resumable)"
	@echo "make test         everything that tests"
	@echo "make lab          JupyterLab            make notebooks    store demo outputs in notebooks/"
	@echo "make build-paper  build every network at paper scale and take one step"
	@echo "make lint | env | test-lab"

env: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python >= 3.11 is needed, $(PYTHON) is $$($(PYTHON) -V); name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV): about 5 GB, a few minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --editable '.[datasets,test]'
	@touch $@
	@echo "$(VENV) is ready. make help says what can be done in it."

demo: $(READY)
	$(BIN)/python -m nbutils run 30 -p scale demo

figures: $(READY)
	$(BIN)/snakemake --cores $(CORES) figures

evidence: $(READY)
	$(BIN)/snakemake --cores $(CORES) evidence

# One thread for each process: two that wait for each other on busy cores take ten times as long.
test: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: $(READY)
	$(BIN)/jupyter lab notebooks

notebooks: $(READY)
	for notebook in notebooks/*.ipynb; do $(BIN)/python -m nbutils run "$$notebook" --store || exit 1; done

build-paper: $(READY)
	$(BIN)/python -m nbutils build-paper

test-lab: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[lab-test]'
	$(BIN)/python -m pytest --override-ini addopts= tests/lab
