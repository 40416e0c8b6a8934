#!/usr/bin/env bash
# Healthy means: each program can log in to its database over TCP with the password that it was given.
set -euo pipefail

for login in airflow/airflow superset/superset warehouse/delaywatch; do
    database=${login%/*} user=${login#*/}
    PGPASSWORD=$(cat "/run/delaywatch/${database}_password") PGCONNECT_TIMEOUT=3 \
        psql --quiet --no-psqlrc --host="$(hostname -i)" --username="$user" --dbname="$database" --command='SELECT 1' >/dev/null || {
        echo "Postgres refuses $user to the database $database: its data and the secrets are not of one installation." \
            "Restore both from one backup (make restore), or give the data up (make destroy)." >&2
        exit 1
    }
done
