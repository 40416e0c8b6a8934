# shellcheck shell=bash
# Steps of up.sh that start containers, and restart those that hold older files.

PATIENCE_S=900 # until everything is healthy; a container that fails and restarts for ever ends it

build_images() {
    log=$(mktemp) # of the last command of Docker; explain reads it
    trap 'rm -f "$log"' EXIT
    docker compose build --quiet 2>"$log" || explain "$log"
}

start_containers() {
    docker compose up --detach --wait --wait-timeout "$PATIENCE_S" --quiet-pull 2>&1 | tee "$log" >&2 || explain "$log"
}

# Not `up --no-deps --force-recreate`: Compose 2.26 takes the same service without its dependencies for another one, so the
# next plain `up` would make it anew once more, and tasks of Airflow would be cut off.
restart() { # restart SERVICE...
    docker compose --profile '*' restart --no-deps "$@"
    docker compose --profile '*' up --detach --wait --wait-timeout "$PATIENCE_S" --no-deps --no-recreate "$@"
}

# A program reads its files at its start; what setup has handed over since then is new to it.
restart_outdated() {
    local service container started outdated=()
    for service in airflow-apiserver airflow-scheduler airflow-dag-processor health superset jupyter; do
        container=$(docker compose --profile '*' ps --quiet --status running "$service")
        [ -n "$container" ] || continue
        started=$(docker inspect --format '{{.State.StartedAt}}' "$container")
        [ -z "$(docker exec "$container" find /run/delaywatch -type f ! -name backup.json -newermt "$started")" ] || outdated+=("$service")
    done
    [ "${#outdated[@]}" = 0 ] || restart "${outdated[@]}"
}

# Certificate and includes may be new. An editor or git may have replaced nginx.conf, which is a mount of its own.
reload_nginx() {
    docker compose exec -T nginx cat /etc/nginx/nginx.conf | cmp -s - nginx/nginx.conf || restart nginx
    docker compose exec -T nginx nginx -s reload 2>/dev/null ||
        fail "nginx does not take its configuration: \`docker compose exec nginx nginx -t\` says why."
}
