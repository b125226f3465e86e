PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 18

.PHONY: quickstart
quickstart:  ## a cluster on this machine, with a service that outlives its leader
	@./deploy/quickstart

.PHONY: venv
venv:  ## .venv with swarm from this checkout, and what tests and checks need
	@"$$(./deploy/python)" deploy/environment.py --dev --venv $(VENV)

.PHONY: test
test:  ## the tests: [ARGS="tests/unit -k raft"]
	@./tests/run $(ARGS)

.PHONY: lint
lint: venv  ## format, lint, types, import rules, docs/commands.md
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	@$(BIN)/python deploy/commands_page.py --check

.PHONY: commands
commands: venv  ## docs/commands.md from the help texts
	$(BIN)/python deploy/commands_page.py

.PHONY: test-long
test-long:  ## the tests that take minutes: machines in namespaces, the guide word for word, whole stacks
	@./tests/run -m long

.PHONY: protos-check
protos-check: venv  ## whether swarm/api/v1 is what protos/ says
	@$(BIN)/python deploy/check_protos.py

.PHONY: check
check: lint protos-check test  ## all that must be clean before a commit lands

.PHONY: lock
lock:  ## requirements*.txt anew from pyproject.toml, with hashes for all platforms (takes uv)
	uv pip compile $(LOCK_OPTIONS) pyproject.toml deploy/build.in -o requirements.txt
	uv pip compile $(LOCK_OPTIONS) --extra dev -c requirements.txt pyproject.toml deploy/build.in -o requirements-dev.txt

LOCK_OPTIONS = --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

PROTOS = $(sort $(wildcard protos/swarm/api/v1/*.proto))

.PHONY: protos
protos:  ## generate swarm/api/v1 from protos/
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --grpc_python_out=. \
	  --mypy_out=. --mypy_grpc_out=. $(PROTOS)

SEEDS ?= 100
SEED_START ?= 0
SIMULATION = $(BIN)/python -m swarm.simulation $(if $(MUTANT),--mutant '$(MUTANT)') \
  $(if $(FAULTS),--faults '$(FAULTS)')

.PHONY: sim-venv
sim-venv:
	@"$$(./deploy/python)" deploy/environment.py --venv $(VENV)

.PHONY: sim
sim: sim-venv  ## simulate the whole cluster: SEEDS=N [SEED_START=S] [MUTANT=name] [FAULTS=a,b] [JOBS=n]
	@$(SIMULATION) --seeds '$(SEEDS)' --first '$(SEED_START)' $(if $(JOBS),--jobs '$(JOBS)')

.PHONY: sim-replay
sim-replay: sim-venv  ## the trace of one seed and its SHA-256: SEED=S [MUTANT=name] [FAULTS=a,b]
	@$(SIMULATION) --replay '$(SEED)'

.PHONY: torture
torture: venv  ## real managers killed, cut off, out of disk, as root: [MANAGERS=5] [MINUTES=10] [SEED=S] [FAULTS=a,b] [OUT=folder]
	@$(BIN)/python -m tests.torture --managers $(or $(MANAGERS),3) --minutes $(or $(MINUTES),10) \
	  $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(OUT),--out $(OUT))

.PHONY: bench
bench:  ## measure beside Docker Swarm and etcd, as root: ROUNDS=N [OUT=folder for JSON]
	$(BIN)/python -m benchmarks.replicas --rounds $(or $(ROUNDS),3) $(if $(OUT),--json $(OUT)/replicas.json)
	$(BIN)/python -m benchmarks.writes --etcd --swarm --rounds $(or $(ROUNDS),3) $(if $(OUT),--json $(OUT)/writes.json)
	$(BIN)/python -m benchmarks.failover --rounds $(or $(ROUNDS),3) --worker-rounds $(or $(ROUNDS),3) $(if $(OUT),--json $(OUT)/failover.json)
	$(BIN)/python -m benchmarks.failover --silent --rounds $(or $(ROUNDS),3) --worker-rounds $(or $(ROUNDS),3) $(if $(OUT),--json $(OUT)/silent.json)
	$(BIN)/python -m benchmarks.restart $(if $(OUT),--json $(OUT)/restart.json)
	$(BIN)/python -m benchmarks.snapshot --rounds $(or $(ROUNDS),3) $(if $(OUT),--json $(OUT)/snapshot.json)
