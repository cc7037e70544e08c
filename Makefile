# make demo | make test | make test-all | make lint | make setup; each sets up what is missing by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
WORKERS ?= 2

# Real data and pretrained networks for tests and benchmarks, where they exist beside the checkout.
ifneq ($(wildcard ../shared/data),)
export NETADAPT_DATA ?= $(abspath ../shared/data)
endif
# One thread per test process: the tests run in WORKERS processes side by side.
TEST_ENV := OMP_NUM_THREADS=1

.PHONY: setup system demo test test-all lint format bench-next bench-summary coverage clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt | system
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The report is tested in a real browser, ssh with a real server, ncnn on a Vulkan device: from the system's packages,
# where we may install them.
system:
	@if command -v chromium >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	  echo "setup: installing chromium with apt-get (for the tests of the report)"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else echo "setup: chromium is missing; the browser tests of the report will be skipped (install it with your package manager)"; fi
	@if ls /usr/share/vulkan/icd.d/*.json >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	  echo "setup: installing mesa-vulkan-drivers with apt-get (ncnn is tested on a Vulkan device in software)"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mesa-vulkan-drivers >/dev/null; \
	else echo "setup: there is no Vulkan driver; ncnn's Vulkan tests will be skipped (install mesa-vulkan-drivers)"; fi
	@if [ -x /usr/sbin/sshd ] && command -v ssh >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	  echo "setup: installing openssh-server with apt-get (devices behind ssh are tested on loopback)"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openssh-server openssh-client >/dev/null; \
	else echo "setup: there is no ssh server; the tests of ssh devices will be skipped (install openssh-server)"; fi

demo: $(STAMP)
	$(BIN)/netadapt run examples/digits.toml --out runs/demo

test: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS)

# The most valuable cell of the benchmark that has no result yet: at most 40 minutes, the same command goes on.
bench-next: $(STAMP)
	$(BIN)/python benchmarks/bench_next.py
	$(BIN)/python benchmarks/summary.py

# benchmarks/results/summary.json, docs/results.md and its plots, from the results of the cells.
bench-summary: $(STAMP)
	$(BIN)/python benchmarks/summary.py

# What netadapt and Torch-Pruning make of 319 architectures; some hours on one core, the same command goes on.
coverage: $(STAMP)
	$(TEST_ENV) $(BIN)/python benchmarks/graph_coverage.py
	$(BIN)/python benchmarks/coverage_page.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
