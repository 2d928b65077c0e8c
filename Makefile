# Two commands do all the set-up on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := layers/recognition/python:layers/service/python:.

.PHONY: run test lint types check images test-images benchmark lock clean

run: $(VENV)/ready ## Serve the API at http://127.0.0.1:$(PORT)
	@PORT=$(PORT) $(BIN)/python -m local

test: $(VENV)/ready $(VENV)/clients ## Run every test
	$(BIN)/python -m pytest -q

lint: $(VENV)/ready ## Style, types and the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml

$(VENV)/ready: requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@mkdir -p $(VENV) && touch $@

$(VENV)/clients: tests/clients/package-lock.json
	npm ci --silent --no-audit --no-fund --prefix tests/clients
	@touch $@

lock: ## Resolve requirements/*.in anew (needs uv)
	for name in recognition account dev; do \
	  uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
	    requirements/$$name.in -o requirements/$$name.txt; done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .local .images
