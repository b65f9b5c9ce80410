# The front door. Every target sees to its environment first; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
# snakefmt looks for shfmt on the path
export PATH := $(CURDIR)/$(BIN):$(PATH)
.DEFAULT_GOAL := help

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' Makefile

demo: .venv/.installed ## A first report in minutes: config.yaml, from raw text to small models
	@echo "demo: a teacher learns to tell swapped words; SDP and CoFi make it smaller. About 6 minutes on two cores."
	$(BIN)/snakemake --profile profiles/local
	@echo "Report: results/$$(sed -n 's/^project: *\([a-z0-9-]*\).*/\1/p' config.yaml)/report.html"
	@echo "To go on: edit config.yaml and run make demo again, or compare four papers in some 20 minutes with make study"

study: .venv/.installed ## The longer demo: SDP, SPD, CoFi and HomoDistil on the same task
	$(BIN)/snakemake --profile profiles/local --configfile workflow/experiments/four-papers/config.yaml
	@echo "Report: results/four-papers/report.html"

test: .venv/.installed ## All tests but those of cluster and browser, on every core
	$(BIN)/python -m pytest -n auto --dist loadfile

test-fast: .venv/.installed ## Unit tests without the slow files, under two minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" tests/unit

test-versioning: .venv/.installed ## Of these, git, DVC and clones: who knows what is done
	$(BIN)/python -m pytest -m versioning tests/versioning

test-browser: .venv/.installed ## The report in Debian's Chromium (apt-get install chromium), with screenshots; a minute
	$(BIN)/python -m pytest -m browser tests/browser

test-cluster: .venv/.installed ## Jobs on a SLURM that is started for it, with pretend GPUs: Debian, as root
	$(BIN)/python -m pytest -m cluster tests/cluster

faults: .venv/.installed ## The table of faults anew, about 15 minutes of one core; goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.table work/faults

clients: .venv/.installed ## Programs of others that tests open models with, into tests/clients: sentence-transformers, transformers.js
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target tests/clients/python sentence-transformers==6.2.0
	npm install --prefix tests/clients --ignore-scripts --no-audit --no-fund --no-package-lock

lint: .venv/.installed .venv/tools/.installed ## Form of code, rules and workflow; types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/snakemake --lint
	.venv/tools/bin/mypy

docs: .venv/tools/.installed ## The site, from README.md and docs/, into site/
	NO_MKDOCS_2_WARNING=1 .venv/tools/bin/mkdocs build --quiet --strict
	@echo "Site: site/index.html"

bench: .venv/.installed ## Speed on this machine, beside plain trainers: benchmarks/bench.json, docs/speed.md; 10 minutes
	$(BIN)/python -m benchmarks.bench

schema: .venv/.installed ## The JSON schema for editors, from the configuration's classes
	$(BIN)/python -m espalier.config.schema > workflow/schemas/config.schema.json

docs-pages: .venv/.installed ## The pages of docs/ that are generated from the package
	$(BIN)/python -m espalier.config.reference > docs/configuration.md
	$(BIN)/python -m espalier.config.families.page > docs/families.md

share: .venv/.installed ## Store all results elsewhere: make share REMOTE=/disk/store (or ssh://…, s3://bucket/path)
	$(if $(REMOTE),,$(error say where: make share REMOTE=/disk/store, ssh://host/path or s3://bucket/path))
	$(BIN)/dvc remote add --local --force --default store "$(REMOTE)"
	$(BIN)/dvc commit --force
	$(BIN)/dvc push
	@echo "Now commit dvc.lock with git: who clones that commit and pulls from the same place has all results."

lock: ## envs/*.lock from envs/*.in
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet pip-tools
	for name in requirements tools; do \
		(cd envs && ../.venv/lock/bin/pip-compile --quiet --strip-extras --no-header --no-emit-index-url \
			--no-emit-trusted-host --no-emit-find-links --output-file $$name.lock $$name.in) && \
		sed -i -e "1i # Compiled from $$name.in by 'make lock'; do not edit." \
			-e '/^--/d' -e 's/^\([a-z0-9-]*==[^+ ]*\)+[a-z0-9.]*/\1/' envs/$$name.lock || exit; \
	done

clean: ## Remove the environment, logs, checkpoints and the site; results stay
	rm -rf .venv work logs site

.venv/.installed: envs/install.py envs/requirements.lock pyproject.toml
	$(PYTHON) envs/install.py .venv envs/requirements.lock .

# Programs for developers, in an environment of their own: no result depends on them.
.venv/tools/.installed: envs/install.py envs/tools.lock
	$(PYTHON) envs/install.py .venv/tools envs/tools.lock

.PHONY: help clients demo study test test-fast test-versioning test-browser test-cluster faults lint docs bench schema docs-pages share lock clean
