# Everything a person or CI does with this repository. Needs Python 3.11 or 3.12 and make; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := PYTHONPATH=. $(BIN)
# Tests mostly wait for the processes they start, so more of them than there are cores run side by side.
WORKERS ?= 3

# Where it is set, every process compiles every module anew: torch alone takes 10 seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install quickstart test lint format types proto proto-check proto-release docs tutorials stubs bench bench-peers soak e2e e2e-cluster e2e-compose images clean

install: $(STAMP)

# uv installs the same pins in a tenth of the time; it comes from the same index as everything else.
$(STAMP): pyproject.toml constraints.txt
	@echo "==> Installing Modelyard and what it stands on into $(VENV) (a few minutes the first time: torch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@UV_HTTP_TIMEOUT=300 $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "==> Installed"

quickstart: $(STAMP)
	@$(BIN)/python docs/tutorials/quickstart.py

test: lint types proto-check
	@echo "==> Tests (a real PostgreSQL and MinIO are used where they are at hand; see docs/development.md)"
	@failed=0; $(RUN)/python -m pytest -q -m "not alone" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25 || failed=1; \
	$(RUN)/python -m pytest -q -m alone || failed=1; exit $$failed

lint: $(STAMP)
	@echo "==> Style, imports, contracts"
	@$(BIN)/ruff check services clients tests protos docs
	@$(BIN)/ruff format --check --quiet services clients tests protos docs
	@$(BIN)/lint-imports --no-cache 2>&1 | tail -25
	@$(BIN)/python protos/generate.py --google
	@$(BIN)/buf lint protos
	@$(BIN)/buf format protos --diff --exit-code > /dev/null
	@$(BIN)/buf breaking protos --against protos/released.binpb

format: $(STAMP)
	@$(BIN)/ruff check --fix --quiet services clients tests protos docs || true
	@$(BIN)/ruff format --quiet services clients tests protos docs
	@$(BIN)/buf format protos --write

types: $(STAMP)
	@echo "==> Types (strict)"
	@$(BIN)/mypy services/modelyard clients/modelyard

proto: $(STAMP)
	@$(BIN)/python protos/generate.py

proto-check: $(STAMP)
	@echo "==> Generated code equals the contracts"
	@$(BIN)/python protos/generate.py --check
	@$(BIN)/python clients/generate_sync.py --check

# The contracts as of the last release: `buf breaking` compares with them. Run it when a version is released, and commit the file.
proto-release: $(STAMP)
	@$(BIN)/python protos/generate.py --google
	@$(BIN)/buf build protos -o protos/released.binpb

# The docs site, into .build/docs/site: a link that leads nowhere fails it, and so does a page that would load anything from elsewhere.
docs: $(STAMP)
	@$(BIN)/python docs/site/build.py

# Every tutorial's commands, as they stand, on real data (MODELYARD_DATA): some minutes each.
tutorials: $(STAMP)
	@MODELYARD_TUTORIALS=1 $(RUN)/python -m pytest -q -p no:cacheprovider tests/e2e/test_tutorials.py

# Client stubs for Go and TypeScript, compiled; needs go, node and npm, and their registries.
stubs: $(STAMP)
	@$(BIN)/python clients/stubs/generate.py

bench: $(STAMP)
	@$(RUN)/python tests/bench/training.py
	@$(RUN)/python tests/bench/peers/run.py --only ours,in-process

# Ours beside KServe, MLServer and Triton; each gets an environment in the user's cache the first time (1 GB in all).
bench-peers: $(STAMP)
	@$(RUN)/python tests/bench/peers/setup.py || true
	@$(RUN)/python tests/bench/peers/run.py --picture docs/pictures/peers.svg

# An hour and a half; `python tests/bench/soak.py --short` takes some minutes.
soak: $(STAMP)
	@$(RUN)/python tests/bench/soak.py

e2e: $(STAMP)
	@$(RUN)/python -m pytest -q tests/e2e

# Against the cluster of KUBECONFIG (images at MODELYARD_E2E_REGISTRY), or one that it starts itself where ../shared/cluster is at hand.
e2e-cluster: $(STAMP)
	@tests/e2e/cluster/run

# deploy/compose on the Docker that is at hand, or on a daemon of its own (root).
e2e-compose: $(STAMP)
	@tests/e2e/compose/run

# All images, with buildah or docker. For several platforms: docker buildx bake -f deploy/images/bake.json
images:
	@deploy/images/build

clean:
	rm -rf $(VENV) .build .mypy_cache .ruff_cache .pytest_cache .hypothesis
