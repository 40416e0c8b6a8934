#!/usr/bin/env bash
# Builds and starts the stack, waits until every part is healthy, puts the demo year into a local lake and says where all
# is. What fails is told in one sentence and leaves a non-zero exit; the logs stay.
set -euo pipefail
cd "$(dirname "$0")/.."

ENGINE_SINCE=20.10 # the oldest that was tried
COMPOSE_SINCE=2.24.4 # several anchors merged by one key, scale: 0 under depends_on

fail() {
    printf 'Delaywatch is not up: %s\n' "$*" >&2
    exit 1
}

is_older() { # is_older VERSION THAN
    [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

check_docker() {
    command -v docker >/dev/null || fail "there is no docker; install Docker Engine $ENGINE_SINCE or newer with its compose plugin."
    local engine compose
    engine=$(docker version --format '{{.Server.Version}}' 2>&1) ||
        fail "no Docker engine answers (${engine##*$'\n'}); start it, or join the group docker."
    ! is_older "$engine" "$ENGINE_SINCE" || fail "Docker Engine is $engine; upgrade it to $ENGINE_SINCE or newer."
    compose=$(docker compose version --short 2>/dev/null) ||
        fail "docker has no compose plugin; install Docker Compose $COMPOSE_SINCE or newer."
    compose=${compose#v}
    ! is_older "${compose%%[-+]*}" "$COMPOSE_SINCE" || fail "Docker Compose is $compose; upgrade it to $COMPOSE_SINCE or newer."
}

# The last words of a container that ended or is sick, in one line; empty when all is well with it.
complaint_of() { # complaint_of CONTAINER
    local state health code
    read -r state health code < <(
        docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.State.ExitCode}}' "$1"
    )
    if [ "$state" = exited ] && [ "$code" != 0 ] || [ "$state" = restarting ]; then
        docker logs --tail 20 "$1" 2>&1 | grep -v '^[[:space:]]*$' | tail -n 1
        [ "$code" != 137 ] || echo "It was killed, probably for lack of memory."
    elif [ "$health" = unhealthy ]; then
        docker inspect --format '{{range .State.Health.Log}}{{println .Output}}{{end}}' "$1" | grep -v '^[[:space:]]*$' | tail -n 1
    fi
}

explain() { # explain LOG: the cause of a failed start
    local port container complaint
    port=$(sed -nE 's/.*[^0-9]([0-9]+)(\/tcp)?: bind: address already in use.*/\1/p; s/.*Bind for [^ ]*:([0-9]+) failed.*/\1/p' "$1" | tail -n 1)
    [ -z "$port" ] || fail "port $port is taken by another program; stop that one, or choose another in .env (DELAYWATCH_HTTP_PORT, DELAYWATCH_HTTPS_PORT)."
    ! grep -q 'no space left on device' "$1" || fail "the disk is full; free some space (docker system df shows what Docker holds)."
    for container in $(docker compose --profile '*' ps --all --quiet); do
        complaint=$(complaint_of "$container")
        [ -z "$complaint" ] ||
            fail "$(docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}}' "$container"): $complaint"
    done
    fail "$(grep -v '^[[:space:]]*$' "$1" | tail -n 1)"
}

start() {
    local log
    log=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$log'" EXIT
    docker compose build --quiet 2>"$log" || explain "$log"
    docker compose up --detach --wait --quiet-pull 2>&1 | tee "$log" >&2 || explain "$log"
}

reload_edge() { # a certificate or a setting may be new
    docker compose exec -T nginx nginx -s reload 2>/dev/null || fail "nginx does not take its configuration: \`docker compose exec nginx nginx -t\` says why."
}

load_demo_year() {
    [ -n "$(docker compose ps --quiet s3)" ] || return 0 # an own lake gets its owner's files alone
    local run=(docker compose exec -T airflow-scheduler python -m utils bronze --year 2013)
    "${run[@]}" >/dev/null 2>&1 || "${run[@]}" --from /opt/delaywatch/2013.csv.gz >/dev/null ||
        fail "the demo year could not be put into the lake; the sentence above says why."
}

check_docker
start
reload_edge
load_demo_year
url=$(docker compose exec -T airflow-apiserver printenv AIRFLOW__API__BASE_URL)
url=${url%/airflow}
cat <<END
Delaywatch is up.
  Dashboards  $url/          (Superset)
  Runs        $url/airflow/  (Airflow; trigger flight_anomalies with a year, the demo's is 2013)
  User        admin; \`make password\` shows the password.
END
