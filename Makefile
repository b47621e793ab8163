# `make demo` and `make test` do all their own set-up and may be run any number of times.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1

.PHONY: docs/options.md setup demo demo-smoke test test-slow test-cluster lint format bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	@$(BIN)/python -c "import sys; assert (3, 11) <= sys.version_info[:2] < (3, 13)" 2>/dev/null \
		|| { echo "Python 3.11 or 3.12 is needed; set PYTHON=..."; exit 2; }
	@echo "installing (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/sweep run demo

demo-smoke: $(STAMP)
	$(BIN)/sweep run demo --smoke --dir $(or $(DIR),runs/demo-smoke)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow and not cluster" $(ARGS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow" --timeout 2400 $(ARGS)

# hosts made of network namespaces, as root; cluster/install-tools.sh installs what it needs, else it skips and says why
test-cluster: $(STAMP)
	$(BIN)/python -m pytest -m "cluster" -s tests/cluster $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sweep trainables datasets analysis search_spaces

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the table of every option, from the options themselves
docs/options.md: $(STAMP)
	@printf '# Every option\n\nWritten by `make docs/options.md` from `sweep ls -v`: name, default, range, meaning with its unit and origin.\n\n```\n' > $@.tmp
	@$(BIN)/sweep ls -v >> $@.tmp
	@printf '```\n' >> $@.tmp && mv $@.tmp $@

bench: $(STAMP)
	$(BIN)/python tests/bench/run.py $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
