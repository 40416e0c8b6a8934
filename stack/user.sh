#!/usr/bin/env bash
# Create an account in Superset and Airflow, give it another role and a new password, or disable it: `user.sh NAME ROLE`.
# Superset's login also opens the pages at /flights/. The password is generated and shown once. It reaches the containers
# on stdin, so that no process list or `docker inspect` shows it.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "$1" >&2
    exit 1
}

name=${1:-} role=${2:-}
[[ $name =~ ^[a-z][a-z0-9._-]{1,31}$ ]] ||
    fail "NAME must have 2 to 32 characters: small letters, digits, . _ and -, with a letter first. Run: make user NAME=ann ROLE=analyst"
[ "$name" != admin ] || fail "The account admin is that of make password; change it with make reset-password."
case $role in
analyst | admin | none) ;;
*) fail "ROLE must be analyst, admin, or none to disable the account." ;;
esac

password=
[ "$role" = none ] || password=$(LC_ALL=C tr -dc 'a-km-zA-HJ-NP-Z2-9' </dev/urandom | head -c 20 || true)
[ "$role" = none ] || [ "${#password}" = 20 ] || fail "No password could be generated from /dev/urandom; try again."
printf '%s\n' "$password" | docker compose run --rm --no-deps -T superset-init python /app/delaywatch/provision.py --user "$name" "$role"
printf '%s\n' "$password" | docker compose run --rm --no-deps -T airflow-init python /opt/delaywatch/stack/airflow/user.py "$name" "$role"
[ "$role" = none ] || cat <<END
User      $name, $role in Superset, Airflow and on the pages
Password  $password
It is shown only now. Give it to the person, who can change it in Superset and in Airflow.
END
