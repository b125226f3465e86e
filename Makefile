PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

PROTOS = $(sort $(wildcard protos/swarm/api/v1/*.proto))

.PHONY: protos
protos:  ## generate swarm/api/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --grpc_python_out=. \
	  --mypy_out=. --mypy_grpc_out=. $(PROTOS)
