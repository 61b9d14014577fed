# Each target does the set-up that it needs and says what it is doing.
SHELL := bash
BIN := .venv/bin
CONFIG ?=
DATA ?= data
# Modules of bench/, in its folders by what is measured.
BENCHES := ui starting.command_line starting.start_up starting.full_collection serving.lora_cpu serving.hot_path gateway \
	serving.gateway_vllm publish store training.plan training.turns dpo dpo_gpu deciding.canary_errors deciding.interval_coverage

# What needs no engine, no browser, no torch and little time: the values, rules and contracts of each package.
QUICK := tests/common tests/store/accounts tests/store/feedback/test_feedback.py tests/store/feedback/test_decided.py \
	tests/store/feedback/test_imported_rows.py tests/store/test_chat_messages.py tests/store/test_ids.py \
	tests/serve/metering tests/serve/test_auth.py tests/serve/test_router.py tests/serve/gateway/test_requests.py \
	tests/align/recipe/test_recipe.py tests/align/recipe/test_auto.py tests/align/evaluation/test_rules.py \
	tests/feedback_ui/test_render.py tests/trimtab/config tests/trimtab/runs

.PHONY: help setup up check test lint coverage bench docs clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: ## Make .venv from the pinned requirements
	@scripts/setup.sh

up: setup ## Prepare the default model and start everything at http://127.0.0.1:7860
	@$(BIN)/trimtab models prepare --data $(DATA) $(if $(CONFIG),--config $(CONFIG))
	@exec $(BIN)/trimtab up --data $(DATA) $(if $(CONFIG),--config $(CONFIG))

lint: setup ## Ruff, the type checker and the import directions
	@echo "==> ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "==> mypy"; $(BIN)/mypy
	@echo "==> import directions"; $(BIN)/lint-imports

check: lint ## Lint and the quick tests (aim: under 90 s on 2 quiet cores)
	@echo "==> quick tests, in two processes"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder \
		-m "not engine and not browser and not slow" $(QUICK)

test: ## Lint, then every test: unit, integration, browser, end to end (about 25 minutes on 2 cores)
	@scripts/setup.sh --test
	@$(MAKE) --no-print-directory lint
	@echo "==> tests of the parts, in two processes; those that share an engine begin, since they take longest"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations=25 \
		tests/serve tests/align tests/feedback_ui tests/trimtab tests/trimtab_client tests/store tests/common
	@echo "==> tests of the whole, end to end"
	@$(BIN)/python -m pytest --durations=10 tests/e2e

coverage: setup ## Line coverage of the quick tests, without those that start an engine or a browser
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder -q \
		-m "not engine and not browser and not slow" --cov --cov-report=term --ignore=tests/e2e tests

bench: setup ## Every benchmark in its quick form; each ends with a line of JSON
	@$(BIN)/trimtab models prepare --data $(DATA)
	@for name in $(BENCHES); do echo "==> bench.$$name --quick"; PYTHONPATH=bench $(BIN)/python -m bench.$$name --quick || exit 1; done

docs: setup ## Write the generated parts of docs/
	@$(BIN)/python scripts/write_docs.py

clean: ## Remove .venv and caches (never data)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
