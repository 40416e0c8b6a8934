#!/usr/bin/env bash
# Rotate generated secrets: rotate.sh NAME..., or all; without a name it lists them. The stack restarts with the new
# values; the old ones are deleted when all data and programs use the new ones. `make up` continues an interrupted
# rotation. infra-notes/secrets.md describes each secret.
set -euo pipefail
cd -P "$(dirname "$0")/.."

docker compose run --rm --no-deps -T setup python -m stack rotate "$@"
[ $# = 0 ] || exec stack/up.sh
