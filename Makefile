# The commands of operators and developers; `make` lists them. Needs Python 3.11 to 3.13, git and make.

VENV := .venv
BENCH_VENV := .venv-bench
SPARK_VENV := .venv-spark
PYTHON :=
RUN := PYTHONPATH=dags $(VENV)/bin/python
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
SHELL_FILES := .ci/run requirements/install.sh $(wildcard stack/*.sh stack/*/*.sh infra-notes/*/*.sh) tests/e2e/run.sh
COMPOSE := docker compose --profile '*'
# Not in `make bench`: stack.py needs Docker, dashboards.py a running stack, spark.py its own packages; make_year.py is a
# part of the others.
NO_BENCHMARKS := make_year stack spark dashboards
BENCHMARKS := $(filter-out $(NO_BENCHMARKS:%=benchmarks/%.py),$(wildcard benchmarks/*.py))
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(BENCH_VENV)/.installed
SPARK_INSTALLED := $(SPARK_VENV)/.installed
JAVA := $${JAVA_HOME:+$$JAVA_HOME/bin/}java # as PySpark finds it

# $(call install,FOLDER,LOCK): make a virtual environment beside $(VENV) from requirements/LOCK.txt.
install = $(VENV)/bin/python -m venv --clear --without-pip $(1) && \
	export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$$PIP_INDEX_URL}}" && \
	{ [ -n "$$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX; } && \
	$(VENV)/bin/uv pip sync --quiet --compile-bytecode --python $(1)/bin/python --require-hashes requirements/$(2).txt

# Python then compiles a module when it is first imported; to compile all packages at installation takes most of a minute.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help up down logs status health password reset-password user rotate backup backup-daily restore upgrade destroy aws-up aws-deploy aws-down demo demo-psql test test-slow \
	test-faults test-spark test-e2e test-restarts seeded-faults check audit bench bench-detectors bench-spark spark-bundle lock clean venv

help: ## Show this list
	@echo "Delaywatch finds anomalous days of every US airport. Start with: make demo"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Build and start the stack, wait until it is healthy, upload the demo year
	@stack/up.sh

down: ## Stop the stack and keep its data
	@$(COMPOSE) down

logs: ## Follow the logs of the stack, or of one service: SERVICE=airflow-scheduler
	@$(COMPOSE) logs --follow --tail 200 $(SERVICE)

status: ## Show the state of every container, and the years in lake and warehouse
	@$(COMPOSE) ps --all --format 'table {{.Service}}\t{{.Status}}'
	@docker compose exec -T airflow-scheduler python -m utils status

health: ## Check bronze, last run, warehouse, disk, certificate and backup
	@docker compose exec -T health python -m utils health

password: ## Show the user, the password and Jupyter's token
	@docker compose run --rm --no-deps -T setup python -m stack password

reset-password: ## Reset admin's password in Airflow and Superset to the one of `make password`
	@docker compose run --rm --no-deps -T airflow-init python /opt/delaywatch/stack/airflow/admin.py --reset-password
	@docker compose run --rm --no-deps -T superset-init python /app/delaywatch/provision.py --reset-password

user: ## Create an account, or change its role: NAME=ann ROLE=analyst or admin; ROLE=none disables it
	@stack/user.sh "$(NAME)" "$(ROLE)"

rotate: ## Replace generated secrets: NAMES="fernet_key admin_password", or all; without NAMES, list them
	@stack/rotate.sh $(NAMES)

backup: ## Write secrets, databases and local lake to one file in backups/
	@stack/backup.sh

backup-daily: ## Run the daily backup now: copy it to DELAYWATCH_BACKUP and keep the newest 7
	@stack/backup-daily.sh --now

restore: ## Restore a backup on a host without a stack: FROM=backups/delaywatch-....tar
	@stack/restore.sh "$(FROM)"

upgrade: ## After git pull: back up, build new images, migrate, start
	@stack/upgrade.sh

destroy: ## Remove the stack with all its data and secrets: CONFIRM=yes
	@[ "$(CONFIRM)" = yes ] || { echo "This deletes the lake, the databases and the secrets of the stack. To confirm, run: make destroy CONFIRM=yes" >&2; exit 1; }
	@stack/backup-timer.sh off
	@$(COMPOSE) down --volumes

aws-up: ## Create or update the stack on AWS, after a question; see infra-notes/README.md
	@infra-notes/cloudformation/deploy.sh up

aws-deploy: ## Deploy the checked-out commit to the host on AWS
	@infra-notes/cloudformation/deploy.sh deploy

aws-down: ## Delete everything on AWS except the bucket and a snapshot of the warehouse
	@infra-notes/cloudformation/deploy.sh down

demo: $(INSTALLED) ## Run the DAG on one real year into .demo/, or on your own file: YEAR=2018 CSV=path/to/2018.csv
	@$(RUN) -m demo $(if $(YEAR),--year "$(YEAR)") $(if $(CSV),--csv "$(CSV)")

demo-psql: export SQL := $(SQL)
demo-psql: $(INSTALLED) ## Open the demo's database with psql, or run one query: SQL="SELECT ..."
	@$(RUN) -m demo psql $${SQL:+-c "$$SQL"}

test: $(INSTALLED) ## Run all tests except the slow ones
	@$(RUN) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not e2e"

test-slow: $(INSTALLED) ## Run the tests that start a scheduler or take minutes
	@$(RUN) -m pytest -m "slow and not e2e and not faults and not security"

test-faults: $(INSTALLED) ## Run the tests of failing stores, Airflow and hosts, and of hostile input; takes minutes
	@$(RUN) -m pytest -m "faults or security"

test-spark: ## Test the Spark engine, in its own virtual environment; skipped without Java 17 or 21
	@if $(JAVA) -version 2>&1 | grep -qE 'version "(17|21)[."]'; then $(MAKE) --no-print-directory $(SPARK_INSTALLED) && \
		PYTHONPATH=dags $(SPARK_VENV)/bin/python -m pytest tests/spark; \
	else echo "Skipped the tests of the Spark engine: there is no Java 17 or 21. Install it (Debian: apt install openjdk-17-jre-headless) or set JAVA_HOME."; fi

test-e2e: $(INSTALLED) ## Test the stack in containers with a browser; needs Docker
	@tests/e2e/run.sh -m "e2e and not slow" $(RUN)

test-restarts: $(INSTALLED) ## Test the stack while containers restart during a run; needs Docker
	@tests/e2e/run.sh -m "e2e and slow" $(RUN)

seeded-faults: $(INSTALLED) ## Check that the tests notice seeded faults; takes an hour; some of them: ONLY=silver
	@$(RUN) tests/seeded_faults/run.py $(ONLY)

check: $(INSTALLED) ## Lint, format, types, import rules, words, shell, YAML, workflows, CloudFormation, known dangers, notebooks
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@PYTHONPATH=dags $(VENV)/bin/lint-imports
	@git ls-files -z | xargs -0 $(VENV)/bin/codespell
	@$(VENV)/bin/shellcheck $(SHELL_FILES)
	@$(VENV)/bin/yamllint --strict .
	@$(VENV)/bin/bandit --quiet --recursive --skip B105,B301,B403,B404,B603 dags stack superset demo # names of secrets, and what ruff looks at
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(VENV)/bin/cfn-lint --include-checks I -- infra-notes/cloudformation/*.yaml
	@$(VENV)/bin/zizmor --offline --quiet --no-progress --persona=auditor .github
	@for notebook in notebooks/*.ipynb; do [ ! -e "$$notebook" ] || $(VENV)/bin/nbstripout --verify "$$notebook" || exit 1; done

audit: $(INSTALLED) ## Look up known vulnerabilities of the locked packages; needs the network
	@for lock in requirements/*.txt superset/requirements.txt; do $(VENV)/bin/pip-audit --require-hashes --disable-pip --progress-spinner off -r "$$lock" || exit 1; done

bench: $(INSTALLED) ## Run the benchmarks that need no stack, each next to its reference
	@for file in $(BENCHMARKS); do echo "== $$file"; $(RUN) "$$file" || exit 1; done

bench-detectors: $(BENCH_INSTALLED) ## Compare the detectors with those of other packages; takes minutes; on your own years: DATA=folder
	@PYTHONPATH=dags $(BENCH_VENV)/bin/python -m benchmarks.detection $(if $(DATA),--data "$(DATA)")

spark-bundle: $(INSTALLED) ## Build script, code and wheels of the Spark engine for AWS Glue into build/spark/
	@$(RUN) infra-notes/spark/bundle.py

bench-spark: $(SPARK_INSTALLED) ## Compare the Spark engine on this machine with threads; needs Java 17 or 21; takes minutes
	@PYTHONPATH=dags $(SPARK_VENV)/bin/python benchmarks/spark.py

lock: $(INSTALLED) ## Update the locked versions from requirements/*.in
	@for name in airflow jupyter dev bench spark spark-test uv; do $(LOCK) --upgrade "requirements/$$name.in" -o "requirements/$$name.txt" || exit 1; done
	@$(LOCK) --upgrade --no-deps requirements/flights.in -o requirements/flights.txt
	@$(LOCK) --upgrade superset/requirements.in -o superset/requirements.txt
	@$(VENV)/bin/python infra-notes/mwaa/requirements.py > infra-notes/mwaa/requirements.txt

clean: ## Stop the demo's database and delete everything that make has created
	@if [ -d .demo ] && [ -x $(VENV)/bin/python ]; then $(RUN) -m demo stop; fi
	@rm -rf .demo build benchmarks/.cache $(VENV) $(BENCH_VENV) $(SPARK_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(INSTALLED)

$(BENCH_INSTALLED): requirements/bench.txt $(INSTALLED)
	@echo "Installing the other detectors of the comparison into $(BENCH_VENV); this happens once."
	@$(call install,$(BENCH_VENV),bench)
	@touch $@

$(SPARK_INSTALLED): requirements/spark-test.txt $(INSTALLED)
	@echo "Installing PySpark and the tests of the Spark engine into $(SPARK_VENV); this happens once."
	@$(call install,$(SPARK_VENV),spark-test)
	@touch $@

$(INSTALLED): requirements/dev.txt requirements/uv.txt requirements/install.sh
	@requirements/install.sh $(VENV) $(PYTHON)
	@touch $@
