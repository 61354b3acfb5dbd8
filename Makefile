# `make quickstart` and `make test` set up all they need; both may be run again at any time.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test battery test-matrix test-faults test-mutants fuzz check format bench docs audit release clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/tunesmith train examples/tickets.yaml
	$(BIN)/tunesmith predict "$$(ls -td runs/*/ | head -n 1)" \
	  --text "it says delivered but there is nothing here, not at the neighbours either" \
	  --text "Why was I charged twice this month? Please refund one of the two payments." \
	  --text "the lamp keeps dropping off the wifi since the update, tried a reset already"

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Every case of the battery; `make test` runs a sample of them.
battery: $(VENV)/.installed
	$(BIN)/python -m pytest tests/contracts --whole

# Every architecture with every task and method; `make test` runs a sample of them.
test-matrix: $(VENV)/.installed
	$(BIN)/python -m pytest tests/contracts/test_matrix.py --whole

# Kills at every step on disk and at random times, full disks, signals in every phase; `make test` makes a sample of them.
test-faults: $(VENV)/.installed
	$(BIN)/python -m pytest tests/faults tests/runs/test_search_ray.py --whole -s --timeout=1200

# Coverage-guided fuzzing of all that is read, a minute each.
fuzz: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c tools.txt atheris
	$(BIN)/python tests/hostile/fuzz.py

# Put each defect of tests/mutants/ into a copy of the sources: its tests must fail. Some names or rows: make test-mutants NAMES="..."
test-mutants: $(VENV)/.installed
	$(BIN)/python tests/mutants/run.py $(NAMES)

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# All units, or one: make bench UNIT=trainer-banking77
bench: $(VENV)/.installed
	$(BIN)/python bench/run.py $(UNIT)

docs: $(VENV)/.installed
	for what in recipe result check runs models blend compare repeated combine report verify reproduce licences search; do \
	  $(BIN)/tunesmith schema $$what > docs/reference/$$what.schema.json; done

.venv-audit/.installed: tools.txt
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install -q --disable-pip-version-check -c tools.txt cyclonedx-bom pip_audit
	touch $@

# Known vulnerabilities of every pinned version. Asks the package index for them; one that it cannot tell of fails.
audit: .venv-audit/.installed
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

# A wheel, and beside it all that it is installed with (CycloneDX), with licences.
release: .venv-audit/.installed
	rm -rf .venv-release dist && $(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	.venv-release/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt '.[all]'
	.venv-release/bin/python -m pip wheel -q --disable-pip-version-check --no-deps -w dist .
	.venv-audit/bin/cyclonedx-py environment --pyproject pyproject.toml --of JSON -o dist/sbom.cdx.json .venv-release
	.venv-release/bin/tunesmith licences --json > dist/licences.json

clean:
	rm -rf $(VENV) .venv-bench .venv-bench-factory .venv-bench-cleanlab .venv-bench-setfit .venv-audit .venv-release .pytest_cache .mypy_cache .ruff_cache
