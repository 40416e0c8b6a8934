#!/usr/bin/env bash
# Prepare Airflow's start: lake and warehouse, Airflow's own tables, the user `admin`. Idempotent.
set -euo pipefail
export AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING # a new database would log a thousand lines

reader=/run/delaywatch/reader_password # absent if .env sets its own reader
if [ -e "$reader" ]; then
    python -m utils prepare --reader delaywatch_reader --reader-password-file "$reader"
else
    python -m utils prepare
fi
airflow db migrate
python /opt/delaywatch/stack/airflow/admin.py
