# `make run` and `make test` are all that a newcomer needs; `make help` lists the rest.
#
# Each step of the set-up leaves a stamp in .venv/. A step runs again when a file it depends on is newer than its stamp,
# so that a second `make run` goes straight to the server.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# $(call quietly,label): what follows runs with its output in a log and a line of progress instead.
quietly = $(BIN)/python -m tools.progress "$(1)" $(VENV)/logs/$(@F:.stamp-%=%).log

# Generated C files stand beside their .pyx and must not count as sources; the kernels are written by hand.
EXT_SOURCES := $(wildcard ext/janflask_ext/*.pyx ext/janflask_ext/*.pxd ext/janflask_ext/*.h ext/janflask_ext/*_kernels.c)

# What the page is tested with; without Node its tests are skipped.
UI_TOOLS := $(if $(shell command -v npm),ui/node_modules/.stamp)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One recipe at a time, but for those of `setup-steps`, which were looked at for that.
ifneq ($(MAKECMDGOALS),setup-steps)
.NOTPARALLEL:
endif
.PHONY: help run setup setup-steps test agents ui bench bench-peer soak lint format docs lock clean distclean model templates window-model

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- running ---------------------------------------------------------------------------------------------------------

run: setup model ## set everything up and serve on JANFLASK_HOST:JANFLASK_PORT (127.0.0.1:1337)
	@exec $(BIN)/janflask serve

setup: $(VENV)/.stamp-venv ## all that running needs, without running
	@$(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j2) setup-steps
	@$(BIN)/python -m compileall -q janflask wsgi.py # else each process of the first server does it

# llama.cpp is compiled while the dependencies come and the extension is built.
setup-steps: $(VENV)/.stamp-ext $(VENV)/.stamp-llama
	@:

model: $(VENV)/.stamp-venv ## install the small starter model into data/
	@$(BIN)/python -m tools.starter_model

# --- working on it ---------------------------------------------------------------------------------------------------

templates: $(VENV)/.stamp-venv ## fetch the chat templates and vocabularies of real models that tests use
	@$(BIN)/python -m tools.llama_templates

window-model: $(VENV)/.stamp-venv ## fetch the small model with a sliding window that tests and benchmarks use
	@$(BIN)/python -m tools.window_model

# What leaves processors free runs in several lanes; behind it, one by one, what has engines that take all of them.
LIGHT := tests/unit tests/integration
LANES := -n logical --maxprocesses 4 --dist worksteal

test: setup model templates window-model $(VENV)/.stamp-test $(UI_TOOLS) ## the whole test suite, real models included (ARGS="-k name" picks)
ifdef ARGS
	@exec $(BIN)/python -m pytest $(ARGS)
else
	@status=0; \
	$(BIN)/python -m pytest $(LANES) $(LIGHT) || status=1; \
	$(BIN)/python -m pytest $(LIGHT:%=--ignore=%) || status=1; \
	exit $$status
endif

agents: setup $(VENV)/.stamp-test ## drive models that call tools by the SDKs and clients of agents (1 GB is fetched once)
	@$(BIN)/python -m tools.tool_model
	@$(BIN)/python -m tools.agent_sdks
	@exec $(BIN)/python -m pytest -m agents tests/e2e $(ARGS)

ui: ui/node_modules/.stamp $(VENV)/.stamp-runtime ## build the page from ui/ into janflask/page (Node 20.19 or newer)
	@$(BIN)/python -m tools.page_parameters
	@cd ui && npm run --silent check && npm run --silent build

ui/node_modules/.stamp: ui/package-lock.json ui/.npmrc
	@cd ui && npm ci --silent && touch node_modules/.stamp

bench: setup model window-model $(VENV)/.stamp-test ## the benchmarks, as tables and JSON (ARGS passes options)
	@exec $(BIN)/python -m benchmarks $(ARGS)

soak: setup model $(VENV)/.stamp-test ## an hour of mixed load: what fails, grows or is left (ARGS="--minutes 5")
	@exec $(BIN)/python -m benchmarks.soak $(ARGS)

bench-peer: $(VENV)/.stamp-venv ## compile llama-server of the same sources, for `make bench` to compare with
	@$(BIN)/python -m tools.build_peer

lint: setup $(VENV)/.stamp-test $(VENV)/.stamp-dev ## style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint ext
	$(BIN)/mypy

format: $(VENV)/.stamp-dev ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.stamp-venv ## write the pages and docstrings that are made from the sources
	@$(BIN)/python -m tools.settings_doc
	@$(BIN)/python -m tools.rooms_doc

lock: $(VENV)/.stamp-venv ## resolve pyproject.toml into requirements/*.txt anew
	@$(BIN)/python -m tools.lock

clean: ## remove what was built here (not .venv, not data)
	rm -rf build dist *.egg-info __pycache__ .pytest_cache .mypy_cache .ruff_cache benchmarks/results
	rm -f $(VENV)/.stamp-ext ext/janflask_ext/*.so
	for source in ext/janflask_ext/*.pyx; do rm -f "$${source%.pyx}.c"; done
	find janflask ext tests tools benchmarks conf -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv and the page's packages too (data stays)
	rm -rf $(VENV) ui/node_modules

# --- the steps of the set-up -----------------------------------------------------------------------------------------

$(VENV)/.stamp-venv: requirements/build.txt
	@$(PYTHON) tools/preflight.py
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(call quietly,setting up pip) $(PIP) install $$(grep '^pip==' requirements/build.txt)
	@touch $@

$(VENV)/.stamp-runtime: requirements/runtime.txt requirements/build.txt | $(VENV)/.stamp-venv
	@$(call quietly,installing the dependencies) $(PIP) install -r requirements/runtime.txt \
		$$(grep -E '^(setuptools|wheel|cython|packaging)==' requirements/build.txt)
	@touch $@

$(VENV)/.stamp-test: requirements/test.txt | $(VENV)/.stamp-runtime
	@$(call quietly,installing the test tools) $(PIP) install -r requirements/test.txt -c requirements/runtime.txt
	@touch $@

$(VENV)/.stamp-dev: requirements/dev.txt | $(VENV)/.stamp-runtime
	@$(call quietly,installing the linters) $(PIP) install -r requirements/dev.txt \
		-c requirements/runtime.txt -c requirements/test.txt
	@touch $@

LLAMA_SOURCES := tools/build_llama.py tools/compiler.py pyproject.toml requirements/build.txt

$(VENV)/.stamp-wheel: $(LLAMA_SOURCES) | $(VENV)/.stamp-venv
	@$(BIN)/python -m tools.build_llama --compile
	@touch $@

# After all else that installs: two pips must not do so at once.
$(VENV)/.stamp-llama: $(LLAMA_SOURCES) | $(VENV)/.stamp-wheel $(VENV)/.stamp-ext
	@$(BIN)/python -m tools.build_llama
	@touch $@

# The editable install builds the extension too; after that a changed source only needs the compiler.
$(VENV)/.stamp-ext: pyproject.toml setup.py $(EXT_SOURCES) | $(VENV)/.stamp-runtime
	@$(call quietly,building the extension) $(if $(filter pyproject.toml setup.py,$?), \
		$(PIP) install --no-deps --no-build-isolation --editable ., \
		$(BIN)/python setup.py build_ext --inplace)
	@touch $@
