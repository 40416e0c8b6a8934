#!/usr/bin/env bash
# What must be there before Airflow starts: lake and warehouse, Airflow's own tables, the user `admin`. Twice changes nothing.
set -euo pipefail
export AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING # a new database is told of in a thousand lines otherwise

reader=/run/delaywatch/reader_password # absent when .env names a reader of its own
if [ -e "$reader" ]; then
    python -m utils prepare --reader delaywatch_reader --reader-password-file "$reader"
else
    python -m utils prepare
fi
airflow db migrate
python /opt/delaywatch/stack/airflow/admin.py
