# shellcheck shell=bash
# Error messages of up.sh and restore.sh: the one container or setting that caused the other failures.

fail() {
    printf 'Delaywatch is not up: %s\n' "$*" >&2
    exit 1
}

# Print the last line of a container that failed or is unhealthy, and nothing if it is healthy. The health of a stopped
# container is ignored: it keeps the value from when the container ran.
complaint_of() { # complaint_of CONTAINER
    local state health code
    read -r state health code < <(
        docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.State.ExitCode}}' "$1"
    )
    if [ "$state" = exited ] && [ "$code" = 137 ]; then
        echo "it was killed, probably because the memory ran out."
    elif [ "$state" = exited ] && [ "$code" != 0 ] || [ "$state" = restarting ]; then
        last_of docker logs --tail 20 "$1" || echo "it ended with exit code $code and without a message; see: docker logs $1"
    elif [ "$state" = running ] && [[ "$health" =~ ^(unhealthy|starting)$ ]]; then
        last_of docker inspect --format '{{range .State.Health.Log}}{{println .Output}}{{end}}' "$1" ||
            echo "it does not become healthy, and its health check has no output; see: docker logs $1"
    fi
}

last_of() { # last_of COMMAND...: print the last line of its output
    "$@" 2>&1 | grep -v '^[[:space:]]*$' | tail -n 1 | grep .
}

explain() { # explain LOG: print the first cause of a failed start
    local port service container complaint
    # Compose's own message contains the value, which may be a secret.
    ! grep -qE 'failed to read .*\.env: ' "$1" ||
        fail ".env cannot be read: a quote is not closed, or a \$ is outside single quotes; \`docker compose config --quiet\` shows the line."
    port=$(sed -nE \
        -e 's/.*failed to bind host port (for )?[^ ]*[0-9]:([0-9]+)[:\/].*/\2/p' \
        -e 's/.*[^0-9]([0-9]+)(\/tcp)?: bind: address already in use.*/\1/p' \
        -e 's/.*Bind for [^ ]*:([0-9]+) failed.*/\1/p' "$1" | tail -n 1)
    [ -z "$port" ] || fail "port $port is taken by another program; stop it, or set another port in .env (DELAYWATCH_HTTP_PORT, DELAYWATCH_HTTPS_PORT)."
    ! grep -q 'no space left on device' "$1" || fail "the disk is full; free some space (docker system df shows what Docker uses)."
    ! grep -q 'services.s3.scale' "$1" || fail "DELAYWATCH_LOCAL must be 1 or 0."
    ! grep -qiE 'hostport|invalid ip|too many colons|services.nginx.ports' "$1" ||
        fail "DELAYWATCH_HTTP_PORT and DELAYWATCH_HTTPS_PORT must be numbers, and DELAYWATCH_BIND an address of this machine, IPv6 in brackets."
    for service in setup postgres s3 nginx airflow-init airflow-apiserver airflow-scheduler airflow-dag-processor health superset-init superset site; do
        for container in $(docker compose ps --all --quiet "$service" 2>/dev/null); do
            complaint=$(complaint_of "$container")
            [ -z "$complaint" ] || fail "$service: $complaint"
        done
    done
    fail "$(last_of cat "$1")"
}
