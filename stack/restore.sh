#!/usr/bin/env bash
# Restore the stack from a backup on a host without one: restore.sh FILE. The whole file is checked before anything is
# written.
set -euo pipefail
cd -P "$(dirname "$0")/.."
umask 077

fail() {
    printf 'Not restored: %s\n' "$*" >&2
    exit 1
}

in_postgres() {
    docker compose exec -T postgres "$@"
}

from=${1:-}
[ -n "$from" ] || fail "name the backup: make restore FROM=backups/delaywatch-....tar"
[ -f "$from" ] || fail "$from is not a file; backups/ holds: $(cd backups 2>/dev/null && echo *.tar || echo nothing)"
project=$(docker compose config --format json | sed -n 's/^  "name": "\(.*\)",$/\1/p')
for volume in secrets postgres s3; do
    ! docker volume inspect "${project}_$volume" >/dev/null 2>&1 ||
        fail "this host has the volume ${project}_$volume already; \`make backup\` keeps what is there, \`make destroy\` removes it."
done

work=$(mktemp -d "$(dirname "$from")/.restore-XXXXXX") || fail "$(dirname "$from") cannot be written; the backup is unpacked there."
trap 'rm -rf "$work"' EXIT
said=$(tar --extract --file="$from" --directory="$work" 2>&1) || fail "$from cannot be unpacked: ${said%%$'\n'*}"
(cd "$work" && sha256sum --quiet --check SHA256SUMS >/dev/null 2>&1) || fail "$from is damaged: a checksum in it does not fit."

wrong_form() { # the setup that checked the file has created empty volumes
    docker compose down --volumes >/dev/null 2>&1
    fail "$@"
}

docker compose build --quiet
lake=$(docker compose run --rm --no-deps -T setup python -m stack lake) || wrong_form "the sentence above says why."
[ "$lake" != local ] || [ -e "$work/lake.tar" ] || wrong_form "the lake of this backup was $(cat "$work/lake"); set DELAYWATCH_LAKE in .env to it."
[ "$lake" = local ] || [ ! -e "$work/lake.tar" ] || wrong_form "this backup holds a lake, but DELAYWATCH_LAKE in .env names $lake; leave it empty."

half() {
    fail "$* What was restored so far is incomplete: \`make destroy\` removes it, then try again."
}

docker compose run --rm --no-deps -T setup python -m stack import <"$work/secrets.tar" || half "The secrets could not be written."
services=(postgres)
[ ! -e "$work/lake.tar" ] || services+=(s3)
docker compose up --detach --wait --quiet-pull "${services[@]}" || half "Postgres or the object store did not start."
# The logins of the new server exist already; create the others, then set permissions and passwords of all.
# shellcheck disable=SC2016 # the dollars are Postgres' quotes
sed -E 's/^CREATE ROLE (.+);$/DO $role$ BEGIN CREATE ROLE \1; EXCEPTION WHEN duplicate_object THEN NULL; END $role$;/' "$work/roles.sql" |
    in_postgres psql --username=postgres --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --output=/dev/null || half "The roles could not be made."
for database in airflow superset warehouse; do
    in_postgres pg_restore --username=postgres --dbname="$database" --exit-on-error --single-transaction <"$work/$database.dump" ||
        half "The database $database could not be filled."
done
if [ -e "$work/lake.tar" ]; then
    docker compose run --rm --no-deps -T airflow-scheduler python -m stack.objects load <"$work/lake.tar" || half "The lake could not be filled."
fi
stack/up.sh
