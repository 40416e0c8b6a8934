#!/usr/bin/env bash
# New values for generated secrets: rotate.sh NAME..., or all; without a name it lists them. The stack restarts with the
# new ones, and the old ones are dropped when all that was made with them has taken the new ones. `make up` goes on with
# one that was interrupted. infra-notes/secrets.md says what each is.
set -euo pipefail
cd -P "$(dirname "$0")/.."

docker compose run --rm --no-deps -T setup python -m stack rotate "$@"
[ $# = 0 ] || exec stack/up.sh
