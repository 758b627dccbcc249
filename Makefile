# make lab    environment, then JupyterLab on notebooks/
# make test   environment, Chromium where apt and root allow, then every test
# make demo   the embedded zoo merged by every method: table, compare.csv, report.html
# make venv | bench | notebooks | lint | clean
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: lab test demo venv bench notebooks lint chromium clean

lab: .venv/.lab
	$(BIN)/mergekit-nb lab

demo: .venv/.lab
	$(BIN)/mergekit-nb demo

test: .venv/.test chromium
	$(BIN)/python -m pytest

bench: .venv/.test
	$(BIN)/python benchmarks/bench.py

notebooks: .venv/.test chromium
	$(BIN)/python notebooks/build.py

lint: .venv/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

venv: .venv/.test

# The stamps are older than pyproject.toml only when the dependencies may have changed: otherwise make reuses the environment.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.lab: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e .
	@touch $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e '.[test]'
	@touch $@ .venv/.lab

# The browser tests say so and skip where no Chromium can be had.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	echo "no Chromium, and no right to install one: the browser tests will be skipped"

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
