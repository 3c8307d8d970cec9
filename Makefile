# The whole study in one command: make tables

CORES ?= all
CONFIG ?= config.yaml
LOCK := envs/cpu.lock
VENV := .venv
AUDIT_VENV := .venv-audit
# Found before PATH is changed, so that it is never the environment's own Python.
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell command -v python3.11 || echo python3)
endif
# Rules call plain `python`: the environment's.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
SNAKEMAKE := $(VENV)/bin/snakemake --cores $(CORES)
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

.PHONY: help tables dry-run plan audit test test-slow screenshot lint format config env audit-env clean-env

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

tables: env ## run the study of config.yaml: tables, figures and report
	$(SNAKEMAKE)

dry-run: env ## show what `make tables` would run, and why
	$(SNAKEMAKE) --dry-run

plan: env ## tell what the study of config.yaml costs before it runs (CONFIG=FILE for another)
	$(VENV)/bin/python -m distill plan --config $(CONFIG)

audit: env ## verify results: every byte, record and link, and what is stale
	$(VENV)/bin/python -m distill verify

test: env ## everyday tests
	$(PYTEST)

test-slow: env ## tests that run whole studies
	$(PYTEST) -m slow

screenshot: env ## write docs/report.png from results/report.html (needs Chromium)
	$(VENV)/bin/python tests/browser/screenshot.py results/report.html docs/report.png

lint: env ## check style and types: Python, Snakefiles, workflow
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/snakefmt --check Snakefile workflow/rules
	$(VENV)/bin/snakemake --lint

format: env ## rewrite Python and Snakefiles in the house layout
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format
	$(VENV)/bin/snakefmt Snakefile workflow/rules

config: env ## write config.yaml and its schema again from the config models
	$(VENV)/bin/python -m distill config

env: ## bring .venv to envs/cpu.lock and envs/tools.lock (nothing to do when it is there)
	@bash envs/install.sh $(VENV) "$(PYTHON)" $(LOCK) envs/tools.lock

audit-env: ## bring .venv-audit, which exports and signs, to envs/audit.lock
	@bash envs/install.sh $(AUDIT_VENV) "$(PYTHON)" envs/audit.lock

clean-env: ## remove .venv and .venv-audit
	rm -rf $(VENV) $(VENV).lock $(AUDIT_VENV) $(AUDIT_VENV).lock
