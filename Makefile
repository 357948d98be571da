# What one needs: Python 3.11, Node 20 and make. `make run` installs the rest from PyPI and npm.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

VENV := .venv
# The first of these that really is Python 3.11 (a version manager's python3.11 may exist and not run).
PYTHON ?= $(shell for candidate in python3.11 python3 python; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then echo $$candidate; break; fi; done)
RUN := $(VENV)/bin/python -m

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: setup ## start everything: the Function App on :7071 with its database, cache, queues and Vertex simulator
	@exec $(RUN) infra.local.stack

.PHONY: check
check: setup ## wait until a running stack can serve
	@$(RUN) infra.local.stack --check

.PHONY: stop
stop: python ## stop the stack that runs from this checkout
	@$(PYTHON) infra/local/bootstrap.py stop

.PHONY: logs
logs: ## follow the logs of the running stack
	@tail -n 20 -F "$${ROUTER_LOCAL_DIR:-.local}"/logs/*.log

.PHONY: reset
reset: python ## stop, and remove all local state (.local); installed packages stay
	@$(PYTHON) infra/local/bootstrap.py reset

.PHONY: demo-data
demo-data: setup-python ## load a month of made-up traffic into the running stack: make demo-data [DEMO_FLAGS="--requests 50000"]
	@$(RUN) infra.demo $(DEMO_FLAGS)

.PHONY: demo-data-remove
demo-data-remove: setup-python ## take the made-up traffic away again
	@$(RUN) infra.demo --remove $(DEMO_FLAGS)

.PHONY: test
test: setup ## run all tests, with coverage of shared/ and functions/
	@$(RUN) pytest --cov --cov-report=term

.PHONY: coverage
coverage: setup ## the same, with the missing lines and an HTML report in htmlcov/
	@$(RUN) pytest --cov --cov-report=term-missing --cov-report=html

.PHONY: lint
lint: setup-python ## ruff, mypy and import-linter
	@status=0; \
	$(RUN) ruff check || status=1; \
	$(RUN) ruff format --check || status=1; \
	$(RUN) mypy || status=1; \
	$(VENV)/bin/lint-imports || status=1; \
	exit $$status

.PHONY: format
format: setup-python ## format the code and fix what ruff can fix safely
	@$(RUN) ruff check --fix
	@$(RUN) ruff format

.PHONY: eval-analysis
eval-analysis: setup-python ## measure how well requests are read: figures per class, token estimates, and CPU time
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) tests.evals.analysis_report
	@$(RUN) tests.evals.token_estimates
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) tests.bench.analysis_cost

.PHONY: eval-security
eval-security: setup-python ## measure how well sensitive content and attacks are found: precision and recall by kind
	@$(RUN) tests.evals.security_report

.PHONY: eval-routing
eval-routing: setup-python ## measure routing quality on labelled sets: make eval-routing DATA=path/to/routing
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) tests.evals.routing_quality $(if $(DATA),--data $(DATA)) $(EVAL_FLAGS)

.PHONY: eval-documents
eval-documents: setup-python ## parse a folder of documents as its manifest says: make eval-documents DATA=path/to/rag
	@$(RUN) tests.evals.rag_fixtures $(DATA)

.PHONY: eval-rag
eval-rag: setup-python ## measure retrieval on labelled sets: make eval-rag DATA=path/to/rag [EVAL_FLAGS="--sets scifact"]
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) tests.evals.rag_quality $(if $(DATA),--data $(DATA)) $(EVAL_FLAGS)

.PHONY: fault-ingestion
fault-ingestion: setup ## ingest 500 documents while workers are killed and services stopped: make fault-ingestion [DOCUMENTS=500]
	@FAULT_DOCUMENTS=$(or $(DOCUMENTS),500) $(RUN) pytest -q tests/contract/test_ingestion_faults.py

.PHONY: lock
lock: python ## compile requirements*.in to requirements*.txt with hashes (UPGRADE=--upgrade for the newest)
	@test -x .local/lock/bin/uv || { $(PYTHON) -m venv .local/lock && .local/lock/bin/pip install --quiet uv; }
	@.local/lock/bin/uv pip compile --quiet $(UPGRADE) $(LOCK_FLAGS) requirements.in -o requirements.txt
	@.local/lock/bin/uv pip compile --quiet $(UPGRADE) $(LOCK_FLAGS) requirements-dev.in -o requirements-dev.txt
LOCK_FLAGS := --generate-hashes --python-version 3.11 --no-emit-index-url --no-header

.PHONY: setup
setup: python ## install what run and test need, if it changed
	@$(PYTHON) infra/local/bootstrap.py setup

.PHONY: setup-python
setup-python: python
	@$(PYTHON) infra/local/bootstrap.py setup --python-only

.PHONY: clean
clean: reset ## reset, and remove everything installed or generated
	@rm -rf $(VENV) infra/local/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache htmlcov .coverage .coverage.*
	@find . -name __pycache__ -type d -not -path './*/node_modules/*' -exec rm -rf {} +

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 was not found. Install it (python3.11 on PATH), or name it: make PYTHON=/path/to/python3.11 run" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "PYTHON=$(PYTHON) was not found." >&2; exit 1; }
