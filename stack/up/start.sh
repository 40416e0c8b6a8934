# shellcheck shell=bash
# Steps of up.sh that start containers, and restart those with outdated files.

TIMEOUT_S=900 # timeout until everything is healthy; also ends a container that restarts for ever

build_images() {
    log=$(mktemp) # output of the last Docker command; explain reads it
    trap 'rm -f "$log"' EXIT
    docker compose build --quiet 2>"$log" || explain "$log"
}

start_containers() {
    docker compose up --detach --wait --wait-timeout "$TIMEOUT_S" --quiet-pull 2>&1 | tee "$log" >&2 || explain "$log"
}

# Not `up --no-deps --force-recreate`: Compose 2.26 treats a service without its dependencies as changed, so the next
# plain `up` would recreate it again and interrupt Airflow's tasks.
restart() { # restart SERVICE...
    docker compose --profile '*' restart --no-deps "$@"
    docker compose --profile '*' up --detach --wait --wait-timeout "$TIMEOUT_S" --no-deps --no-recreate "$@"
}

# A program reads its files at its start, so restart it if setup has changed them since then.
restart_outdated() {
    local service container started outdated=()
    for service in airflow-apiserver airflow-scheduler airflow-dag-processor health site superset jupyter; do
        container=$(docker compose --profile '*' ps --quiet --status running "$service")
        [ -n "$container" ] || continue
        started=$(docker inspect --format '{{.State.StartedAt}}' "$container")
        [ -z "$(docker exec "$container" find /run/delaywatch -type f ! -name backup.json -newermt "$started")" ] || outdated+=("$service")
    done
    [ "${#outdated[@]}" = 0 ] || restart "${outdated[@]}"
}

# Certificate and includes may be new. An editor or git may have replaced nginx.conf, which is a bind mount of one file.
reload_nginx() {
    docker compose exec -T nginx cat /etc/nginx/nginx.conf | cmp -s - nginx/nginx.conf || restart nginx
    docker compose exec -T nginx nginx -s reload 2>/dev/null ||
        fail "nginx rejects its configuration; run \`docker compose exec nginx nginx -t\` to see why."
}
