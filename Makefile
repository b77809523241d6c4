# Everything starts here: `make demo` runs the main job, `make test` runs all tests.
# Each makes the virtual environment it needs; `make help` lists the rest.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 1
SEEDS ?= 2000
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-long contracts contracts-build recover check setup setup-dev system system-chain sim sim-soak drill-churn bench epochs clients soak fmt docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Atoll needs Python 3.11 or newer. Next: install it (Debian: apt install python3 python3-venv)."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Could not make a virtual environment. Next: apt install python3-venv, then run make again."; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.product: $(VENV)/.made pyproject.toml
	@echo "installing Atoll into $(VENV) (once) …" >&2
	@$(BIN)/python -m pip install --quiet -e '.[chain,cashout]'
	@touch $@

# The embedded chain's program. Without npm (or a way out) there is none: all else works.
$(VENV)/.anvil: $(VENV)/.product
	@$(BIN)/atoll chain install --if-missing --soft
	@touch $@

$(VENV)/.dev: $(VENV)/.product
	@echo "installing the test tools into $(VENV) (once) …" >&2
	@$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

setup: $(VENV)/.product $(VENV)/.anvil ## install the product into .venv
setup-dev: $(VENV)/.dev ## install product and test tools into .venv

system: ## install or ask for the system packages the tests use
	@scripts/system-packages postgresql chromium

system-chain: setup-dev # a chain for the tests: they fail in CI without one
	@test -x $(VENV)/share/atoll-anvil/anvil || scripts/system-packages npm
	@$(BIN)/atoll chain install --if-missing --soft

system-clients:
	@scripts/system-packages rclone restic

demo: setup ## the main job: a cloud, real files, dead nodes, repair, everybody paid
	@$(BIN)/atoll demo $(DEMO)

check: setup-dev ## lint, types, import contracts (seconds)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/codespell README.md ARCHITECTURE.md docs src tests bench
	@$(BIN)/deptry . 2>&1 | tail -n 20

test: setup-dev system system-chain ## all tests (under 30 minutes on two cores)
	@$(BIN)/pytest -q -n $(JOBS) --dist loadgroup $(TESTS)

test-long: setup-dev system system-chain ## what takes minutes: money's processes killed at every step, watched clouds
	@$(BIN)/pytest -q -n $(JOBS) --dist loadgroup -m long $(TESTS)

contracts: setup-dev ## the settlement contracts: long tests, mutants [CONTRACTS="Token Escrow"]
	@$(BIN)/python -m atoll.economy.contracts.build --check
	@ATOLL_CONTRACTS_FULL=1 $(BIN)/pytest -q -n $(JOBS) --dist load tests/contracts $(TESTS)
	@$(BIN)/python -m tests.contracts.mutate --jobs $(JOBS) $(CONTRACTS)

contracts-build: setup-dev ## compile the settlement contracts into economy/artifacts
	@$(BIN)/python -m atoll.economy.contracts.build

sim: setup-dev ## one simulated world: make sim SEED=7 [SCENARIO=churn]
	@$(BIN)/python -m atoll.sim.vopr --seed $(SEED) $(if $(SCENARIO),--scenario $(SCENARIO))

sim-soak: setup-dev ## 2,000 seeds, an hour or more: make sim-soak SEEDS=500
	@$(BIN)/python -m atoll.sim.vopr --seeds $(SEEDS) --jobs $(JOBS)

drill-churn: setup ## 40 nodes at 10/20 under load, 30 % of them killed within ten seconds
	@$(BIN)/atoll drill churn --nodes 40 --share 0.3 --within 10 $(DRILL)

bench: setup-dev system ## throughput and CPU per byte, appended to bench/history.jsonl
	@$(BIN)/python -m bench $(BENCH)

epochs: setup-dev ## 1,000 epochs x 1,000 nodes of random life: conservation to the pico
	@$(BIN)/python -m bench.epochs $(EPOCHS)

recover: setup-dev ## 2,000 objects back from nodes alone, thrice: all else gone, refusing, rebuilt
	@ATOLL_RECOVER_OBJECTS=$(or $(OBJECTS),2000) $(BIN)/pytest -q -m "long or not long" tests/integration/cli/test_recover.py $(TESTS)

clients: setup-dev system-clients ## real clients: aws-cli, rclone, boto3, restic
	@$(BIN)/pytest -q tests/clients $(TESTS)

soak: setup-dev system ## every kind of process killed at random under load, on SQLite and PostgreSQL
	@$(BIN)/python -m tests.soak $(SOAK)

fmt: setup-dev ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove what make made
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
