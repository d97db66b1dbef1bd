.DEFAULT_GOAL := help
PYTHON ?= python3

.PHONY: help
help: ## What can be made
	@sed -n 's/^\([a-z%-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: env env-demo
env: ## The environment for tests, in .cache/venv
	@$(PYTHON) tools/env
env-demo: ## The small environment for the demo, in .cache/venv-demo
	@$(PYTHON) tools/env demo
