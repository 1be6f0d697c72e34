# consentkit. `make demo` shows it, `make test` checks all of it.
# Needs Debian or Ubuntu with make and Python 3.11 or newer; what else is missing is installed by apt, as root or through sudo.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PORT ?= 8000
JOBS ?= 4
TESTS ?= tests

VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_BUILD_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip --disable-pip-version-check -q
# The first of these that is new enough.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)

AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Where the browser tests find Chromium and Firefox: the system's, or those that scripts/needs put beside Python.
export CONSENTKIT_CHROMIUM ?= $(firstword $(wildcard $(CURDIR)/$(BIN)/chromium) /usr/bin/chromium)
export CONSENTKIT_FIREFOX ?= $(firstword $(wildcard $(CURDIR)/$(BIN)/firefox) /usr/bin/firefox-esr)

# Compiled once, a test need not be again: by each process, in each run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: demo
demo: $(VENV)/.runtime  ## the demo site on http://127.0.0.1:8000 (PORT=9000 for another port)
	@exec $(BIN)/python -m demo_site --port $(PORT)

.PHONY: test
test: style types layers suite  ## everything that CI checks

.PHONY: check
check: TESTS := tests -m "not browser and not postgres"
check: style types layers $(VENV)/.dev node_modules/.installed  ## the same, without browsers and PostgreSQL
	$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

.PHONY: style
style: $(VENV)/.dev  ## format check and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: types
types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy --strict

.PHONY: layers
layers: $(VENV)/.dev  ## which module may import which
	$(BIN)/lint-imports --no-cache

.PHONY: suite
suite: $(VENV)/.dev $(VENV)/.browsers node_modules/.installed  ## all tests (TESTS=tests/gate for some, JOBS=4 for more at once)
	$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

.PHONY: bench
bench: $(VENV)/.dev $(VENV)/.browser  ## the measured ratios, each beside its goal
	$(BIN)/python -m benchmarks

.PHONY: battery
battery: $(VENV)/.dev $(VENV)/.browsers  ## does anything reach a tracker before consent? in every browser (BROWSERS=firefox for one)
	scripts/needs webkit
	@leaked=0; for browser in $(or $(BROWSERS),chromium firefox webkit); do \
		$(BIN)/python -m battery --browser $$browser || leaked=1; done; exit $$leaked

.PHONY: test-post
test-post: $(VENV)/.dev  ## mailings through a real Postfix and Dovecot, which root starts in a folder of their own
	scripts/needs post
	$(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m pytest -p no:cacheprovider tests/post

.PHONY: fuzz
fuzz: $(VENV)/.dev  ## the gate against independent parsers, RUNS=1000000 documents
	CONSENTKIT_FUZZ_RUNS=$(or $(RUNS),1000000) $(BIN)/python -m pytest --timeout 0 tests/gate/test_oracle.py

.PHONY: soak
soak: $(VENV)/.dev  ## senders killed in the middle of RUNS=200 mailings on each database: nobody gets one twice
	CONSENTKIT_SOAK_RUNS=$(or $(RUNS),200) $(BIN)/python -m pytest -s --timeout 0 tests/mailing/test_kill.py

.PHONY: screenshots
screenshots: $(VENV)/.dev $(VENV)/.browser  ## writes docs/console/: how each page of the console looks
	CONSENTKIT_SCREENSHOTS=docs/console $(BIN)/python -m pytest tests/console/test_every_page.py

.PHONY: checklist
checklist: $(VENV)/.dev  ## writes docs/checklist.md: which test holds which requirement
	$(BIN)/python -m tests.project.coverage_table

.PHONY: format
format: $(VENV)/.dev  ## writes the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean:  ## removes what this file made, the demo's database included
	rm -rf $(VENV) .dev node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf demo_site/demo.db* demo_site/demo-post.jsonl demo_site/consentkit.keys demo_site/consentkit-journal* demo_site/consentkit-tombstones
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the targets above need; each stamp is older than its causes only when there is something to install

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "consentkit needs Python 3.11 or newer; none of python3 … python3.14 is" >&2; exit 1; }
	scripts/needs venv $(PYTHON)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install 'pip>=25.1'
	$(PIP) install -c constraints.txt -e '.[console]' --group demo
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install 'pip>=25.1'
	$(PIP) install -c constraints.txt -e '.[postgres,brotli,imap,bounces,dkim,mjml,queue,console]' --group dev
	@touch $@ $(VENV)/.runtime

$(VENV)/.browser: scripts/needs | $(VENV)/.dev
	scripts/needs browser $(BIN)
	@touch $@

$(VENV)/.browsers: scripts/needs | $(VENV)/.browser
	scripts/needs browsers $(BIN)
	@touch $@

node_modules/.installed: package.json
	scripts/needs node
	scripts/needs java
	npm install --no-audit --no-fund --no-package-lock --loglevel=error
	@touch $@
