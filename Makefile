# Two commands do everything on a fresh machine: make demo, make test.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: demo test lint bench latency faults fuzz clean

demo: $(VENV)/.installed
	$(BIN)/headrace demo

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	# Two files at a time: with three, two cores are too busy for tests of live streams.
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.chain

latency: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.latency

faults: $(VENV)/.installed
	$(BIN)/headrace faults

# make fuzz MINUTES=60
MINUTES ?= 5
fuzz: $(VENV)/.installed-test
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

$(VENV)/bin/pip:
	sh deploy/apt-packages.sh venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# Editable, so that a change in the tree is what runs.
$(VENV)/.installed: $(VENV)/bin/pip setup.cfg pyproject.toml constraints.txt
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	sh deploy/apt-packages.sh test
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet -c constraints.txt -e '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) .cache build *.egg-info demo
