#!/usr/bin/env bash
# Write one file to backups/ with everything that cannot be created again: secrets, roles, the three databases and a local
# lake: backup.sh [PREFIX OF ITS NAME]. The stack keeps running; a DAG run that is in progress must be repeated after a
# restore. Not included: an external lake or warehouse, .env, your own certificates, task logs. The file contains every
# secret: protect it like a password.
set -euo pipefail
cd -P "$(dirname "$0")/.."
umask 077

fail() {
    printf 'Backup failed: %s\n' "$*" >&2
    exit 1
}

running() { # running SERVICE
    [ -n "$(docker compose ps --quiet --status running "$1" 2>/dev/null)" ]
}

in_postgres() {
    docker compose exec -T postgres "$@"
}

running postgres || fail "Postgres is not running; start the stack with \`make up\`."
mkdir -p backups
name=${1:-delaywatch}-$(date -u +%Y%m%dT%H%M%SZ)
work=backups/.$name
mkdir "$work"
trap 'rm -rf "$work"' EXIT

docker compose run --rm --no-deps -T setup python -m stack export >"$work/secrets.tar" || fail "the secrets could not be read; the line above, or backups/daily.log, has the reason."
in_postgres pg_dumpall --username=postgres --roles-only >"$work/roles.sql" || fail "the roles of Postgres could not be read; the line above, or backups/daily.log, has the reason."
for database in airflow superset warehouse; do
    in_postgres pg_dump --username=postgres --format=custom "$database" >"$work/$database.dump" ||
        fail "the database $database could not be dumped; check whether the disk of backups/ is full."
done
lake=$(docker compose run --rm --no-deps -T setup python -m stack lake) || fail "the place of the lake could not be read; the line above, or backups/daily.log, has the reason."
if [ "$lake" = local ]; then
    running s3 || fail "the object store is not running, so the lake cannot be read; start it with \`make up\`."
    docker compose run --rm --no-deps -T airflow-scheduler python -m stack.objects save >"$work/lake.tar" ||
        fail "the objects of the lake could not be read; check whether the disk of backups/ is full."
fi
docker compose run --rm --no-deps -T setup python -m stack export | cmp -s - "$work/secrets.tar" ||
    fail "the secrets were rotated during the backup; repeat it when \`make rotate\` has finished."
echo "$lake" >"$work/lake"
(cd "$work" && sha256sum -- * >SHA256SUMS) || fail "the disk of backups/ is full; free some space."
tar --create --file="$work.tar" --directory="$work" . || { rm -f "$work.tar"; fail "the disk of backups/ is full; free some space."; }
mv "$work.tar" "backups/$name.tar"
docker compose run --rm --no-deps -T setup python -m stack backup made "$name.tar" ||
    echo "Note: backups/$name.tar is complete, but could not be recorded for \`make health\`." >&2
echo "backups/$name.tar ($(du -h "backups/$name.tar" | cut -f 1)); it contains every secret.$([ "$lake" = local ] || echo " It does not contain the lake, which is outside the stack.") To restore it: make restore FROM=backups/$name.tar"
