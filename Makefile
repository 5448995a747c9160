# kubectl-vmredir. `make help` lists what can be made.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CODE   := kubectl_vmredir tests benchmarks release

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint unit screenshots fuzz fuzz-agent faults plane bench bench-idle bench-agent bench-screen dist edge guest packages upgrade clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready ## The program on the embedded lab (BACKEND=sim|qemu, CHAOS=1); without a terminal a story (MIGRATIONS=n)
	@$(BIN)/kubectl-vmredir demo $(if $(HEADLESS),--headless) $(if $(CHAOS),--chaos) --backend $(or $(BACKEND),auto) --migrations $(or $(MIGRATIONS),3)

test: $(VENV)/ready ## All tiers of tests; installs the system packages they need where it may
	@$(BIN)/python -m tests.tiers

check: lint unit ## What needs nothing: format, lint, types, architecture, tests of the first tier

lint: $(VENV)/ready
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: $(VENV)/ready
	$(BIN)/python -m tests.tiers --only plain

format: $(VENV)/ready ## Format the code and put the imports in order
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

screenshots: $(VENV)/ready ## Draw screenshots/*.svg anew (RECORD=1: after playing their scenario on the lab anew)
	$(if $(RECORD),$(BIN)/python -m tests.support.recording)
	UPDATE_PICTURES=1 $(BIN)/python -m pytest -q tests/unit/tui/test_screenshots.py

fuzz: $(VENV)/ready ## A million packets of a hostile VM against a usb-host (PACKETS=n, SEED=n)
	VMREDIR_FUZZ_PACKETS=$(or $(PACKETS),1000000) VMREDIR_FUZZ_SEED=$(or $(SEED),1) $(BIN)/python -m tests.tiers --only native -- -s -k hostile_vm

fuzz-agent: $(VENV)/ready ## A million messages of a hostile client to an agent with a redirection (MESSAGES=n, SEED=n)
	VMREDIR_FUZZ_MESSAGES=$(or $(MESSAGES),1000000) VMREDIR_FUZZ_SEED=$(or $(SEED),1) $(BIN)/python -m pytest -q -s tests/integration/agent/test_fuzz.py

faults: $(VENV)/ready ## A fault a second for 64 redirections in one agent (SECONDS=n, SEED=n)
	VMREDIR_FAULTS_SECONDS=$(or $(SECONDS),300) VMREDIR_FAULTS_SEED=$(or $(SEED),1) VMREDIR_FAULTS_VMS=16 $(BIN)/python -m pytest -q -s tests/integration/faults/test_faults.py

plane: $(VENV)/ready guest ## Outages of every server of a real control plane, for eight redirections (root; six minutes; SHORT=1)
	$(BIN)/python -m tests.support.plane $(if $(SHORT),--short)

bench: $(VENV)/ready ## Benchmarks, as ratios against a peer in the same run
	$(BIN)/python -m benchmarks

bench-rescue: $(VENV)/ready ## How soon a device is back after a crash, in the workstation VM (two minutes)
	$(BIN)/python -m benchmarks.rescue

bench-idle: $(VENV)/ready ## CPU time of four idle redirections in the workstation VM (three minutes)
	$(BIN)/python -m benchmarks.idle

dist: $(VENV)/ready ## What users install, in dist/: archive and manifest for krew, wheel, source (needs libusbredirhost1)
	$(BIN)/python -m release

edge: $(VENV)/ready ## Compile the program beside QEMU, for both architectures
	$(BIN)/python -m kubectl_vmredir.kubevirt.edge.build

bench-screen: $(VENV)/ready ## How quick the program is: first paint, keys with 10,000 VMs, commands
	$(BIN)/python -m benchmarks.screen

bench-agent: $(VENV)/ready ## Packet delay while 10,000 VMs are listed through the agent; 1, 8 and 64 redirections (two minutes)
	$(BIN)/python -m benchmarks.agent

guest: $(VENV)/ready ## Fetch kernel and busybox from Debian's packages and build the lab's guest
	$(BIN)/python -m kubectl_vmredir.lab.guests.image

packages: $(VENV)/ready ## Install the system packages that the demo and the tests can use (root or sudo)
	$(BIN)/python -m tests.tiers --install

upgrade: ## Renew constraints.txt to the newest versions
	$(PYTHON) -m venv build/upgrade
	VMREDIR_WITHOUT_EDGE=1 build/upgrade/bin/pip install --quiet --upgrade --editable '.[dev,dist]'
	{ sed -n '/^#/p' constraints.txt; build/upgrade/bin/pip freeze --exclude-editable --exclude pip --exclude setuptools; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## Remove what was built
	rm -rf $(VENV) build dist .cache .mypy_cache .pytest_cache .ruff_cache

# The environment is made again when a dependency changes.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "python3-venv is missing; installing it" >&2; \
		if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -qy python3-venv; \
		else sudo -n sh -c 'apt-get update -q && apt-get install -qy python3-venv'; fi; } >&2 || { \
		echo "error: python3-venv is missing; install it with: sudo apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@VMREDIR_WITHOUT_EDGE=1 $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,dist]'
	@touch $@
