# The whole study in one command: make tables

CORES ?= all
MARKED ?= cluster
CONFIG ?= config.yaml
LOCK := envs/cpu.lock
VENV := .venv
AUDIT_VENV := .venv-audit
DOCS_VENV := .venv-docs
SLURM_VENV := .venv-slurm
# Found before PATH is changed, so that it is never the environment's own Python.
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell command -v python3.11 || echo python3)
endif
# Rules call plain `python`: the environment's.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
SNAKEMAKE := $(VENV)/bin/snakemake --cores $(CORES)
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

.PHONY: help tables smoke dry-run plan audit test test-slow test-cluster screenshot terminal docs lint format config env wheelhouse audit-env docs-env slurm-env gpu-figures clean-env

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

tables: env ## run the study of config.yaml: tables, figures and report
	$(SNAKEMAKE)

smoke: env ## run every kind of stage on the smallest study (presets/smoke.yaml), check it, and say PASS
	@OMP_NUM_THREADS=1 PYTHONPATH=workflow $(VENV)/bin/python tests/helpers/smoke.py

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

test-cluster: slurm-env ## tests on a Slurm of two nodes that they start on this machine (root; installs Debian's packages; MARKED='slow or cluster': test-slow beside them)
	tests/cluster/start.sh --install
	$(PYTEST) -m '$(MARKED)'; code=$$?; tests/cluster/stop.sh; exit $$code

screenshot: env ## write docs/report/*.png from results/report.html (needs Chromium)
	$(VENV)/bin/python tests/browser/screenshot.py results/report.html docs/report

terminal: env ## write docs/terminal.md: what a run, a stop and a failure look like
	PYTHONPATH=workflow:tests/helpers $(VENV)/bin/python tests/workflow/terminal_page.py docs/terminal.md

docs: docs-env ## write the pages as a site into site/; a link that leads nowhere fails
	@rm -rf site
	PATH="$(abspath $(DOCS_VENV))/bin:$$PATH" sphinx-build -q -W -E -d $(DOCS_VENV)/doctrees -c docs . site
	@echo "The first page: site/index.html"

lint: env ## check style and types: Python, Snakefiles, workflow
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/snakefmt --check Snakefile workflow
	$(VENV)/bin/snakemake --lint

format: env ## rewrite Python and Snakefiles in the house layout
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format
	$(VENV)/bin/snakefmt Snakefile workflow

gpu-figures: env ## measure on a GPU: study and step in bf16 (TRAIN=, VLLM=: their Pythons; benchmarks/gpu.md)
	$(VENV)/bin/python benchmarks/gpu.py $(addprefix --train=,$(TRAIN)) $(addprefix --vllm=,$(VLLM)) $(addprefix --peak=,$(PEAK))

config: env ## write config.yaml and its schema again from the config models
	$(VENV)/bin/python -m distill config

env: ## bring .venv to envs/cpu.lock and envs/tools.lock (nothing to do when it is there)
	@bash envs/install.sh $(VENV) "$(PYTHON)" $(LOCK) envs/tools.lock

wheelhouse: ## download what LOCK lists, for a machine without a network (there: make env WHEELHOUSE=FOLDER)
	@bash envs/wheelhouse.sh "$(or $(WHEELHOUSE),wheelhouse/$(basename $(notdir $(LOCK))))" "$(PYTHON)" $(LOCK) \
	    $(if $(filter envs/cpu.lock,$(LOCK)),envs/tools.lock)

audit-env: ## bring .venv-audit, which exports and signs, to envs/audit.lock
	@bash envs/install.sh $(AUDIT_VENV) "$(PYTHON)" envs/audit.lock

docs-env: ## bring .venv-docs, which builds the site, to envs/docs.lock
	@bash envs/install.sh $(DOCS_VENV) "$(PYTHON)" envs/docs.lock

# What it does not hold itself is found in the environment beside it.
slurm-env: env ## bring .venv-slurm, which starts jobs on a Slurm cluster, to envs/slurm.lock
	@bash envs/install.sh $(SLURM_VENV) "$(PYTHON)" envs/slurm.lock
	@$(VENV)/bin/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		>$(SLURM_VENV)/lib/python3.11/site-packages/beside.pth

clean-env: ## remove .venv, .venv-audit, .venv-docs and .venv-slurm
	rm -rf $(foreach place,$(VENV) $(AUDIT_VENV) $(DOCS_VENV) $(SLURM_VENV),$(place) $(place).lock)
