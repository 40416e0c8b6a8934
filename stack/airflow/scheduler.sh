#!/usr/bin/env bash
# Start the scheduler when the api-server answers. A task that starts earlier fails and uses up a try. `depends_on` would
# order the first start only: after a reboot Docker starts all containers at once.
set -euo pipefail

api=${AIRFLOW__CORE__EXECUTION_API_SERVER_URL%/execution/}/api/v2/monitor/health
until curl --silent --fail --max-time 5 --output /dev/null "$api"; do
    sleep 1
done
exec airflow scheduler
