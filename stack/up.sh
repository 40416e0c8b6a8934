#!/usr/bin/env bash
# Builds and starts the stack, waits until every part is healthy, puts the demo year into a local lake and says where all
# is. What fails is told in one sentence and leaves a non-zero exit; the logs stay.
set -euo pipefail
cd -P "$(dirname "$0")/.."

ENGINE_SINCE=20.10 # the oldest that was tried
COMPOSE_SINCE=2.24.4 # several anchors merged by one key, scale: 0 under depends_on
PATIENCE_S=900 # until everything is healthy; a container that fails and restarts for ever ends it

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

# What setup and nginx read from this clone must be readable for containers, whatever umask it was cloned with.
check_clone() {
    local hidden
    hidden=$(find nginx stack/postgres ! -path 'nginx/certs/*' ! -perm -o=r -print -quit)
    [ -z "$hidden" ] || fail "$hidden is not readable for containers; run: chmod -R a+rX nginx stack/postgres"
}

# Print the last line of a container that failed or is unhealthy, and nothing if it is well. The health of a container that
# has ended says nothing: it stays as it was while the container ran.
complaint_of() { # complaint_of CONTAINER
    local state health code
    read -r state health code < <(
        docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.State.ExitCode}}' "$1"
    )
    if [ "$state" = exited ] && [ "$code" = 137 ]; then
        echo "it was killed, probably for lack of memory."
    elif [ "$state" = exited ] && [ "$code" != 0 ] || [ "$state" = restarting ]; then
        last_of docker logs --tail 20 "$1" || echo "it ended without a word (exit code $code)."
    elif [ "$state" = running ] && [[ "$health" =~ ^(unhealthy|starting)$ ]]; then
        last_of docker inspect --format '{{range .State.Health.Log}}{{println .Output}}{{end}}' "$1" ||
            echo "it does not become healthy, and its health check does not say why; see: docker logs $1"
    fi
}

last_of() { # last_of COMMAND...: the last line that it says
    "$@" 2>&1 | grep -v '^[[:space:]]*$' | tail -n 1 | grep .
}

explain() { # explain LOG: the cause of a failed start, the first that the others follow from
    local port service container complaint
    # Compose's own message repeats the value, which may be a secret.
    ! grep -qE 'failed to read .*\.env: ' "$1" ||
        fail ".env cannot be read: a quote is not closed, or a \$ stands outside single quotes. \`docker compose config --quiet\` shows where."
    port=$(sed -nE \
        -e 's/.*failed to bind host port (for )?[^ ]*[0-9]:([0-9]+)[:\/].*/\2/p' \
        -e 's/.*[^0-9]([0-9]+)(\/tcp)?: bind: address already in use.*/\1/p' \
        -e 's/.*Bind for [^ ]*:([0-9]+) failed.*/\1/p' "$1" | tail -n 1)
    [ -z "$port" ] || fail "port $port is taken by another program; stop that one, or choose another in .env (DELAYWATCH_HTTP_PORT, DELAYWATCH_HTTPS_PORT)."
    ! grep -q 'no space left on device' "$1" || fail "the disk is full; free some space (docker system df shows what Docker holds)."
    ! grep -q 'services.s3.scale' "$1" || fail "DELAYWATCH_LOCAL is neither 1 nor 0."
    ! grep -qiE 'hostport|invalid ip|too many colons|services.nginx.ports' "$1" ||
        fail "DELAYWATCH_HTTP_PORT and DELAYWATCH_HTTPS_PORT must be numbers, DELAYWATCH_BIND an address of this machine, IPv6 in brackets."
    for service in setup postgres s3 nginx airflow-init airflow-apiserver airflow-scheduler airflow-dag-processor health superset-init superset; do
        for container in $(docker compose ps --all --quiet "$service" 2>/dev/null); do
            complaint=$(complaint_of "$container")
            [ -z "$complaint" ] || fail "$service: $complaint"
        done
    done
    fail "$(last_of cat "$1")"
}

# The names of the secrets that have a new value beside the old one (stack/rotation.py).
rotating() {
    docker compose exec -T postgres cat /run/delaywatch/rotating 2>/dev/null || true # Postgres is not running: nobody is
}

# A running program holds the old values and would be unhealthy before it is restarted.
begin_rotation() {
    local names stay='postgres|nginx' services
    names=$(rotating)
    [ -n "$names" ] || return 0
    grep -q '^s3_' <<<"$names" || stay="$stay|s3"
    services=$(docker compose --profile '*' ps --services --status running | grep -vxE "$stay" || true)
    # shellcheck disable=SC2086
    [ -z "$services" ] || docker compose --profile '*' stop $services
    ! grep -qx jupyter <<<"$services" || has_notebooks=yes
    docker compose run --rm --no-deps -T setup || fail "the rotation of secrets cannot go on; the sentence above says why."
    docker compose exec -T postgres /opt/delaywatch/health.sh >&2 || fail "Postgres has not taken the new passwords; the sentence above says why."
}

# Everything runs with the new values; what was encrypted with an old one is encrypted anew before that one is dropped.
finish_rotation() {
    local names said
    names=$(rotating)
    [ -n "$names" ] || return 0
    [ -z "${has_notebooks:-}" ] || docker compose --profile notebooks up --detach --wait --no-deps --no-recreate jupyter
    if grep -qx fernet_key <<<"$names"; then
        said=$(docker compose run --rm --no-deps -T airflow-init airflow rotate-fernet-key 2>&1) ||
            unfinished "Airflow did not encrypt its connections and variables anew (${said##*$'\n'})"
    fi
    if grep -qx superset_secret_key <<<"$names"; then
        docker compose run --rm --no-deps -T superset-init python /app/delaywatch/provision.py --reencrypt ||
            unfinished "Superset did not encrypt its passwords anew"
    fi
    if grep -qx admin_password <<<"$names"; then
        docker compose run --rm --no-deps -T airflow-init python /opt/delaywatch/stack/airflow/admin.py --reset-password ||
            unfinished "Airflow did not take the new password of admin"
        docker compose run --rm --no-deps -T superset-init python /app/delaywatch/provision.py --reset-password ||
            unfinished "Superset did not take the new password of admin"
    fi
    docker compose run --rm --no-deps -T setup python -m stack rotate --finish || unfinished "the old values were not dropped"
}

unfinished() {
    echo "Delaywatch runs with the new secrets, but $1. The old ones are kept; mend that, then \`make up\` goes on." >&2
    exit 1
}

start() {
    local log
    log=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$log'" EXIT
    docker compose build --quiet 2>"$log" || explain "$log"
    begin_rotation
    docker compose up --detach --wait --wait-timeout "$PATIENCE_S" --quiet-pull 2>&1 | tee "$log" >&2 || explain "$log"
}

# Not `up --no-deps --force-recreate`: Compose 2.26 takes the same service without its dependencies for another one, so the
# next plain `up` would make it anew once more, and tasks of Airflow would be cut off.
restart() { # restart SERVICE...
    docker compose --profile '*' restart --no-deps "$@"
    docker compose --profile '*' up --detach --wait --wait-timeout "$PATIENCE_S" --no-deps --no-recreate "$@"
}

# A program reads its files at its start; what setup has handed over since then is new to it.
restart_the_outdated() {
    local service container started outdated=()
    for service in airflow-apiserver airflow-scheduler airflow-dag-processor health superset jupyter; do
        container=$(docker compose --profile '*' ps --quiet --status running "$service")
        [ -n "$container" ] || continue
        started=$(docker inspect --format '{{.State.StartedAt}}' "$container")
        [ -z "$(docker exec "$container" find /run/delaywatch -type f ! -name backup.json -newermt "$started")" ] || outdated+=("$service")
    done
    [ "${#outdated[@]}" = 0 ] || restart "${outdated[@]}"
}

refresh_edge() { # certificate and includes may be new; an editor or git may have replaced nginx.conf, which is a mount of its own
    docker compose exec -T nginx cat /etc/nginx/nginx.conf | cmp -s - nginx/nginx.conf || restart nginx
    docker compose exec -T nginx nginx -s reload 2>/dev/null ||
        fail "nginx does not take its configuration: \`docker compose exec nginx nginx -t\` says why."
}

# Only into a lake of the stack's own, and only while that has no year at all.
load_demo_year() {
    [ "$(docker compose run --rm --no-deps -T setup python -m stack lake)" = local ] || return 0
    docker compose exec -T airflow-scheduler python /opt/delaywatch/stack/airflow/demo_year.py ||
        fail "the demo year could not be put into the lake; the sentence above says why."
}

check_docker
check_clone
start
finish_rotation
restart_the_outdated
refresh_edge
load_demo_year
url=$(docker compose exec -T airflow-apiserver printenv AIRFLOW__API__BASE_URL)
url=${url%/airflow}
cat <<END
Delaywatch is up.
  Dashboards  $url/          (Superset)
  Runs        $url/airflow/  (Airflow; trigger flight_anomalies with a year of the lake: make status)
  User        admin; \`make password\` shows the password.
END
stack/backup-timer.sh
