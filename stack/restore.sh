#!/usr/bin/env bash
# Restore the stack from a backup on a host without one: restore.sh FILE. The whole file is checked before anything is
# written.
set -euo pipefail
cd -P "$(dirname "$0")/.."
umask 077

fail() {
    printf 'Restore failed: %s\n' "$*" >&2
    exit 1
}

in_postgres() {
    docker compose exec -T postgres "$@"
}

from=${1:-}
[ -n "$from" ] || fail "the file is not given; run make restore FROM=backups/delaywatch-....tar"
[ -f "$from" ] || fail "$from is not a file; choose one of backups/: $(cd backups 2>/dev/null && echo *.tar || echo none)"
project=$(docker compose config --format json | sed -n 's/^  "name": "\(.*\)",$/\1/p')
for volume in secrets postgres s3; do
    ! docker volume inspect "${project}_$volume" >/dev/null 2>&1 ||
        fail "the volume ${project}_$volume exists on this host; save its data with \`make backup\` if you need it, then remove it with \`make destroy CONFIRM=yes\`."
done

work=$(mktemp -d "$(dirname "$from")/.restore-XXXXXX") || fail "the backup cannot be unpacked in $(dirname "$from"); make that folder writable."
trap 'rm -rf "$work"' EXIT
output=$(tar --extract --file="$from" --directory="$work" 2>&1) || fail "$from cannot be unpacked (${output%%$'\n'*}); use another backup."
(cd "$work" && sha256sum --quiet --check SHA256SUMS >/dev/null 2>&1) || fail "$from is damaged: a checksum does not match; use another backup."

wrong_form() { # the setup that checked the file has created empty volumes
    docker compose down --volumes >/dev/null 2>&1
    fail "$@"
}

docker compose build --quiet
lake=$(docker compose run --rm --no-deps -T setup python -m stack lake) || wrong_form "see the line above."
[ "$lake" != local ] || [ -e "$work/lake.tar" ] || wrong_form "the lake of this backup is $(cat "$work/lake"); set DELAYWATCH_LAKE in .env to it."
[ "$lake" = local ] || [ ! -e "$work/lake.tar" ] || wrong_form "this backup contains a lake, but DELAYWATCH_LAKE in .env is $lake; leave it empty."

half() {
    fail "$* The stack is only partly restored; remove it with \`make destroy CONFIRM=yes\` and try again."
}

docker compose run --rm --no-deps -T setup python -m stack import <"$work/secrets.tar" || half "The secrets could not be written."
services=(postgres)
[ ! -e "$work/lake.tar" ] || services+=(s3)
docker compose up --detach --wait --quiet-pull "${services[@]}" || half "Postgres or the object store did not start."
# The logins of the new server exist already; create the others, then set permissions and passwords of all.
# shellcheck disable=SC2016 # the dollars are Postgres' quotes
sed -E 's/^CREATE ROLE (.+);$/DO $role$ BEGIN CREATE ROLE \1; EXCEPTION WHEN duplicate_object THEN NULL; END $role$;/' "$work/roles.sql" |
    in_postgres psql --username=postgres --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --output=/dev/null || half "The roles could not be created."
for database in airflow superset warehouse; do
    in_postgres pg_restore --username=postgres --dbname="$database" --exit-on-error --single-transaction <"$work/$database.dump" ||
        half "The database $database could not be restored."
done
if [ -e "$work/lake.tar" ]; then
    docker compose run --rm --no-deps -T airflow-scheduler python -m stack.objects load <"$work/lake.tar" || half "The lake could not be restored."
fi
stack/up.sh
