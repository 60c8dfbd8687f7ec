# Every target builds what it needs: `make retrain` on a fresh machine is enough.
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SERVERS := $(VENV)/.servers
# Fails where a Python cannot make an environment, or is none of those that constraints.txt was tried on.
KNOWN  := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help retrain test test-gpu test-stack acceptance lint format docs ui stack stack-down bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# An environment keeps its Python; a new one gets PYTHON, or the newest that works: what a version manager puts on PATH may not.
$(READY): pyproject.toml constraints.txt
	@for python in $(or $(PYTHON),$(BIN)/python python3.13 python3.12 python3.11 python3); do \
		if $$python -c '$(KNOWN)' 2>/dev/null; then break; fi; python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: Python 3.11, 3.12 or 3.13 with venv is needed; of $(or $(PYTHON),python3.13 python3.12 python3.11 python3) none is one that works." >&2; \
		echo "       Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; \
	fi; \
	version=$$($$python -c 'import sys; print(*sys.version_info[:2], sep=".")'); \
	if [ "$$($(BIN)/python -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null)" != "$$version" ]; then \
		echo "Creating $(VENV) with Python $$version and installing the pinned packages (several minutes, once) ..."; \
		$$python -m venv --clear $(VENV); \
	fi
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(SERVERS): $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server]'
	@touch $@

retrain: $(READY)  ## run the whole pipeline on the corpus of params.yaml and register the model
	@$(BIN)/needledrop retrain

# What of the code the tests run, but for what runs in the processes that they start. From Python 3.12 on that costs
# nothing (user time of 175 tests 18.2 s instead of 18.5), before it half as much again (29.0 s), which only CI pays.
test: $(READY)  ## run the tests, in two processes
	@core=; if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then core=sysmon; fi; \
	COVERAGE_CORE=$$core $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $${core:+--cov --cov-report=} && \
	if [ -n "$$core" ]; then \
		echo "Coverage, the least covered files first:"; \
		$(BIN)/coverage report --sort=cover | sed -n '1,17p;$$p'; \
	fi

test-gpu: $(READY)  ## run the tests that need a GPU
	@NEEDLEDROP_TEST_GPU=1 $(BIN)/python -m pytest -q tests/gpu

acceptance: $(SERVERS)  ## from nothing to a rolled-back champion on real servers, as one readable log
	@$(BIN)/python -m tests.stack.acceptance

test-stack: $(SERVERS)  ## run the tests that need the real servers, on a stack of their own, and those that take long
	@NEEDLEDROP_TEST_STACK=1 $(BIN)/python -m pytest -q tests/stack
	@$(BIN)/python -m pytest -q -m stack --ignore tests/stack

lint: $(READY)  ## ruff and mypy (strict on components/ and flows/)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## let ruff mend and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

$(VENV)/.docs: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs  ## the documentation as a site in .needledrop/site; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "to read it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory .needledrop/site 8000"

ui: $(READY)  ## MLflow and Prefect pages of this workspace, on loopback, until Ctrl-C
	@$(BIN)/python -m infra.local

stack: $(SERVERS)  ## the whole platform on this machine: PostgreSQL, S3, MLflow, Prefect, a worker; on loopback
	@$(BIN)/python -m infra.stack up

stack-down:  ## stop it; its data stay in .needledrop/stack
	@if [ -e .needledrop/stack/ports.json ]; then $(BIN)/python -m infra.stack down; fi

bench: $(READY)  ## measure what a retrain with nothing to do costs against `dvc status`
	@$(BIN)/python -m benchmarks.orchestration

clean: stack-down  ## remove the virtual environment, data, caches and local servers' state
	rm -rf $(VENV) data .needledrop .dvc/cache .dvc/tmp .pytest_cache .mypy_cache .ruff_cache *.egg-info
