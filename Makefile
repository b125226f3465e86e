PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

PROTOS = $(sort $(wildcard protos/swarm/api/v1/*.proto))

.PHONY: protos
protos:  ## generate swarm/api/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --grpc_python_out=. \
	  --mypy_out=. --mypy_grpc_out=. $(PROTOS)

SEEDS ?= 100
SEED_START ?= 0
SIM_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: sim
sim:  ## simulate the whole cluster: SEEDS=N [SEED_START=S] [MUTANT=name] [FAULTS=a,b]
	@$(SIM_PYTHON) -m swarm.simulation --seeds $(SEEDS) --first $(SEED_START) \
	  $(if $(MUTANT),--mutant $(MUTANT)) $(if $(FAULTS),--faults $(FAULTS))

.PHONY: sim-replay
sim-replay:  ## the trace of one seed and its SHA-256: SEED=S [MUTANT=name]
	@$(SIM_PYTHON) -m swarm.simulation --replay $(SEED) $(if $(MUTANT),--mutant $(MUTANT))
