#!/usr/bin/env bash
# Upgrade after `git pull`: create a backup, build images on current bases, start and migrate the databases. Airflow
# retries a task that was running.
set -euo pipefail
cd -P "$(dirname "$0")/.."

# The backup runs setup with this release's docker-compose.yaml, so it needs this release's image.
docker compose build --quiet setup
stack/backup.sh
if ! { docker compose pull --quiet --ignore-buildable && docker compose --profile notebooks build --pull --quiet; }; then
    echo "The base images could not be pulled; building on the images of this host." >&2
    docker compose --profile notebooks build --quiet
fi
docker compose stop airflow-scheduler airflow-dag-processor airflow-apiserver superset
stack/up.sh
if [ -n "$(docker compose --profile notebooks ps --quiet --status running jupyter)" ]; then
    docker compose --profile notebooks up --detach --wait jupyter
fi
