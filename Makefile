# Every target makes its own virtual environment, .venv, and needs only Python >= 3.11.
# PYTHON=python3.12 names another interpreter; ARGS="-k taps" goes on to the command.

PYTHON ?= $(shell command -v python3 || command -v python)
BIN := .venv/bin
BOOTSTRAP = @$(PYTHON) scripts/bootstrap.py
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

# What an outer environment sets must not reach into ours.
unexport PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster test slow contract mutations test-hf test-full lint pages docs bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: ## train a small network on digits, compare every detector, decide; leaves demo/ (no download of data)
	$(BOOTSTRAP) demo
	$(BIN)/gradood demo --out demo $(ARGS)

demo-cluster: ## start Ray on this machine, fit and score the demo's data there, and compare with one process
	$(BOOTSTRAP) demo ray
	$(BIN)/python scripts/demo_cluster.py $(ARGS)

test: ## every test but `slow`, `contract` and `mutations`; what needs ../shared or CUDA skips with a reason where there is none
	$(BOOTSTRAP) test
	$(PYTEST) --ignore=tests/test_mutations.py -m "not options and not slow" $(ARGS)

slow: ## the tests that take seconds each: processes that are killed, commands from end to end, reference scores
	$(BOOTSTRAP) test
	$(PYTEST) --ignore=tests/test_mutations.py -m slow $(ARGS)

contract: ## every contract check of the detectors with options that are not their defaults
	$(BOOTSTRAP) test
	$(PYTEST) tests/contract/test_contract.py -m options $(ARGS)

mutations: ## tests of the tests: every planted fault must be caught
	$(BOOTSTRAP) test
	$(PYTEST) tests/test_mutations.py $(ARGS)

test-hf: ## what needs Transformers: every detector on seven of its architectures, its folders, pipelines and tokenizers
	$(BOOTSTRAP) test hf
	$(PYTEST) tests/contract/test_any_input.py tests/unit/models tests/unit/test_hugging_face.py tests/unit/test_model_loading.py $(ARGS)

test-full: ## all four, with every contract check on every network, some 30 minutes of one core
	$(BOOTSTRAP) test
	$(PYTEST) --full $(ARGS)

lint: ## style, format, types, import contracts: what CI and pre-commit run
	$(BOOTSTRAP) dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/pages.py --types

pages: ## run every command and program of README.md and docs/, as printed, in a fresh working copy
	@$(PYTHON) scripts/pages.py $(ARGS)

docs: ## build the site into build/site, offline, warnings as errors, every link looked for
	$(BOOTSTRAP) docs
	$(BIN)/python docs/build.py $(ARGS)

bench: ## time and memory of each detector against the plain forward pass
	$(BOOTSTRAP) demo
	$(BIN)/python benchmarks/cost.py $(ARGS)

clean: ## remove everything the other targets made, .venv too
	rm -rf .venv demo build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
