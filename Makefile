# Everything happens in .venv, which both commands make by themselves.
PYTHON ?= python3
# End-to-end tests run side by side in so many processes; 0: one after the other in this one. An engine takes 3 GB, and
# each run waits now and then: for a server, a pipe, the disk.
JOBS ?= 3
# The other tests run in so many: they start no engine, and wait now and then.
UNIT_JOBS ?= 3
# Compiled tests are kept, whatever the shell says: each process needs seconds to compile them.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
READY := .venv/.ready
QUIET := --quiet --disable-pip-version-check

.PHONY: demo test unit lint lock clean

demo: $(READY)
	$(BIN)/kit dryrun lmsys

test: lint unit
	$(BIN)/python -m pytest tests/end_to_end --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

unit: $(READY)
	$(BIN)/python -m pytest --ignore tests/end_to_end --in-memory --numprocesses $(UNIT_JOBS) --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Wheels of the lock only, each by its hash; of this project itself nothing is fetched: its build backend is among them.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "error: $(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install $(QUIET) --require-hashes --only-binary :all: --requirement requirements.lock
	$(BIN)/python -m pip install $(QUIET) --no-deps --no-build-isolation --no-index --editable .
	@touch $(READY)

# Takes what is newest within pyproject.toml; the index is the one that uv is told of by UV_DEFAULT_INDEX, or its own.
lock: $(READY)
	UV_NO_CONFIG=1 $(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --only-binary :all: --generate-hashes --upgrade --no-emit-index-url --no-annotate --no-header --quiet \
	  --output-file requirements.fresh
	@{ sed '/^[^#]/,$$d' requirements.lock; cat requirements.fresh; } > requirements.joined
	@mv requirements.joined requirements.lock && rm requirements.fresh && touch $(READY)

clean:
	rm -rf .venv build runs
