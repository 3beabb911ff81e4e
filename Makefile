# The only commands to remember. Each bootstraps .venv from requirements.lock (hashed).
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1; \
	then echo $$p; break; fi; done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup devnet devnet-down test lint format bench soak clean

help:
	@echo "make devnet   start a live four-validator network and show it (Ctrl-C stops it)"
	@echo "make test     run the tests"
	@echo "make lint     ruff, mypy --strict, import directions"
	@echo "make bench    measure, as ratios to this machine's signature check"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tallystick needs Python 3.11 or 3.12; none was found on PATH." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

devnet: $(STAMP)
	$(BIN)/tally devnet up

devnet-down: $(STAMP)
	$(BIN)/tally devnet down

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m bench

# Hours. Every seed is another network, broken in another way.
soak: $(STAMP)
	$(BIN)/tally simulate --seeds 100000

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
