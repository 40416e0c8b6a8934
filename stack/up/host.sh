# shellcheck shell=bash
# First steps of up.sh: check that this host can run the stack.

ENGINE_SINCE=20.10 # the oldest tested release
COMPOSE_SINCE=2.24.4 # first release with several anchors merged by one key and scale: 0 under depends_on

is_older() { # is_older VERSION THAN
    [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

check_docker() {
    command -v docker >/dev/null || fail "the command docker is missing; install Docker Engine $ENGINE_SINCE or newer with its compose plugin."
    local engine compose
    engine=$(docker version --format '{{.Server.Version}}' 2>&1) ||
        fail "Docker Engine does not answer (${engine##*$'\n'}); start it, or add your user to the group docker."
    ! is_older "$engine" "$ENGINE_SINCE" || fail "Docker Engine is $engine; upgrade it to $ENGINE_SINCE or newer."
    compose=$(docker compose version --short 2>/dev/null) ||
        fail "Docker has no compose plugin; install Docker Compose $COMPOSE_SINCE or newer."
    compose=${compose#v}
    ! is_older "${compose%%[-+]*}" "$COMPOSE_SINCE" || fail "Docker Compose is $compose; upgrade it to $COMPOSE_SINCE or newer."
}

# Containers must be able to read the files that setup and nginx use from this clone, whatever the umask.
check_clone() {
    local hidden
    hidden=$(find nginx stack/postgres ! -path 'nginx/certs/*' ! -perm -o=r -print -quit)
    [ -z "$hidden" ] || fail "$hidden cannot be read by containers; run: chmod -R a+rX nginx stack/postgres"
}
