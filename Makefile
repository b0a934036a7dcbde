# Everything happens in .venv, made here from PYTHON (3.11 or newer), so a bare machine will do.
PYTHON ?= python3
# Test processes side by side; each loads JAX and torch, about 2 GB.
WORKERS ?= 2

BIN := .venv/bin
PIP := PIP_NO_INPUT=1 $(BIN)/python -m pip install -qq --disable-pip-version-check
TESTS := JAX_PLATFORMS=cpu OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DELETE_ON_ERROR:
.PHONY: help demo test slow format clean

help:
	@echo 'make demo     train a small critic on handwritten digits, judge held-out ones: runs/demo/report.html'
	@echo 'make test     lint, format check, types, tests'
	@echo 'make slow     the checks that take minutes or a large download'
	@echo 'make format   put the code into the form that make test asks for'
	@echo 'make clean    remove .venv, runs/ and the caches'
	@echo 'PYTHON=...    the Python to build .venv from (3.11 or newer; now: $(PYTHON))'

demo: .venv/installed
	$(BIN)/critic-jax demo --out runs/demo

test: .venv/installed-test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(TESTS) -m 'not slow' -n $(WORKERS)

slow: .venv/installed-test
	$(TESTS) -m slow -n $(WORKERS) --dist loadgroup

format: .venv/installed-test
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf .venv runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'make: $(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.11' >&2; exit 2; }
	@echo 'Making .venv with $(PYTHON)'
	@$(PYTHON) -m venv .venv
	@touch $@

# The tests' packages (torch among them) are installed only where tests are asked for.
.venv/installed: pyproject.toml setup.py | .venv/made
	@echo 'Installing critic_jax into .venv (some minutes the first time, no output until done)'
	@$(PIP) -e .
	@touch $@

.venv/installed-test: pyproject.toml setup.py | .venv/made
	@echo 'Installing critic_jax and what its tests need into .venv (some minutes the first time, no output until done)'
	@$(PIP) -e '.[test]'
	@touch $@ .venv/installed
