# Everything from a clone: Debian's python3.11, its venv module and make are all that is needed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FUZZ_STAMP := $(VENV)/.installed-fuzz
# Hospitals of a rehearsal share the cores: one thread each (4 processes x 2 threads were 23 times slower).
export OMP_NUM_THREADS := 1
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
# The tests start hundreds of processes: each would compile the project's modules anew (0.5 s).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo demo-ct test test-all fuzz check bench-rounds bench-masking bench-transport bench-memory bench-dp bench-utility bench-methods bench-models bench-verify verifier clean

setup: $(STAMP)

# torch comes first and by its exact version: a plain `torch` would pull several GB for GPUs.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "needs Debian's python3.11 and python3.11-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server,client,dicom,fhir,monai,onnx,parquet,pdf,sql,dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/wardround demo

demo-ct: setup
	$(BIN)/wardround demo --study ct

# tests/conftest.py has ordered the files: what takes long begins first.
TWO_WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

test: setup
	$(BIN)/python -m pytest -q -m "not slow" $(TWO_WORKERS)

# With coverage-guided fuzzing: ten minutes in all, so its tool comes first.
test-all: $(FUZZ_STAMP)
	$(BIN)/python -m pytest -q $(TWO_WORKERS)

$(FUZZ_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
	touch $(FUZZ_STAMP)

# A minute for every reader of what arrives; SECONDS=600 for longer.
SECONDS ?= 60
fuzz: $(FUZZ_STAMP)
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-rounds: setup
	$(BIN)/python -m tests.benchmarks.bench_rounds

bench-masking: setup
	$(BIN)/python -m tests.benchmarks.bench_masking

bench-transport: setup
	$(BIN)/python -m tests.benchmarks.bench_transport

bench-memory: setup
	$(BIN)/python -m tests.benchmarks.bench_memory

bench-dp: setup
	$(BIN)/python -m tests.benchmarks.bench_dp

bench-utility: setup
	$(BIN)/python -m tests.benchmarks.bench_utility

# FedAvg, FedProx, SCAFFOLD, FedAdam and FedYogi on hospitals that differ.
bench-methods: setup
	$(BIN)/python -m tests.benchmarks.bench_methods

# Every study in deploy/studies over its seeds, one real rehearsal of each; table and picture go to shared/docs.
bench-models: setup
	$(BIN)/python -m tests.benchmarks.bench_models --rehearse --write

bench-verify: setup
	$(BIN)/python -m tests.benchmarks.bench_verify

# One file for an auditor who installs nothing else: python3 -I dist/wardround-verify.pyz verify BUNDLE
verifier: setup
	$(BIN)/python deploy/verifier/build.py dist/wardround-verify.pyz

clean:
	rm -rf dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
