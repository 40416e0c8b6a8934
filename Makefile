# Everything that a developer runs; `make` alone lists it. Needs Python 3.11 to 3.13, git and make.

VENV := .venv
BENCH_VENV := .venv-bench
PYTHON :=
RUN := PYTHONPATH=dags $(VENV)/bin/python
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
SHELL_FILES := .ci/run requirements/install.sh $(wildcard stack/*.sh stack/*/*.sh infra-notes/*/*.sh) tests/e2e/run.sh
COMPOSE := docker compose --profile '*'
# Not in `make bench`: stack.py needs Docker and detectors.py packages of its own; the others are parts of a benchmark.
NO_BENCHMARKS := make_year stack detectors detectors_page measurements outsiders trials
BENCHMARKS := $(filter-out $(NO_BENCHMARKS:%=benchmarks/%.py),$(wildcard benchmarks/*.py))
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(BENCH_VENV)/.installed

# Python then compiles a module when it is first imported; to compile all packages at installation takes most of a minute.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help up down logs status health password reset-password rotate backup backup-daily restore upgrade destroy aws-up aws-deploy aws-down demo demo-psql test test-slow \
	test-faults test-e2e test-restarts seeded-faults check audit bench bench-detectors lock clean venv

help: ## Show this list
	@echo "Delaywatch: the abnormal days of every US airport. Begin with: make demo"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Build and start the stack, wait until it is healthy, put the demo year into its lake
	@stack/up.sh

down: ## Stop the stack; nothing is lost
	@$(COMPOSE) down

logs: ## Follow what the stack says, or one service: SERVICE=airflow-scheduler
	@$(COMPOSE) logs --follow --tail 200 $(SERVICE)

status: ## Health of every container, and the years in lake and warehouse
	@$(COMPOSE) ps --all --format 'table {{.Service}}\t{{.Status}}'
	@docker compose exec -T airflow-scheduler python -m utils status

health: ## Check bronze, last run, warehouse, disk, certificate and backup; a line each
	@docker compose exec -T health python -m utils health

password: ## Show the user, the password and Jupyter's token
	@docker compose run --rm --no-deps -T setup python -m stack password

reset-password: ## Give admin the password of `make password` again, in Airflow and Superset
	@docker compose run --rm --no-deps -T airflow-init python /opt/delaywatch/stack/airflow/admin.py --reset-password
	@docker compose run --rm --no-deps -T superset-init python /app/delaywatch/provision.py --reset-password

rotate: ## Give generated secrets new values: NAMES="fernet_key admin_password", or all; without it, list them
	@stack/rotate.sh $(NAMES)

backup: ## Secrets, databases and local lake as one file in backups/
	@stack/backup.sh

backup-daily: ## The backup that DELAYWATCH_BACKUP makes once a day, now: copied to another place, the newest 7 kept
	@stack/backup-daily.sh --now

restore: ## Make the stack of a backup again on a host that has none: FROM=backups/delaywatch-....tar
	@stack/restore.sh "$(FROM)"

upgrade: ## After git pull: backup, new images, migrations, start
	@stack/upgrade.sh

destroy: ## Remove the stack with all its data and secrets: CONFIRM=yes
	@[ "$(CONFIRM)" = yes ] || { echo "This deletes the lake, the databases and the secrets of the stack. If that is meant: make destroy CONFIRM=yes" >&2; exit 1; }
	@stack/backup-timer.sh off
	@$(COMPOSE) down --volumes

aws-up: ## Make or update the stack at AWS; asks first: infra-notes/README.md
	@infra-notes/cloudformation/deploy.sh up

aws-deploy: ## Ship the commit that is checked out to the host at AWS
	@infra-notes/cloudformation/deploy.sh deploy

aws-down: ## Take everything at AWS away but the bucket and a snapshot of the warehouse
	@infra-notes/cloudformation/deploy.sh down

demo: $(INSTALLED) ## One real year through the real DAG into .demo/; or your own: YEAR=2018 CSV=path/to/2018.csv
	@$(RUN) -m demo $(if $(YEAR),--year "$(YEAR)") $(if $(CSV),--csv "$(CSV)")

demo-psql: export SQL := $(SQL)
demo-psql: $(INSTALLED) ## Open the demo's database with psql, or ask it one thing: SQL="SELECT ..."
	@$(RUN) -m demo psql $${SQL:+-c "$$SQL"}

test: $(INSTALLED) ## All tests but the slow ones
	@$(RUN) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not e2e"

test-slow: $(INSTALLED) ## The tests that start a scheduler or take minutes
	@$(RUN) -m pytest -m "slow and not e2e and not faults and not security"

test-faults: $(INSTALLED) ## Stores, Airflow and host that fail under a run, hostile input: all of it, in minutes
	@$(RUN) -m pytest -m "faults or security"

test-e2e: $(INSTALLED) ## The stack in containers, used through TLS by a browser; needs Docker
	@tests/e2e/run.sh -m "e2e and not slow" $(RUN)

test-restarts: $(INSTALLED) ## The stack again, with containers restarted under a running DAG
	@tests/e2e/run.sh -m "e2e and slow" $(RUN)

seeded-faults: $(INSTALLED) ## Break the code in many ways and see that a test notices each, in most of an hour; some of them: ONLY=silver
	@$(RUN) tests/seeded_faults/run.py $(ONLY)

check: $(INSTALLED) ## Lint, format, types, import rules, words, shell, YAML, workflows, known dangers, notebooks
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@PYTHONPATH=dags $(VENV)/bin/lint-imports
	@git ls-files -z | xargs -0 $(VENV)/bin/codespell
	@$(VENV)/bin/shellcheck $(SHELL_FILES)
	@$(VENV)/bin/yamllint --strict .
	@$(VENV)/bin/bandit --quiet --recursive --skip B105,B404,B603 dags stack superset demo # names of secrets, and what ruff looks at
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(VENV)/bin/zizmor --offline --quiet --no-progress --persona=auditor .github
	@for notebook in notebooks/*.ipynb; do [ ! -e "$$notebook" ] || $(VENV)/bin/nbstripout --verify "$$notebook" || exit 1; done

audit: $(INSTALLED) ## Ask the network whether a locked package has a known vulnerability
	@for lock in requirements/*.txt superset/requirements.txt; do $(VENV)/bin/pip-audit --require-hashes --disable-pip --progress-spinner off -r "$$lock" || exit 1; done

bench: $(INSTALLED) ## Every benchmark but the stack's, side by side with what it is measured against
	@for file in $(BENCHMARKS); do echo "== $$file"; $(RUN) "$$file" || exit 1; done

bench-detectors: $(BENCH_INSTALLED) ## Quality of every detector beside PyOD and STL, in minutes; real years of your own: DATA=folder
	@PYTHONPATH=dags $(BENCH_VENV)/bin/python benchmarks/detectors.py $(if $(DATA),--data "$(DATA)")

lock: $(INSTALLED) ## Resolve requirements/*.in into the locks again
	@for name in airflow jupyter dev bench uv; do $(LOCK) --upgrade "requirements/$$name.in" -o "requirements/$$name.txt" || exit 1; done
	@$(LOCK) --upgrade --no-deps requirements/flights.in -o requirements/flights.txt
	@$(LOCK) --upgrade superset/requirements.in -o superset/requirements.txt
	@$(VENV)/bin/python infra-notes/mwaa/requirements.py > infra-notes/mwaa/requirements.txt

clean: ## Stop the demo's database and remove all that make has made
	@if [ -d .demo ] && [ -x $(VENV)/bin/python ]; then $(RUN) -m demo stop; fi
	@rm -rf .demo $(VENV) $(BENCH_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(INSTALLED)

$(BENCH_INSTALLED): requirements/bench.txt $(INSTALLED)
	@echo "Installing the detectors of others into $(BENCH_VENV); this happens once."
	@$(VENV)/bin/python -m venv --clear --without-pip $(BENCH_VENV)
	@UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$$PIP_INDEX_URL}}"; [ -z "$$UV_DEFAULT_INDEX" ] || export UV_DEFAULT_INDEX; \
		$(VENV)/bin/uv pip sync --quiet --compile-bytecode --python $(BENCH_VENV)/bin/python --require-hashes requirements/bench.txt
	@touch $@

$(INSTALLED): requirements/dev.txt requirements/uv.txt requirements/install.sh
	@requirements/install.sh $(VENV) $(PYTHON)
	@touch $@
