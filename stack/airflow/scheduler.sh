#!/usr/bin/env bash
# Start the scheduler when the API for tasks answers. A task that starts earlier fails and uses up a try. `depends_on`
# would order only the first start: after a reboot Docker starts all containers at once. On a busy host the api-server
# needs more than the 5 s that a task waits for its first answer.
set -euo pipefail

until curl --silent --fail --max-time 30 --output /dev/null "${AIRFLOW__CORE__EXECUTION_API_SERVER_URL}health"; do
    sleep 1
done
exec airflow scheduler
