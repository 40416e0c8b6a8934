#!/usr/bin/env bash
# Run the end-to-end tests: `run.sh -m MARKERS PYTHON...` with the markers of pytest and the command that starts Python.
# Installs what the machine lacks and removes all containers and volumes of the tests in every case. Pictures, and the logs
# of a failure, are in the git-ignored folder .e2e.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$1" = -m ]
markers=$2
shift 2
start_engine=../shared/docker/start-engine.sh # for machines that reach no image registry
# Of this clone alone, so that what a killed run left is found again, and two clones do not meet.
export DELAYWATCH_E2E_PROJECT
DELAYWATCH_E2E_PROJECT=delaywatch-e2e-$(pwd -P | cksum | cut -d ' ' -f 1)
label=com.docker.compose.project

projects() { # ours that have left anything
    for kind in container volume network; do
        local all=()
        [ "$kind" != container ] || all=(--all)
        docker "$kind" ls "${all[@]}" --filter "label=$label" --format "{{.Label \"$label\"}}"
    done | sort -u | grep -E "^$DELAYWATCH_E2E_PROJECT(-|$)" || true
}

remove() {
    local project containers volumes networks
    for project in $(projects); do
        mapfile -t containers < <(docker ps --all --quiet --filter "label=$label=$project")
        [ "${#containers[@]}" = 0 ] || docker rm --force --volumes "${containers[@]}" >/dev/null
        mapfile -t volumes < <(docker volume ls --quiet --filter "label=$label=$project")
        [ "${#volumes[@]}" = 0 ] || docker volume rm "${volumes[@]}" >/dev/null
        mapfile -t networks < <(docker network ls --quiet --filter "label=$label=$project")
        [ "${#networks[@]}" = 0 ] || docker network rm "${networks[@]}" >/dev/null
    done
}

save_logs() {
    local project container
    for project in $(projects); do
        for container in $(docker ps --all --filter "label=$label=$project" --format '{{.Names}}'); do
            docker logs "$container" >".e2e/$container.log" 2>&1
        done
    done
    echo "Logs and pictures of the failure are in .e2e/." >&2
}

finish() {
    local code=$?
    trap - EXIT
    [ "$code" = 0 ] || save_logs
    remove
    rm -rf "$DELAYWATCH_E2E_FOLDER"
    exit "$code"
}

if ! docker version >/dev/null 2>&1; then
    if [ ! -x "$start_engine" ]; then
        echo "No Docker engine answers, so the end-to-end tests were left out; start one to run them." >&2
        exit 0
    fi
    "$start_engine"
fi

if ! command -v chromium >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "The end-to-end tests need Chromium as the command chromium; install it (Debian: apt-get install chromium)." >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
fi

rm -rf .e2e
mkdir .e2e
export DELAYWATCH_E2E_FOLDER
DELAYWATCH_E2E_FOLDER=$(mktemp -d)
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
remove
env "$@" -m pytest tests/e2e -m "$markers" -x -vv --tb=short --durations=0 --durations-min=1
