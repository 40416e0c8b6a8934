#!/usr/bin/env bash
# Prepare Airflow's start: lake and warehouse, Airflow's own tables, the user `admin`. Idempotent.
set -euo pipefail
export AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING # a new database would log a thousand lines

logins=() # a file is absent if .env sets its own login
for login in reader:delaywatch_reader:reader_password labeller:delaywatch_feedback:feedback_password; do
    IFS=: read -r option name file <<<"$login"
    [ ! -e "/run/delaywatch/$file" ] || logins+=("--$option" "$name" "--$option-password-file" "/run/delaywatch/$file")
done
python -m utils prepare "${logins[@]}"
airflow db migrate
python /opt/delaywatch/stack/airflow/admin.py
