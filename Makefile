# Every target alone is enough on a machine with Python 3.11 or newer: it makes .venv first.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo installed jars prism test soak lint types format options screenshots bench results constraints clean

# The first Python that is new enough; `make PYTHON=... test` takes another.
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,\
	$(shell $(python) -c 'import sys; sys.version_info < (3, 11) or print("$(python)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
# Where the ULB and the handbook transactions are.
DATA ?= data
# What installs packages: CI takes a faster one, which lacks pip's settings of mirrors and proxies.
INSTALL ?= $(BIN)/python -m pip --disable-pip-version-check install

help: ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.installed ## Simulate, train, score and alert, in under a minute after the installation.
	@$(BIN)/beam-fraud demo

# What `make test` installs, builds and downloads first, in parts that CI makes side by side.
installed: $(VENV)/.installed-dev
jars prism:
	@$(PYTHON) -m tests.requirements $@

# Servers of Java live for seconds in tests: compiling their code well costs more than it saves.
jars test: export JDK_JAVA_OPTIONS ?= -XX:TieredStopAtLevel=1 -XX:+UseSerialGC

# In the order of tests/conftest.py, which has the long tests of whole runners early: left to the end,
# they would keep one core busy alone. One process more than cores, as tests wait for servers.
test: $(VENV)/.installed-dev ## Run all tests, in up to four processes.
	@$(BIN)/python -m pytest -n $$($(BIN)/python -c 'import os; print(min(os.cpu_count() + 1, 4))') \
	  --dist loadfile --no-loadscope-reorder

soak: $(VENV)/.installed-dev ## Run the tests that take many minutes at full size.
	@$(BIN)/python -m pytest -m soak

lint: $(VENV)/.installed-dev ## Check style, formatting and the direction of imports.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache

types: $(VENV)/.installed-dev ## Check types.
	@$(BIN)/mypy

format: $(VENV)/.installed-dev ## Format the code and mend what can be mended.
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

options: $(VENV)/.installed-dev ## Renew what follows from the options: the Dataflow template and docs/options.md.
	@$(BIN)/python -m deploy.options

screenshots: $(VENV)/.installed-dev ## Renew the pictures of docs/review.md, by the tests of the pages.
	@BEAM_FRAUD_SCREENSHOTS=$(CURDIR)/docs/review $(BIN)/pytest -q tests/review/test_browser.py -k serious

bench: $(VENV)/.installed-bench ## Print the table of benchmarks; JSON with ARGS=--json.
	@$(BIN)/python -m benchmarks $(ARGS)

results: $(VENV)/.installed-dev ## Compute all figures of docs/results.md: DATA=folder of the real transactions.
	@$(BIN)/python -m benchmarks.results --data $(DATA) --out docs/results.md $(ARGS)

constraints: ## Renew constraints.txt: what a new environment gets today.
	@$(PYTHON) -m venv --clear build/constraints
	@build/constraints/bin/python -m pip --disable-pip-version-check install -q -e '.[dev,bench]'
	@{ head -n 1 constraints.txt; build/constraints/bin/python -m pip freeze --all \
	  --exclude-editable --exclude pip; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@rm -r build/constraints

clean: ## Remove the environment and all that was built.
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(if $(PYTHON),,echo "beam-fraud needs Python 3.11 or newer, and none is on PATH" >&2; exit 1)
	@echo "Making $(VENV) with $(PYTHON)" >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a minute or two, once" >&2
	@$(INSTALL) -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), with what is compared: a minute or two, once" >&2
	@$(INSTALL) -q -c constraints.txt -e '.[bench]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), with what development needs: a minute or two, once" >&2
	@$(INSTALL) -q -c constraints.txt -e '.[dev,bench]'
	@touch $@ $(VENV)/.installed-bench $(VENV)/.installed
