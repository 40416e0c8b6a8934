#!/usr/bin/env bash
# After `git pull`: a backup, new images on fresh bases, and a start that migrates the databases. A task
# that was running is tried again by Airflow.
set -euo pipefail
cd "$(dirname "$0")/.."

stack/backup.sh
docker compose build --pull --quiet || {
    echo "The base images could not be refreshed; building on those that this host has." >&2
    docker compose build --quiet
}
docker compose rm --stop --force nginx # git replaces nginx.conf by a new file, and the old one would stay mounted
docker compose stop airflow-scheduler airflow-dag-processor airflow-apiserver superset
stack/up.sh
