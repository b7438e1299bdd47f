PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MAX_LINES := 400

.DEFAULT_GOAL := help
.PHONY: help study test fuzz bench peer check format dist clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

study: $(VENV)/.installed ## Map the default model on this machine: tables, plots and results/report.html
	$(BIN)/kvscape study examples/kv_study.toml --out results

test: $(VENV)/.developing ## Run the tests, side by side (KVSCAPE_TEST_TEXT=wiki.test.raw adds those that need WikiText-2)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

fuzz: $(VENV)/.fuzzing ## Give random bytes to the readers of other people's files (ARGS="--seconds 600 gguf")
	PYTHONPATH=tests:tests/fuzz $(BIN)/python tests/fuzz/run.py $(ARGS)

bench: peer ## Time kvscape beside llama.cpp and append the table to docs/performance.md (ARGS="--pairs q4 --rounds 3")
	$(BIN)/python benchmarks/peers.py $(ARGS)

peer: $(VENV)/.peer ## Build llama.cpp for this processor (once; about 7 minutes on 2 cores)

check: $(VENV)/.developing ## Lint, types, import layers, file lengths
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@find src tests examples benchmarks -regex '.*\.\(py\|cuh\|h\|wgsl\|js\|css\|html\)' -exec awk -v most=$(MAX_LINES) \
	  'END { if (NR > most) { print FILENAME ": " NR " lines, at most " most; exit 1 } }' {} \; | { ! grep .; }

format: $(VENV)/.developing ## Format the sources
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

dist: $(VENV)/.developing ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --outdir dist

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Made again when pyproject.toml changes.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: kvscape needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1); run make PYTHON=python3.11" >&2; \
	  exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(VENV)/.fuzzing: $(VENV)/.developing
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	@touch $@

# Without GGML_NATIVE llama.cpp is built for any processor, and the comparison is not fair.
$(VENV)/.peer: $(VENV)/.installed
	@command -v c++ > /dev/null || { echo "error: no C++ compiler: llama.cpp is built from source; install g++ or clang" >&2; exit 2; }
	@echo "building llama.cpp for this processor: about 7 minutes on 2 cores"
	CMAKE_ARGS="-DGGML_NATIVE=ON" $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-binary llama-cpp-python --editable '.[peers]'
	@touch $@
