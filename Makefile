# Every routine task by name; `make help` lists them.
CARGO ?= cargo
PYTHON ?= python3

.PHONY: header
header: ## write ztensor.h from src/ffi
	ZTENSOR_WRITE_HEADER=1 $(CARGO) test --quiet --test header
