#!/usr/bin/env bash
# Healthy means: each program can log in to its database over TCP with the password that it was given.
set -euo pipefail

for login in airflow/airflow superset/superset warehouse/delaywatch; do
    database=${login%/*} user=${login#*/}
    said=$(PGPASSWORD=$(cat "/run/delaywatch/${database}_password") PGCONNECT_TIMEOUT=3 \
        psql --quiet --no-psqlrc --host="$(hostname -i)" --username="$user" --dbname="$database" --command='SELECT 1' 2>&1) && continue
    case $said in
    *"password authentication failed"* | *"does not exist"*)
        said="Postgres does not know $user with this password, or not the database $database: its data and the secrets are not of one \
installation, or its first start was interrupted. Restore both from one backup (make restore), or give the data up (make destroy)."
        ;;
    esac
    echo "${said##*$'\n'}" >&2
    exit 1
done
