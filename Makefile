# Two commands do all the set-up on a fresh machine: `make run` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c

PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
SAM := .venv-sam
AUDIT := .venv-audit
HOST_ARCH := $(subst x86_64,amd64,$(subst aarch64,arm64,$(shell uname -m)))
ARCH ?= $(HOST_ARCH)
SUFFIX := $(if $(filter $(HOST_ARCH),$(ARCH)),,-$(ARCH))
BASE_IMAGE ?= localhost/carsight-base$(SUFFIX)
BUILDAH := buildah --storage-driver overlay
export PYTHONPATH := layers/recognition/python:layers/service/python:.

.PHONY: doctor findings run test lint audit types check images hostile soak fuzz test-wheel test-images processors benchmark lock clean

doctor: ## What this machine lacks, to run here and to deploy
	@$(PYTHON) packaging/doctor.py || true # the list says it; make would add that there was an error

run: $(VENV)/ready ## Serve the API at http://127.0.0.1:$(PORT)
	@PORT=$(PORT) $(BIN)/python -m local

test: $(VENV)/ready $(VENV)/clients ## Run every test
	$(BIN)/python -m pytest -q

lint: $(VENV)/ready $(SAM)/ready ## Style, types and the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(SAM)/bin/sam validate --lint

audit: $(AUDIT)/ready ## Hold what is locked against published advisories, where they can be reached
	$(PYTHON) packaging/audit.py $(AUDIT)/bin/pip-audit

images: $(if $(filter localhost/%,$(BASE_IMAGE)),.images/base$(SUFFIX)) ## Build both images, as root and without Docker
	for name in plate vin; do \
	  $(BUILDAH) build --arch $(ARCH) --isolation chroot --layers --quiet --volume /etc/ssl/certs:/etc/ssl/certs:ro \
	    --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg FUNCTION=$$name --file functions/Dockerfile --tag carsight-$$name$(SUFFIX) . || exit; \
	done

test-wheel: $(VENV)/ready ## Install a built wheel into an empty environment, and read photos with it
	rm -rf build dist
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	packaging/try_wheel.sh dist/*.whl $(CURDIR)/$(BIN)/python

test-images: $(VENV)/ready ## Run the images as Lambda would, and compare
	IMAGES_SUFFIX=$(SUFFIX) $(BIN)/python -m pytest -q -rs tests/images/emulated.py

.images/base$(SUFFIX): $(SAM)/ready tests/images/base.sh
	tests/images/base.sh $(BASE_IMAGE) $(ARCH) \
	  $(SAM)/lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-$(subst amd64,x86_64,$(ARCH))
	@mkdir -p $(@D) && touch $@

processors: $(VENV)/ready .processors/ready ## Read sample photos on emulated processors, and compare
	$(BIN)/python -m pytest -q -rs tests/processors/emulated.py

.processors/ready: requirements/recognition.txt tests/processors/rig.sh $(wildcard packaging/slim/*) | $(VENV)/ready
	@tests/processors/rig.sh $(@D) $(BIN)/python --require-hashes -r requirements/recognition.txt
	@PYTHONPATH=packaging $(BIN)/python -m slim.prune $(@D)/packages
	@touch $@

hostile: $(VENV)/ready ## Send N hostile calls (5,000) of a SEED (1), say what the worst of each kind has cost; races, a late store, kills
	$(BIN)/python -W ignore -m tests.hostile.campaign --count $(or $(N),5000) --seed $(or $(SEED),1) --out hostile.json
	for what in races late kills; do $(BIN)/python -m benchmarks.counting $$what || exit; done

soak: $(VENV)/ready ## Send 100,000 requests, and plot memory and CPU time
	$(BIN)/python -m benchmarks.soak --csv docs/soak.csv --plot docs/soak.svg

fuzz: $(VENV)/ready ## Fuzz what takes bytes apart, SECONDS (600) for each target; needs Python 3.11 to 3.13 on Linux
	$(BIN)/pip install --quiet --disable-pip-version-check atheris==3.0.0
	for target in header container items multipart text head; do \
	  $(BIN)/python -W ignore -m tests.hostile.fuzz.fuzz $$target $(or $(SECONDS),600) || exit; \
	done

benchmark: $(VENV)/ready .images/packages ## CPU-time of a cold start and of a warm request, stage by stage
	$(BIN)/python -m benchmarks.cold --packages .images/packages
	$(BIN)/python -m benchmarks.warm --api plate
	$(BIN)/python -m benchmarks.warm --api vin
	$(BIN)/python -m benchmarks.threads

.images/packages: requirements/recognition.txt $(wildcard packaging/slim/*.py) ## What the images hold, for this Python
	rm -rf $@
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: --require-hashes \
	  --target $@ -r requirements/recognition.txt
	PYTHONPATH=packaging $(BIN)/python -m slim.prune $@
	@touch $@

# `venv --clear`: an installation that was broken off leaves half an environment, without the file `ready`.
$(VENV)/ready: requirements/dev.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'Python 3.11 or newer with venv is needed: apt-get install python3-venv, or make PYTHON=... $@' >&2; exit 1; }
	@[ ! -L $(VENV) ] || { echo '$(VENV) is a link to $(shell readlink $(VENV)), which would be emptied:' \
	  'remove the link, or `touch $@` if what it holds will do.' >&2; exit 1; }
	@echo 'Installing into $(VENV), once: some 140 packages, 1 GB.'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --disable-pip-version-check --progress-bar off --no-deps --require-hashes -r requirements/dev.txt | \
	  awk '/^(Collecting|Processing)/ { printf "\r  %d packages", ++n } /^Installing/ { printf ", being installed" } \
	    { fflush() } END { print "" }'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable . # the carsight command
	@touch $@

$(SAM)/ready: requirements/sam.txt
	$(PYTHON) -m venv $(SAM)
	$(SAM)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/sam.txt
	@touch $@

$(AUDIT)/ready: requirements/audit.txt
	$(PYTHON) -m venv --clear $(AUDIT)
	$(AUDIT)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.txt
	@touch $@

$(VENV)/clients: tests/clients/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is needed for the tests: apt-get install npm' >&2; exit 1; }
	npm ci --silent --no-audit --no-fund --prefix tests/clients
	@touch $@

findings: ## Ask outside software again, outside CI: which of findings/ no longer hold
	@log=$$(mktemp); for finding in findings/*.sh; do \
	  bash $$finding >$$log 2>&1; \
	  case $$? in \
	    0) echo "holds      $$finding" ;; \
	    1) echo "NO LONGER  $$finding"; sed 's/^/           /' $$log ;; \
	    *) echo "not run    $$finding: $$(tail -1 $$log)" ;; \
	  esac; \
	done; rm -f $$log

# What ships is a part of what is tested: `dev` is resolved first and binds the others. Two of the files lie where SAM
# looks for them, and are links here: to those it would not follow in its build's container.
lock: ## Resolve requirements/*.in anew (needs uv)
	for name in dev recognition account batches sam audit; do \
	  case $$name in \
	    dev) options='--override requirements/overrides.in' ;; \
	    recognition | account | batches) options='--constraint requirements/dev.txt' ;; \
	    *) options= ;; \
	  esac; \
	  uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header $$options \
	    requirements/$$name.in -o $$(realpath requirements/$$name.txt) || exit; \
	done
	sed -i --follow-symlinks '/-c requirements.dev.txt/d' requirements/recognition.txt requirements/account.txt requirements/batches.txt

clean:
	rm -rf build dist $(VENV) $(SAM) $(AUDIT) .mypy_cache .ruff_cache .pytest_cache .local .images .processors
