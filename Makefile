# Everything that a developer runs; `make` alone lists it. Needs Python 3.11 to 3.13, git and make.

VENV := .venv
PYTHON :=
RUN := PYTHONPATH=dags $(VENV)/bin/python
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
SHELL_FILES := .ci/run requirements/install.sh
BENCHMARKS := $(filter-out benchmarks/make_year.py benchmarks/__init__.py,$(wildcard benchmarks/*.py))
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo demo-psql test test-slow check bench lock clean venv

help: ## Show this list
	@echo "Delaywatch: the abnormal days of every US airport. Begin with: make demo"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## One real year through the real DAG into .demo/; or your own: YEAR=2018 CSV=path/to/2018.csv
	@$(RUN) -m demo $(if $(YEAR),--year "$(YEAR)") $(if $(CSV),--csv "$(CSV)")

demo-psql: export SQL := $(SQL)
demo-psql: $(INSTALLED) ## Open the demo's database with psql, or ask it one thing: SQL="SELECT ..."
	@$(RUN) -m demo psql $${SQL:+-c "$$SQL"}

test: $(INSTALLED) ## All tests but the slow ones
	@$(RUN) -m pytest -m "not slow"

test-slow: $(INSTALLED) ## The tests that start a scheduler or take minutes
	@$(RUN) -m pytest -m slow

check: $(INSTALLED) ## Lint, format, types, import rules, shell, YAML, notebooks
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@PYTHONPATH=dags $(VENV)/bin/lint-imports
	@$(VENV)/bin/shellcheck $(SHELL_FILES)
	@$(VENV)/bin/yamllint --strict .
	@for notebook in notebooks/*.ipynb; do [ ! -e "$$notebook" ] || $(VENV)/bin/nbstripout --verify "$$notebook" || exit 1; done

bench: $(INSTALLED) ## Every benchmark, side by side with what it is measured against
	@for file in $(BENCHMARKS); do echo "== $$file"; $(RUN) "$$file" || exit 1; done

lock: $(INSTALLED) ## Resolve requirements/*.in into the locks anew
	@for name in airflow dev uv; do $(LOCK) --upgrade "requirements/$$name.in" -o "requirements/$$name.txt" || exit 1; done

clean: ## Stop the demo's database and remove all that make has made
	@if [ -d .demo ] && [ -x $(VENV)/bin/python ]; then $(RUN) -m demo stop; fi
	@rm -rf .demo $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(INSTALLED)

$(INSTALLED): requirements/dev.txt requirements/uv.txt requirements/install.sh
	@requirements/install.sh $(VENV) $(PYTHON)
	@touch $@
