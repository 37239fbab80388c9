# make run     build the engine in .venv and run the three-router example
# make test    everything that CI runs: lint, types, all tests, the engine's tests on checked builds
# make quick   under a minute: build, lint, types, and the tests that need neither root nor patience
# make soak    the tests that take minutes: as much of the same as it takes to be sure; needs root
# make bench   measure beside the Linux namespace chain; fails below the floors in bench/floors.toml
# make clean   remove all that the others made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet
SETUP := $(BIN)/python setup.py --quiet

ENGINE_SOURCES := $(shell find core -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd')
PYTHON_SOURCES := $(shell find core manystack -name '*.py')

# Tests share the CPUs; those that measure the machine have it to themselves. As root, each worker has devices, namespaces
# and networks of its own. The engine's output goes past pytest's files, so that what a sanitizer wrote last is seen after
# a crash, too. The others stay together by files, so that what a file builds for its tests is built once.
ON_ALL_CPUS = $(BIN)/pytest --numprocesses=auto
ENGINE_TESTS = $(ON_ALL_CPUS) --capture=sys -m engine
BY_FILES = $(ON_ALL_CPUS) --dist=loadfile --no-loadscope-reorder

# The sanitizers' run-time libraries must be in the process before Python, which was built without them. Leaks are
# counted by the packet pool itself; Python leaks by design.
SANITIZED_RUN = ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)"

.PHONY: run test quick soak bench clean build test-environment lint test-engine-debug test-engine-sanitized packages-build packages-test packages-bench
.DELETE_ON_ERROR:

run: build
	$(BIN)/emu-run examples/three-routers.yaml

test: packages-test
	$(MAKE) --no-print-directory lint
	$(ENGINE_TESTS)
	$(BY_FILES) -m "not engine and not alone"
	$(BIN)/pytest -m alone
	$(MAKE) --no-print-directory --jobs=2 build/debug/.built build/sanitized/.built
	$(MAKE) --no-print-directory test-engine-debug
	$(MAKE) --no-print-directory test-engine-sanitized

quick: lint
	$(BY_FILES) -m "not root and not slow and not alone"

soak: packages-test test-environment
	$(BIN)/pytest -m soak

bench: packages-bench
	@[ "$$(id -u)" = 0 ] || { echo "make bench makes network namespaces and needs root: sudo make bench" >&2; exit 1; }
	$(MAKE) --no-print-directory test-environment
	$(BIN)/pytest --benchmark-enable --benchmark-quiet --override-ini=pythonpath=. bench/bench_*.py

clean:
	rm -rf $(VENV) build dist bench/results manystack.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	rm -f core/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Building. A stamp in the virtual environment tells what it holds; nothing is done again while its sources stay the same.

build: $(VENV)/.engine

$(VENV)/.created: | packages-build
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("manystack needs Python 3.11 or later: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.project: pyproject.toml setup.py | $(VENV)/.created
	$(PIP) "setuptools>=77" "cython>=3.1"
	$(PIP) --no-build-isolation --editable .
	touch $@

$(VENV)/.engine: $(ENGINE_SOURCES) $(VENV)/.project
	$(SETUP) build_ext --inplace
	touch $@

# The test extra alone: installing the project a second time would compile it a second time.
$(VENV)/.test: pyproject.toml | $(VENV)/.created
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["test"], sep="\n")' > $@.txt
	$(PIP) --requirement $@.txt
	touch $@

test-environment: $(VENV)/.engine $(VENV)/.test

lint: test-environment
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Checked builds of the engine, each a package tree of its own that PYTHONPATH puts before the editable one. Both take
# the C that the plain build has generated, so they can be compiled side by side. The flags live in setup.py.

build/debug/.built: private CHECKS := MANYSTACK_DEBUG=1
build/sanitized/.built: private CHECKS := MANYSTACK_SANITIZE=address,undefined
build/debug/.built build/sanitized/.built: setup.py $(ENGINE_SOURCES) $(PYTHON_SOURCES) | $(VENV)/.engine
	$(if $(filter setup.py,$?),rm -rf $(@D) $(@D)-objects)
	$(CHECKS) $(SETUP) build --build-lib $(@D) --build-temp $(@D)-objects
	touch $@

test-engine-debug: build/debug/.built
	PYTHONPATH=build/debug $(ENGINE_TESTS) --engine=build/debug

test-engine-sanitized: build/sanitized/.built
	PYTHONPATH=build/sanitized $(SANITIZED_RUN) $(ENGINE_TESTS) --engine=build/sanitized

# Debian packages: looked for by what they bring, installed when one is missing and we are root.

packages-build:
	@.ci/packages build $(PYTHON)

packages-test: packages-build
	@.ci/packages test $(PYTHON)

packages-bench: packages-test
	@.ci/packages bench $(PYTHON)
