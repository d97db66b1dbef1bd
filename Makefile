.DEFAULT_GOAL := help
PYTHON ?= python3

.PHONY: help
help: ## What can be made
	@sed -n 's/^\([a-z%-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: env
env: ## The environment for tests, in .cache/venv
	@$(PYTHON) tools/env.py

.PHONY: env-demo
env-demo: ## The small environment for the demo, in .cache/venv-demo
	@$(PYTHON) tools/env.py demo

.PHONY: demo
demo: ## A whole gateway on this machine
	@$(PYTHON) tools/demo up

.PHONY: demo-down
demo-down: ## Stop the demo and remove what it made
	@$(PYTHON) tools/demo down

.PHONY: test
test: ## Everything below, on every Python this machine has
	@$(PYTHON) -m tools.check

.PHONY: lint
lint: ## ruff, yamllint, ansible-lint, changelog fragments
.PHONY: types
types: ## mypy
.PHONY: unit
unit: ## Unit tests
.PHONY: sanity
sanity: ## ansible-test sanity
.PHONY: molecule
molecule: ## Every Molecule scenario, on real systemd hosts
.PHONY: contract
contract: ## What the parts promise each other
.PHONY: integration
integration: ## Against real Envoy and OpenBao processes
lint types unit sanity molecule contract integration:
	@$(PYTHON) -m tools.check $@

.PHONY: build
build: env ## The tarball that ansible-galaxy installs
	@.cache/venv/bin/ansible-galaxy collection build --force

.PHONY: docs
docs: env ## Generate the documentation again
	@.cache/venv/bin/python tools/docs

.PHONY: guide
guide: env ## Run the user's guide here; write its outputs and pictures again
	@.cache/venv/bin/python tools/guide

bench-%: env ## tests/benchmarks/NAME.py
	@.cache/venv/bin/python tests/benchmarks/$*.py

.PHONY: clean
clean: ## Remove everything that was made here
	@rm -rf .cache tests/output ./*.tar.gz
