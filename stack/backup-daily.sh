#!/usr/bin/env bash
# The daily backup: creates one with stack/backup.sh, copies it to DELAYWATCH_BACKUP and keeps the newest 7 in both places.
# cron runs this every hour (stack/backup-timer.sh), so a backup is retried soon after a failed copy or when the host was
# off. It does nothing if the last copy is less than a day old, unless it is called with --now.
set -euo pipefail
cd -P "$(dirname "$0")/.."
umask 077

KEPT=7
DAY_MINUTES=1410 # half an hour less than a day, so that the backup runs at the same hour every day
COPIED=backups/.copied # its mtime is the time of the last good copy, its content the destination

fail() { # fail REASON: `make health` shows the reason too. Older backups stay.
    printf '%s Backup failed: %s\n' "$(date -u +%FT%TZ)" "$*" >&2
    # If this fails, the message above is in the log.
    docker compose run --rm --no-deps -T setup python -m stack backup failed "$*" || true
    exit 1
}

is_recent() { # is_recent FILE
    [ -n "$(find "$1" -maxdepth 0 -mmin "-$DAY_MINUTES" 2>/dev/null)" ]
}

daily_backups() { # daily_backups FOLDER: newest first
    find "$1" -maxdepth 1 -type f -name 'daily-[0-9]*T[0-9]*Z.tar' | sort -r
}

remove_old() { # remove_old FOLDER
    local path
    daily_backups "$1" | tail -n "+$((KEPT + 1))" | while read -r path; do rm -f "$path"; done
}

copy_to_folder() { # copy_to_folder FILE FOLDER
    local copy part
    [ -d "$2" ] || fail "the folder $2 does not exist; mount it or create it."
    [ ! "$2" -ef backups ] || fail "DELAYWATCH_BACKUP is the folder backups/ itself; set it to a folder on another disk or host."
    copy=$2/$(basename "$1")
    part=$2/.$(basename "$1").part
    { cp "$1" "$part" && sync "$part" && cmp -s "$1" "$part" && mv "$part" "$copy"; } || {
        rm -f "$part"
        fail "$(basename "$1") could not be copied to $2; check whether its disk is full or read-only."
    }
    remove_old "$2"
}

copy_to_bucket() { # copy_to_bucket FILE
    local output
    output=$(docker compose run --rm --no-deps -T backup python -m stack.offsite "/backups/$(basename "$1")" "$KEPT" 2>&1) ||
        fail "${output##*$'\n'}"
    [ -z "$output" ] || printf '%s\n' "$output" >&2
}

is_asked=""
[ "${1:-}" != --now ] || is_asked=yes
if [ -z "$(docker compose ps --quiet --status running postgres 2>/dev/null)" ]; then
    [ -n "$is_asked" ] || exit 0 # a stack that was stopped on purpose is not a failure
    echo "Backup failed: Postgres is not running; start the stack with \`make up\`." >&2
    exit 1
fi
[ -n "$is_asked" ] || ! is_recent "$COPIED" || exit 0
place=$(docker compose run --rm --no-deps -T setup python -m stack backup place) || fail "setup could not read the settings; the line above, or backups/daily.log, has the reason."
[ -n "$place" ] || {
    echo "DELAYWATCH_BACKUP in .env is empty, so the daily backup is off. Set it, or run \`make backup\`, which writes to backups/." >&2
    exit 0
}
mkdir -p backups
exec 9>backups/.lock
flock --nonblock 9 || {
    echo "Another daily backup is running." >&2
    exit 0
}

started=$(mktemp backups/.started-XXXXXX)
trap 'rm -f "$started"' EXIT
file=$(daily_backups backups | head -n 1)
if [ -z "$file" ] || [ -n "$is_asked" ] || ! is_recent "$file"; then # otherwise retry the failed copy
    output=$(stack/backup.sh daily 2>&1) || { output=${output##*$'\n'} && fail "${output#Backup failed: }"; }
    file=$(daily_backups backups | head -n 1)
    remove_old backups
fi
case $place in
    s3://*) copy_to_bucket "$file" ;;
    *) copy_to_folder "$file" "$place" ;;
esac
echo "$place" >"$started"
touch -r "$file" "$started"
mv "$started" "$COPIED"
docker compose run --rm --no-deps -T setup python -m stack backup copied "$(basename "$file")"
echo "$(date -u +%FT%TZ) $(basename "$file") was copied to $place. It contains every secret: make sure that only you can read it."
